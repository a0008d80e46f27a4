#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts test cases.

test_report.py LOG...       reports each log and prints what failed; false if anything did
test_report.py --total DIR  sums all logs of a directory; false if anything failed or nothing ran

A log is meson's testlog.json, or NAME.txt (the output of a program) beside NAME.status (its exit
status). googletest's output counts case by case, any other program as one case. A program that
fails without a failed case (a crash, a time-out, a leak) counts as one more failure.
"""
import json
import pathlib
import re
import sys
from collections import Counter

CASE = re.compile(r'^\[ +(OK|FAILED|SKIPPED) +\] .* \(\d+ ms\)$', re.M)
GTEST = re.compile(r'^\[=+\] Running \d+ tests? from', re.M)
REASON = re.compile(r'^.*: Skipped\n(.+)$', re.M)
START = re.compile(r'^\[ RUN +\] ')
GOOD = re.compile(r'^\[ +(OK|SKIPPED) +\] .* \(\d+ ms\)$')
NOISE = re.compile(
    r'^(\[(-+|=+|  PASSED  |  SKIPPED |  FAILED  )\].*|Running main.*| *\d+ FAILED TESTS?|)$')
LINES_MAX = 300  # of a failed test's output
STATUS = {0: 'OK', 77: 'SKIP', 124: 'TIMEOUT'}


def results(log):
    """Yields name, result in meson's words, output."""
    if log.suffix == '.json':
        for line in log.read_text().splitlines():
            test = json.loads(line)
            yield test['name'], test['result'], test.get('stdout', '') + test.get('stderr', '')
    else:
        status = int(log.with_suffix('.status').read_text())
        yield log.stem, STATUS.get(status, f'exit {status}'), log.read_text(errors='replace')


def count(result, output):
    cases = Counter()
    if GTEST.search(output):
        cases.update(CASE.findall(output))
        if result not in ('OK', 'SKIP') and not cases['FAILED']:
            cases['FAILED'] += 1
    else:
        cases[{'OK': 'OK', 'SKIP': 'SKIPPED'}.get(result, 'FAILED')] += 1
    return cases


def line(cases):
    return f"{cases['OK']} passed, {cases['FAILED']} failed, {cases['SKIPPED']} skipped"


def failures(output):
    """The output without passed and skipped cases. A case that never ended stays."""
    if not GTEST.search(output):
        return output.splitlines()[-LINES_MAX:]
    kept, block = [], []
    for text in output.splitlines():
        if GOOD.search(text):
            block = []
        elif START.search(text) or CASE.search(text):
            kept += block + ([text] if CASE.search(text) else [])
            block = [] if CASE.search(text) else [text]
        elif block or not NOISE.search(text):
            block.append(text)
    return (kept + block)[-LINES_MAX:]


def report(log):
    cases, reasons = Counter(), Counter()
    for name, result, output in results(log):
        mine = count(result, output)
        cases += mine
        reasons.update(REASON.findall(output))
        if result == 'SKIP' and not GTEST.search(output):
            reasons[f'{name}: {output.strip()}'] += 1
        if mine['FAILED']:
            print(f'---- {name}: {result}')
            print('\n'.join(failures(output)))
            print('----')
    for reason, times in reasons.most_common():
        print(f'   skipped {times}: {reason}')
    print(f'   {line(cases)}')
    return not cases['FAILED']


def total(directory):
    cases = Counter()
    for log in sorted(directory.iterdir()):
        if log.suffix == '.json' or log.with_suffix('.status').exists() and log.suffix == '.txt':
            for _, result, output in results(log):
                cases += count(result, output)
    print(line(cases))
    return not cases['FAILED'] and cases['OK'] > 0


def main(arguments):
    if arguments[0] == '--total':
        return total(pathlib.Path(arguments[1]))
    return all([report(pathlib.Path(name)) for name in arguments])


sys.exit(0 if main(sys.argv[1:]) else 1)
