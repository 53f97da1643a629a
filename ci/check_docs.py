#!/usr/bin/env python3
"""Proves what the documents say about the tree.

    ci/check_docs.py [ROOT]

Links of Markdown files lead to files and headings that exist; every tag of a manual in a comment
("[16550] 8.6.4") is defined in docs/specs.md; docs/exit-codes.md has the table of exit_code.h.
Prints one line a fault, "path:line: what is wrong", and exits with 1 if there is any.
"""

import os
import re
import sys

LINK = re.compile(r'(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)')
TAG = re.compile(r'\[((?:[A-Z]|[0-9]{4})[A-Za-z0-9/+.-]*(?: [A-Z0-9][A-Za-z0-9.]*)?)\] (?=[0-9A-Z§])')
EXIT_CODE = re.compile(r'\bX\((\w+), (\d+), "((?:[^"\\]|\\.)*)"\)')
EXIT_ROW = re.compile(r'^\|\s*(\d+)\s*\|')


def walk(root, suffixes, folders=('.',)):
    for folder in folders:
        for place, subfolders, names in os.walk(os.path.join(root, folder)):
            subfolders[:] = sorted(f for f in subfolders if not f.startswith(('.', 'build', '__')))
            for name in sorted(names):
                if name.endswith(suffixes):
                    yield os.path.relpath(os.path.join(place, name), root)


def read_lines(root, path):
    with open(os.path.join(root, path), encoding='utf-8', errors='replace') as file:
        return file.read().splitlines()


def prose(lines):
    """(number, line) of a Markdown file outside fenced code."""
    in_code = False
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith('```'):
            in_code = not in_code
        elif not in_code:
            yield number, line


def anchors(lines):
    """The anchors that the headings make, by the rule of the usual Markdown hosts."""
    names = set()
    for _, line in prose(lines):
        if line.startswith('#'):
            title = line.lstrip('#').strip().lower().replace('`', '')
            names.add(re.sub(r'[^\w\- ]', '', title).replace(' ', '-'))
    return names


def check_links(root):
    for path in walk(root, ('.md',)):
        for number, line in prose(read_lines(root, path)):
            for link in LINK.findall(line):
                if re.match(r'[a-z]+:', link):
                    continue
                target, _, anchor = link.partition('#')
                file = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
                if not os.path.exists(os.path.join(root, file)):
                    yield f'{path}:{number}: the link {link} leads nowhere'
                elif anchor and file.endswith('.md') and anchor not in anchors(read_lines(root, file)):
                    yield f'{path}:{number}: {file} has no heading #{anchor}'


def check_tags(root):
    specs = 'docs/specs.md'
    known = set()
    if os.path.exists(os.path.join(root, specs)):
        known = set(re.findall(r'\[([^\]]+)\]', '\n'.join(read_lines(root, specs))))
    for path in walk(root, ('.cc', '.h', '.S', '.asm', '.py', '.toml'), ('src', 'tests', 'firmware')):
        for number, line in enumerate(read_lines(root, path), 1):
            for mark in ('//', '#', ';', 'TEST_CASE'):
                if mark in line:
                    break
            else:
                continue
            for tag in TAG.findall(line[line.index(mark):]):
                if tag not in known:
                    yield f'{path}:{number}: the tag [{tag}] is not defined in {specs}'


def check_exit_codes(root):
    source, table = 'src/vmm/core/base/exit_code.h', 'docs/exit-codes.md'
    if not os.path.exists(os.path.join(root, source)):
        return
    if not os.path.exists(os.path.join(root, table)):
        yield f'{table}:1: is missing; it has the table of {source}'
        return
    codes = {int(value): meaning.replace('\\"', '"') for _, value, meaning in EXIT_CODE.findall('\n'.join(read_lines(root, source)))}
    rows = {}
    for number, line in enumerate(read_lines(root, table), 1):
        match = EXIT_ROW.match(line)
        if match:
            rows[int(match.group(1))] = (number, line)
    for value, meaning in codes.items():
        if value not in rows:
            yield f'{table}:1: has no row for {value} ({meaning})'
        elif meaning not in rows[value][1]:
            yield f'{table}:{rows[value][0]}: {source} says "{meaning}"'
    for value in rows.keys() - codes.keys():
        yield f'{table}:{rows[value][0]}: {source} has no {value}'


def check(root):
    """All faults of the tree under root, as lines."""
    return [*check_links(root), *check_tags(root), *check_exit_codes(root)]


def main(arguments):
    root = arguments[1] if len(arguments) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
    faults = check(root)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv))
