#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a file as a C array that ends with a zero: embed.py INPUT OUTPUT NAME"""
import pathlib
import sys

source, target, name = sys.argv[1:]
data = pathlib.Path(source).read_bytes() + b'\0'
lines = [', '.join(str(byte) for byte in data[i:i + 20]) for i in range(0, len(data), 20)]
pathlib.Path(target).write_text(
    f'/* Made by embed.py of {pathlib.Path(source).name}. */\n'
    f'static const char {name}[] = {{\n' + ',\n'.join(lines) + '};\n')
