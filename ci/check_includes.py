#!/usr/bin/env python3
"""Proves the layering: who may include whom, where heavy headers may be seen, how long a file may be.

    ci/check_includes.py [ROOT]

Prints one line a fault, "path:line: what is wrong", and exits with 1 if there is any.
"""

import fnmatch
import os
import re
import sys

# The first folder that matches a file decides which headers of ours it may include, by prefix.
# None: any. A part is open to itself and to vmm/core, never to another part.
LAYERS = (
    ('src/vmm/core/', ('vmm/core/',)),
    ('src/kvm/', ('vmm/core/', 'kvm/')),
    ('src/bt/', ('vmm/core/', 'bt/')),
    ('src/virtio/', ('vmm/core/', 'virtio/')),
    ('src/legacy-devices/', ('vmm/core/', 'legacy-devices/')),
    ('src/guest-tools/', ('vmm/core/protocol/', 'guest-tools/')),
    ('src/helpers/', ('vmm/core/protocol/', 'helpers/')),
    ('src/vmm/', None),
    ('tests/', None),
)

# Headers that cost seconds a file: (pattern of the header, files that may see it even indirectly).
HEAVY = (
    ('toml++/*', ('src/vmm/config/*',)),
    ('CLI/*', ('src/vmm/cli/*',)),
    ('nlohmann/*', ('src/vmm/cli/*.cc', 'src/vmm/control/*.cc', 'src/vmm/probe/*.cc', 'tests/*.cc')),
    ('spdlog/*', ('src/vmm/core/base/*',)),
    ('Zydis/*', ('src/bt/isa/*', 'tests/unit/bt/emitted_code_test.cc')),
    ('xbyak/*', ('src/bt/*', 'tests/unit/bt/cell_test.cc', 'tests/unit/bt/code_*',
                  'tests/unit/bt/emitted_code_test.cc')),
    ('libfdt.h', ('src/vmm/machine/*',)),
    ('zstd.h', ('src/vmm/snapshot/*', 'src/vmm/core/block/*.cc', 'src/vmm/boot/kernel_payload.cc', 'tests/unit/boot/*')),
    ('zlib.h', ('src/vmm/core/block/*.cc', 'src/vmm/boot/kernel_payload.cc', 'tests/unit/boot/*')),
    ('lzma.h', ('src/vmm/boot/kernel_payload.cc', 'tests/unit/boot/*')),
    ('lz4.h', ('src/vmm/boot/kernel_payload.cc', 'tests/unit/boot/*')),
    ('liburing.h', ('src/vmm/core/block/*.cc',)),
    ('slirp/*', ('src/helpers/nat/*.cc',)),
    ('xxhash.h', ('src/vmm/machine/*.cc',)),
)

MAX_LINES = 500
TABLES = ('*_table.cc', '*_table.h', '*_table.py', '*_tables.cc', '*_tables.h', '*.inc', '*.def')

SOURCE_FOLDERS = ('src', 'tests', 'ci', 'firmware', 'examples')
CPP_SUFFIXES = ('.cc', '.h', '.inc', '.def')
COUNTED_SUFFIXES = CPP_SUFFIXES + ('.py', '.sh', '.S', '.s', '.asm', '.build')
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def find_files(root):
    """Paths of all source files under root, relative to it and sorted."""
    found = []
    for folder in SOURCE_FOLDERS:
        for place, folders, names in os.walk(os.path.join(root, folder)):
            folders[:] = sorted(f for f in folders if not f.startswith(('.', '__')))
            for name in sorted(names):
                path = os.path.relpath(os.path.join(place, name), root)
                if name.endswith(COUNTED_SUFFIXES) or is_script(os.path.join(root, path)):
                    found.append(path)
    return found


def is_script(path):
    if '.' in os.path.basename(path) or not os.path.isfile(path):
        return False
    with open(path, 'rb') as file:
        return file.read(2) == b'#!'


def read_includes(root, path):
    """[(line number, header, is_quoted)] of one C++ file."""
    includes = []
    with open(os.path.join(root, path), encoding='utf-8') as file:
        for number, line in enumerate(file, 1):
            match = INCLUDE.match(line)
            if match:
                includes.append((number, match.group(1) or match.group(2), match.group(1) is not None))
    return includes


def may_include(path, header):
    for folder, allowed in LAYERS:
        if path.startswith(folder):
            return allowed is None or header.startswith(allowed)
    return True


def resolve(root, path, header):
    """The file behind a quoted header: from src/ or from the top; tests also from their own folder."""
    for place in ('src', '.', *([os.path.dirname(path)] if path.startswith('tests/') else [])):
        candidate = os.path.normpath(os.path.join(place, header))
        if os.path.isfile(os.path.join(root, candidate)):
            return candidate
    return None


def check_layers(root, includes):
    for path, lines in includes.items():
        for number, header, is_quoted in lines:
            target = resolve(root, path, header)
            if not is_quoted:
                if target and target.startswith('src/'):
                    yield f'{path}:{number}: our own <{header}> is included with ""'
            elif target is None:
                yield f'{path}:{number}: "{header}" does not exist under src/'
            elif target.startswith('tests/') and path.startswith('src/'):
                yield f'{path}:{number}: a source may not include the test header {header}'
            elif target.startswith('src/') and not may_include(path, target[len('src/'):]):
                yield f'{path}:{number}: this layer may not include {header}'


def find_heavy(root, path, includes, pattern, seen):
    """The chain of (line, header) by which path sees a header that matches pattern, or None."""
    seen.add(path)
    for number, header, is_quoted in includes.get(path, ()):
        if fnmatch.fnmatchcase(header, pattern):
            return [(number, header)]
        target = resolve(root, path, header) if is_quoted else None
        if target and target not in seen:
            chain = find_heavy(root, target, includes, pattern, seen)
            if chain:
                return [(number, header), *chain]
    return None


def check_heavy(root, includes):
    for path in includes:
        for pattern, allowed in HEAVY:
            if any(fnmatch.fnmatchcase(path, place) for place in allowed):
                continue
            chain = find_heavy(root, path, includes, pattern, set())
            if chain:
                way = ' -> '.join(header for _, header in chain)
                yield f'{path}:{chain[0][0]}: sees the heavy header {way}, which only {", ".join(allowed)} may'


def check_lengths(root, paths):
    for path in paths:
        if any(fnmatch.fnmatchcase(os.path.basename(path), table) for table in TABLES):
            continue
        with open(os.path.join(root, path), 'rb') as file:
            lines = file.read().count(b'\n')
        if lines > MAX_LINES:
            yield f'{path}:{MAX_LINES}: has {lines} lines; at most {MAX_LINES}, tables ({", ".join(TABLES)}) excepted'


def check(root):
    """All faults of the tree under root, as lines."""
    paths = find_files(root)
    includes = {path: read_includes(root, path) for path in paths if path.endswith(CPP_SUFFIXES)}
    return [*check_layers(root, includes), *check_heavy(root, includes), *check_lengths(root, paths)]


def main(arguments):
    root = arguments[1] if len(arguments) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
    faults = check(root)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv))
