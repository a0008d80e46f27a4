#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sums gcov's counts of the library.

coverage_table.py BUILD   prints lines and branches by file and in all, and writes BUILD/never.txt:
                          the lines and the branches that never ran, with their source

A line is run if any object ran it; a branch if any object took it. Branches of assertions do not
count, as their other side ends the program; nor do those that the compiler marks as thrown.
"""
import collections
import json
import pathlib
import re
import subprocess
import sys

OBJECTS = 'libdgram.so*.p'


def counts(build):
    """file -> line number -> [runs, {branch index: taken}]"""
    files = collections.defaultdict(lambda: collections.defaultdict(lambda: [0, {}]))
    root = pathlib.Path.cwd()
    for data in sorted(pathlib.Path(build).glob(OBJECTS + '/*.gcda')):
        text = subprocess.run(['gcov', '--json-format', '--stdout', '-b', str(data.resolve())],
                              cwd=build, capture_output=True, check=True, text=True).stdout
        for one in text.splitlines():
            for entry in json.loads(one)['files'] if one.startswith('{') else []:
                path = (pathlib.Path(build) / entry['file']).resolve()
                if root not in path.parents or path.suffix not in ('.c', '.h'):
                    continue
                name = str(path.relative_to(root))
                for line in entry['lines']:
                    known = files[name][line['line_number']]
                    known[0] += line['count']
                    for index, branch in enumerate(line['branches']):
                        if not branch['throw']:
                            known[1][index] = known[1].get(index, 0) + branch['count']
    return files


def in_assertions(source):
    """Numbers of the lines that belong to an assertion, however long it is."""
    numbers, open_ = set(), False
    for number, text in enumerate(source, 1):
        if open_ or re.search(r'\bassert\(', text):
            numbers.add(number)
            open_ = not text.rstrip().endswith(';')
    return numbers


def share(part, whole):
    return f'{part:5}/{whole:<5}{100 * part / whole if whole else 100:6.1f} %'


def main(build):
    total, never = [0, 0, 0, 0], []
    for name, lines in sorted(counts(build).items()):
        source = pathlib.Path(name).read_text().splitlines()
        assertions = in_assertions(source)
        ran = sum(1 for runs, _ in lines.values() if runs)
        branches = [(number, index, taken) for number, (_, ways) in lines.items()
                    if number not in assertions for index, taken in ways.items()]
        taken = sum(1 for _, _, count in branches if count)
        numbers = ran, len(lines), taken, len(branches)
        total = [a + b for a, b in zip(total, numbers)]
        print(f'{name:28} lines {share(*numbers[:2])}   branches {share(*numbers[2:])}')
        for number in sorted(lines):
            missed = [index for line, index, count in branches if line == number and not count]
            if not lines[number][0] or missed:
                what = 'line' if not lines[number][0] else f'branch {missed}'
                never.append(f'{name}:{number}: {what}: {source[number - 1].strip()}')
    print(f'{"in all":28} lines {share(*total[:2])}   branches {share(*total[2:])}')
    path = pathlib.Path(build) / 'never.txt'
    path.write_text('\n'.join(never) + '\n')
    print(f'never run: {len(never)} lines of {path}')


main(sys.argv[1])
