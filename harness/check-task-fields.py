#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: check-task-fields.py TREE

Compares struct task_struct and struct signal_struct of a kernel tree with the
table of what a worker of threaded AIO makes of each field. Says which fields
have no row, which rows have no field or an unknown word for how, and which
fields stand there twice; then exits with 1. So a new base makes somebody look.
"""

import csv
import re
import sys

TABLE = 'Documentation/filesystems/aio-thread-task.rst'
STRUCTS = {
    'task_struct': 'include/linux/sched.h',
    'signal_struct': 'include/linux/sched/signal.h',
}
HOW = {'carried', 'submitter', 'scope', 'worker', 'none', 'not carried'}


def body(text, name):
    """What stands between the braces of a structure's definition."""
    start = re.search(r'^struct ' + name + r' \{', text, re.M)
    if not start:
        sys.exit(f'no struct {name}')
    depth, i = 1, start.end()
    while depth:
        depth += {'{': 1, '}': -1}.get(text[i], 0)
        i += 1
    return text[start.end():i - 1]


def declarators(statement):
    """The names that a declaration without braces declares."""
    statement = re.sub(r'\b(randomized_struct_fields_start|randomized_struct_fields_end|'
                       r'__private|__rcu|__percpu|__user)\b', ' ', statement)
    # macros that take the name as an argument, as DECLARE_BITMAP(name, bits)
    macro = re.match(r'\s*DECLARE_\w+\(\s*(\w+)', statement)
    if macro:
        return [macro[1]]
    pointer = re.search(r'\(\s*\*\s*(\w+)\s*\)\s*\(', statement)
    if pointer:
        return [pointer[1]]
    names = []
    for part in statement.split(','):
        part = re.sub(r'\[[^]]*\]', '', part)
        part = re.sub(r':\s*\w+\s*$', ':', part).strip()
        name = re.search(r'(\w+)\s*:?$', part)
        # an unnamed bit field only aligns
        if name and not re.fullmatch(r'unsigned( int)?\s*:', part):
            names.append(name[1])
    return names


def fields(text):
    """Every field of a structure's body, in all branches of its #ifs."""
    text = re.sub(r'/\*.*?\*/', ' ', text, flags=re.S)
    text = re.sub(r'//[^\n]*', ' ', text)
    text = re.sub(r'^[ \t]*#[^\n]*(\\\n[^\n]*)*', ' ', text, flags=re.M)
    names, i, statement = [], 0, ''
    while i < len(text):
        if text[i] == '{':
            depth, start = 1, i + 1
            while depth:
                i += 1
                depth += {'{': 1, '}': -1}.get(text[i], 0)
            rest = text[i + 1:text.index(';', i)]
            if rest.strip():
                names += declarators('x ' + rest)
            else:
                names += fields(text[start:i])
            i = text.index(';', i)
            statement = ''
        elif text[i] == ';':
            names += declarators(statement)
            statement = ''
        else:
            statement += text[i]
        i += 1
    return names


def rows(text, name):
    """The rows of a structure's table: (fields, how)."""
    table = re.search(r'^\.\. csv-table:: struct ' + name + r'\n(.*?)(?=^\S|\Z)', text,
                      re.M | re.S)
    if not table:
        sys.exit(f'{TABLE}: no table of struct {name}')
    lines = [line.strip() for line in table[1].splitlines() if line.strip()]
    for row in csv.reader((line for line in lines if not line.startswith(':')),
                          skipinitialspace=True):
        if len(row) != 3 or not row[2].strip():
            sys.exit(f'{TABLE}: not three columns: {row}')
        yield re.findall(r'``(\w+)``', row[0]), row[1].strip()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.splitlines()[0])
    tree, wrong = sys.argv[1], []
    with open(f'{tree}/{TABLE}', encoding='utf-8') as file:
        table = file.read()
    for name, path in STRUCTS.items():
        with open(f'{tree}/{path}', encoding='utf-8') as file:
            there = fields(body(file.read(), name))
        if len(there) < 50 or len(set(there)) != len(there):
            wrong.append(f'struct {name}: misread, {len(there)} fields')
        noted = []
        for names, how in rows(table, name):
            noted += names
            if how not in HOW:
                wrong.append(f'struct {name}: {", ".join(names)}: "{how}" is no way')
            if not names:
                wrong.append(f'struct {name}: a row without a field')
        wrong += [f'struct {name}: {f} is not in the table' for f in there if f not in noted]
        wrong += [f'struct {name}: there is no {f}' for f in noted if f not in there]
        wrong += [f'struct {name}: {f} stands there twice' for f in sorted(set(noted))
                  if noted.count(f) > 1]
        print(f'struct {name}: {len(there)} fields')
    for line in wrong:
        print(line)
    return bool(wrong)


sys.exit(main())
