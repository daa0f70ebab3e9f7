#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Takes out one guard at a time, and tells which attacks succeed.

All attacks of the programs that a guard's own are in are tried without it, so
that "no others" means something; of the two long programs only what is listed.

usage: attack.py plant TREE
       attack.py run KERNEL SELFTESTS TABLE [GUARDS]

An attack is a test of a selftest program: "identity.umask" is the test umask
of aio_identity's fixture identity. It succeeds where the test fails.
"""
import os
import re
import subprocess
import sys
import time

from guards import GUARDS, SWITCH

HERE = os.path.dirname(os.path.abspath(__file__))
KNOB = '/sys/kernel/debug/aio_thread/guard_off'
# The program of each fixture, and whether it is short enough to run as a whole.
PROGRAMS = {
    'identity': ('aio_identity', True),
    'charge': ('aio_charge', True),
    'seccomp': ('aio_seccomp', False),
    'limits': ('aio_limits', False),
    'charged': ('aio_limits', False),
    'lsm': ('aio_lsm', True),
}


def plant(tree):
    """Makes the guards switchable in a copy of the tree."""
    texts = {}
    missing = []

    def edit(path, old, new):
        if path not in texts:
            with open(os.path.join(tree, path), encoding='utf-8') as file:
                texts[path] = file.read()
        if texts[path].count(old) != 1:
            missing.append(f'{path}: {old.strip()!r}')
            return
        texts[path] = texts[path].replace(old, new)

    for change in SWITCH:
        edit(*change)
    for number, guard in enumerate(GUARDS, 1):
        for path, old, new in guard.edits:
            edit(path, old, new.replace('@G@', str(number)))
    if missing:
        sys.exit('harness/attack/guards.py does not fit the series any more:\n  ' +
                 '\n  '.join(missing))
    for path, text in texts.items():
        with open(os.path.join(tree, path), 'w', encoding='utf-8') as file:
            file.write(text)


def commands(number, attacks):
    """What the guest runs: the programs of some attacks, the long ones only as far as they matter."""
    lines = ['cp -r "$1" /tmp/attack; cd /tmp/attack', f'echo {number} > {KNOB}']
    fixtures = {attack.split('.')[0] for attack in attacks}
    for program in sorted({PROGRAMS[f][0] for f in fixtures if PROGRAMS[f][1]}):
        lines.append(f'./{program}')
    for attack in sorted(set(attacks)):
        fixture, test = attack.split('.')
        if not PROGRAMS[fixture][1]:
            lines.append(f'./{PROGRAMS[fixture][0]} -t {test}')
    lines.append('true')
    return '\n'.join(lines)


def guest(kernel, selftests, number, attacks, boot=''):
    """Boots, with one guard out, and gives the result of each attack: True where it succeeded."""
    log = f'{os.environ["ATTACK_LOGS"]}/attack-{number}{boot}.ktap'
    with open(log, 'w', encoding='utf-8') as out:
        run = subprocess.run([os.path.join(HERE, '..', 'uml-run.sh'), '-k', kernel,
                              '-t', '400' if number else '1500',
                              '-a', boot, '--',
                              'bash', '-c', commands(number, attacks), 'bash', selftests],
                             stdout=out, stderr=subprocess.STDOUT, check=False)
    with open(log, encoding='utf-8', errors='replace') as out:
        output = out.read()
    results = {}
    for match in re.finditer(r'^(not ok|ok) \d+ (\S+)(.*)$', output, re.M):
        parts = match[2].split('.')
        name = f'{parts[0]}.{parts[-1]}'
        if 'SKIP' in match[3]:
            results.setdefault(name, None)
        else:
            results[name] = bool(results.get(name)) or match[1] == 'not ok'
    died = '' if run.returncode in (0, 1) else f'the guest ended with code {run.returncode}'
    return results, died, output


def main():
    """See above."""
    if sys.argv[1] == 'plant':
        plant(sys.argv[2])
        return 0
    kernel, selftests, table = sys.argv[2:5]
    wanted = sys.argv[5].split(',') if len(sys.argv) > 5 and sys.argv[5] else None
    passed = failed = 0
    rows = []

    def verdict(good, text):
        nonlocal passed, failed
        passed, failed = passed + good, failed + (not good)
        print(f'{"ok    " if good else "FAILED"} {text}', flush=True)

    start = time.monotonic()
    base, died, out = guest(kernel, selftests, 0,
                            [a for g in GUARDS if not g.boot for a in g.attacks])
    for boot in sorted({g.boot for g in GUARDS if g.boot}):
        more, also, _ = guest(kernel, selftests, 0,
                              [a for g in GUARDS if g.boot == boot for a in g.attacks], boot)
        base.update(more)
        died = died or also
    wrong = sorted(name for name, succeeded in base.items() if succeeded)
    verdict(bool(base) and not wrong and not died,
            f'all guards there: {len(base)} attacks, none succeeds' +
            (f', but {", ".join(wrong)} {died}' if wrong or died else ''))
    if wrong or died or not base:
        print(out[-3000:])
    if not base:
        return 1
    for number, guard in enumerate(GUARDS, 1):
        if wanted and guard.name not in wanted:
            continue
        results, died, _ = guest(kernel, selftests, number, guard.attacks, guard.boot)
        # what cannot be tried here proves nothing
        expected = sorted(a for a in guard.attacks if base.get(a) is not None)
        skipped = sorted(set(guard.attacks) - set(expected))
        succeeded = sorted(name for name, gained in results.items() if gained)
        if guard.wide:
            good = bool(expected) and set(expected) <= set(succeeded)
        else:
            good = bool(expected) and succeeded == expected and not died
        text = f'without {guard.name}: {", ".join(succeeded) or "nothing"} {died}'.rstrip()
        if not good:
            text += f' (expected: {", ".join(expected) or "nothing"})'
        if skipped:
            text += f' (cannot be tried here: {", ".join(skipped)})'
        verdict(good, text)
        for attack in guard.attacks:
            with_guard = {True: 'succeeds', False: 'fails', None: 'skipped'}[base.get(attack)]
            without = {True: '**succeeds**', False: 'fails', None: 'skipped'}[results.get(attack)]
            rows.append((guard.row, guard.name, attack, with_guard, without))
    heads = ('what is carried', 'guard', 'attack', 'with the guard', 'without it')
    with open(table, 'w', encoding='utf-8') as file:
        for row in (heads, tuple('---' for _ in heads), *rows):
            file.write('| ' + ' | '.join(row) + ' |\n')
    with open(table, encoding='utf-8') as file:
        print(file.read())
    print(f'table: {table}; {time.monotonic() - start:.0f} s')
    print(f'{passed} passed, {failed} failed')
    return failed > 0


sys.exit(main())
