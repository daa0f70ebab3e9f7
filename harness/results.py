#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Counts test results and looks for trouble in kernel messages.

usage: results.py LABEL=KTAP:DMESG ...

KTAP is what a test run printed, DMESG the kernel's messages of the same run
(either may be empty).  Every test case is counted by itself; a case that was
planned and never reported, a test program that ended badly after its cases
passed, a run without results, and a kernel warning are failures.  Ends with
"N passed, N failed, N skipped"; the exit code says whether anything failed.
"""
import re
import sys

TROUBLE = re.compile(
    r"WARNING:|\bBUG\b|Oops|Kernel panic|general protection|"
    r"possible (recursive|circular)|possible irq lock inversion|inconsistent lock state|"
    r"suspicious RCU|sleeping function called|scheduling while atomic|"
    r"held lock freed|still held|bad unlock balance|INFO: task .* blocked|"
    r"INFO: rcu|rcu_.* self-detected stall|soft lockup|hard LOCKUP|"
    r"UBSAN|KASAN|KCSAN|KFENCE|unreferenced object|new suspected memory leaks|"
    r"list_(add|del) corruption|ODEBUG|refcount_t:|percpu_ref.*underflow|"
    r"workqueue: .*(lockup|hogged|stuck)|Showing busy workqueues|"
    r"rust_kernel: panicked|panicked at|Call Trace|Unable to handle")
# A sanitizer that says hello at boot, or that it found nothing.
HARMLESS = re.compile(
    r"KernelAddressSanitizer initialized|"
    r"KTAP version|^\s*#|^\s*(not )?ok \d")
# What lockdep says of code of arch/um that the series does not touch, and what
# tests bring about on purpose: the first words of a report, and a function that is
# in its call trace.
KNOWN = (
    # a test has filled its own memory cgroup; the machine's memory is another thing
    (re.compile(r"invoked oom-killer"), "try_charge_memcg"),
    # arch/um brings a CPU up before RCU knows of it
    (re.compile(r"Callback enqueued on offline CPU"), "os_start_secondary"),
    # arch/um walks the mappings of an mm for a TLB flush without a lock
    (re.compile(r"lib/maple_tree\.c:\d+ suspicious rcu_dereference_check"), "flush_tlb_mm"),
)
TRACE_LINE = re.compile(r"^\s*(\[<[0-9a-f]+>\]|</?TASK>|\? )|^ [\w.]+\+0x")
REPORT = re.compile(r"WARNING: suspicious RCU usage|invoked oom-killer")
STAMP = re.compile(r"^(<\d+>)?\[\s*\d+\.\d+\](\[\s*[TC]\d+\])? ?")
RESULT = re.compile(r"^(ok|not ok)\s+(\d+)\s*-?\s*(.*)$")
PLAN = re.compile(r"^1\.\.(\d+)(?:\s*#\s*SKIP\s*(.*))?$")


class Level:
    """What is known of one nesting depth since the depth above went on."""

    def __init__(self):
        self.planned = None
        self.seen = 0
        self.leaves = []        # (status, name, reason of a skip)
        self.skip = ""          # why the whole of it was skipped


def split(line):
    """KTAP nests by four blanks, kselftest by "# ": gives (depth, rest)."""
    depth = 0
    while True:
        if line.startswith("    "):
            line = line[4:]
        elif line.startswith("# "):
            line = line[2:]
        else:
            return depth, line.rstrip()
        depth += 1


def parse(lines):
    """All cases, the innermost only, as (status, name, reason of a skip)."""
    stack = [Level()]
    for line in lines:
        line = STAMP.sub("", line.rstrip("\r\n"))
        depth, text = split(line)
        plan, result = PLAN.match(text), RESULT.match(text)
        if not (plan or result):
            continue
        while len(stack) <= depth:
            stack.append(Level())
        here = stack[depth]
        if plan:
            here.planned = int(plan.group(1))
            here.skip = plan.group(2) or ""
            continue
        here.seen += 1
        status, name, reason = result.group(1), result.group(3), ""
        name, _, directive = name.partition("# ")
        name = name.strip() or "case " + result.group(2)
        if directive.upper().startswith("SKIP"):
            status = "skip"
            reason = directive[4:].strip()
            if len(stack) > depth + 1:
                reason = reason or stack[depth + 1].skip
        # cases below this one belong to it
        below = [case for level in stack[depth + 1:] for case in level.leaves]
        missing = sum(level.planned - level.seen for level in stack[depth + 1:]
                      if level.planned is not None and level.planned > level.seen)
        del stack[depth + 1:]
        if not below:
            here.leaves.append((status, name, reason))
            continue
        here.leaves += [(s, name + ": " + n, r) for s, n, r in below]
        if missing:
            here.leaves.append(("not ok", "%s: %d planned cases never reported" % (name, missing), ""))
        elif status == "not ok" and all(case[0] != "not ok" for case in below):
            here.leaves.append(("not ok", name + ": ended badly after its cases", ""))
    cases = []
    for level in stack:
        cases += level.leaves
        if level.planned is not None and level.planned > level.seen:
            cases.append(("not ok", "%d planned tests never reported"
                          % (level.planned - level.seen), ""))
    return cases


def trouble(lines):
    """The lines of dmesg that tell of a kernel gone wrong, each with a few
    that follow it."""
    found, show = [], 0
    for line in lines:
        text = STAMP.sub("", line.rstrip("\r\n"))
        if TROUBLE.search(text) and not HARMLESS.search(text):
            show = 25
        if show:
            found.append(line.rstrip("\r\n"))
            show -= 1
    return found


def without_known(lines):
    """The lines without the reports in KNOWN, and how many these were."""
    kept, known, i = [], 0, 0
    while i < len(lines):
        if not REPORT.search(lines[i]):
            kept.append(lines[i])
            i += 1
            continue
        # a report ends with its call trace, or where the next one begins
        end, in_trace = i + 1, False
        while end < len(lines) and "WARNING:" not in lines[end] and not REPORT.search(lines[end]):
            text = STAMP.sub("", lines[end].rstrip("\r\n"))
            if in_trace and not TRACE_LINE.match(text):
                break
            in_trace = in_trace or text.startswith("Call Trace:")
            end += 1
        report = "".join(lines[i:end])
        if any(words.search(report) and re.search(r"[ ?]%s\+" % function, report)
               for words, function in KNOWN):
            known += 1
        else:
            kept += lines[i:end]
        i = end
    return kept, known


def read(path):
    """The lines of a file, none for one that is not there."""
    if not path:
        return []
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.readlines()
    except FileNotFoundError:
        return []


def main():
    """Prints what failed and what was skipped, then the totals."""
    passed = failed = skipped = 0
    for arg in sys.argv[1:]:
        label, _, files = arg.partition("=")
        ktap, _, dmesg = files.partition(":")
        cases = parse(read(ktap)) if ktap else []
        if ktap and not cases:
            cases = [("not ok", "no test results at all", "")]
        if dmesg:
            lines = read(dmesg)
            rest, known = without_known(lines)
            bad = trouble(rest)
            if known:
                print("%s: %d reports passed over that are known, or brought about on purpose" % (label, known))
            if bad:
                print("\n%s: kernel messages:" % label)
                print("\n".join("    " + line for line in bad[:200]))
                cases.append(("not ok", "kernel messages tell of trouble", ""))
            elif not lines:
                cases.append(("not ok", "no kernel messages", ""))
            else:
                cases.append(("ok", "nothing in the kernel messages", ""))
        count = {s: [n for t, n, _ in cases if t == s] for s in ("ok", "not ok", "skip")}
        for reason in sorted({r for s, _, r in cases if s == "skip"}):
            names = [n for s, n, r in cases if s == "skip" and r == reason]
            print("%s: %d skipped, %s: %s" % (label, len(names), reason or "no reason given",
                                              ", ".join(n.rpartition(": ")[2] for n in names)))
        for name in count["not ok"]:
            print("%s: FAILED: %s" % (label, name))
        print("%s: %d passed, %d failed, %d skipped"
              % (label, len(count["ok"]), len(count["not ok"]), len(count["skip"])))
        passed += len(count["ok"])
        failed += len(count["not ok"])
        skipped += len(count["skip"])
    print("%d passed, %d failed" % (passed, failed)
          + (", %d skipped" % skipped if skipped else ""))
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
