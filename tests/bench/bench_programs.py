"""The programs of the translator's bench: built, packed into an initramfs, run, read."""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from typing import NamedTuple

from bars import BOOT, PROGRAMS

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'programs')
COMPILE = ['g++', '-std=c++20', '-O2', '-march=x86-64', '-static', '-Wall', '-Wextra', '-Werror']
# glibc chooses functions by the processor it sees. Guests see different ones: all take the plain ones.
PLAIN_GLIBC = ('glibc.cpu.hwcaps=' + ','.join(f'-{name}' for name in (
    'AVX', 'AVX2', 'AVX_Fast_Unaligned_Load', 'AVX512F', 'AVX512VL', 'AVX512BW', 'FMA', 'FMA4', 'ERMS', 'SSSE3',
    'SSE4_1', 'SSE4_2', 'BMI1', 'BMI2', 'LZCNT', 'MOVBE', 'RTM'))
    + ':glibc.cpu.x86_non_temporal_threshold=0x300000')
END = 'bench: end'
ROW = re.compile(r'bench: row (\S+) (\d+\.\d+) ([0-9a-f]{16}) (\d+\.\d+) (\d+\.\d+)\s*$')
CLOCK = re.compile(r'bench: clock (\d+\.\d+)\s*$')
LINE_LIMIT_SECONDS = 600  # for one repetition of a row, and for the boot


class Results(NamedTuple):
    """What one side has printed."""
    seconds: dict  # row -> its repetitions
    cpu: dict  # row -> CPU seconds of its repetitions
    checksums: dict  # row -> checksum
    clock: list  # (guest's clock, host's clock) in seconds, line by line
    remarks: list  # what else stood on the console between the rows


def build(place):
    """Compiles the programs that are older than their sources; returns {name: path}."""
    return {name: build_one(place, name, rows) for name, rows in PROGRAMS.items()}


def build_one(place, name, rows):
    """The path of one program, which has to have these rows."""
    os.makedirs(place, exist_ok=True)
    sources = [f'{SOURCES}/{name}.cc', f'{SOURCES}/bench_rows.cc']
    path = f'{place}/{name}'
    newest = max(os.path.getmtime(source) for source in [*sources, f'{SOURCES}/bench_rows.h', __file__])
    if not os.path.exists(path) or os.path.getmtime(path) < newest:
        subprocess.run([*COMPILE, *sources, '-o', path], check=True)
    listed = subprocess.run([path, '--list'], check=True, text=True, capture_output=True).stdout.split()
    if listed != list(rows):
        raise RuntimeError(f'{name} has the rows {listed}, the bench says {list(rows)}')
    return path


def extract_busybox(initrd, place):
    """The busybox of a guest's initramfs, for the host."""
    with subprocess.Popen(['gzip', '-dc', initrd], stdout=subprocess.PIPE) as unzip:
        subprocess.run(['cpio', '--extract', '--make-directories', '--quiet', 'bin/busybox'], check=True, cwd=place,
                       stdin=unzip.stdout)
    return f'{place}/bin/busybox'


def commands(rows, runs, scale):
    """[(program, arguments)] that measure the rows; boot is nobody's."""
    chosen = [(name, [row for row in own if row in rows]) for name, own in PROGRAMS.items()]
    return [(name, ['--runs', str(runs), '--scale', repr(scale), *own]) for name, own in chosen if own]


def make_initramfs(paths, busybox, rows, runs, scale, target):
    """An initramfs whose /init runs the rows and then says END."""
    lines = ['#!/bin/busybox sh', f'export GLIBC_TUNABLES={PLAIN_GLIBC} BUSYBOX=/bin/busybox',
             'busybox mount -t tmpfs tmpfs /tmp', 'cd /tmp']
    lines += [f'{shlex.join([f"/bin/{name}", *arguments])} || echo "bench: failed {name}: status $?"'
              for name, arguments in commands(rows, runs, scale)]
    lines += [f'echo "{END}"', 'busybox poweroff -f']
    with tempfile.TemporaryDirectory() as root:
        for folder in ('bin', 'dev', 'tmp'):
            os.mkdir(f'{root}/{folder}')
        shutil.copy(busybox, f'{root}/bin/busybox')
        for name, path in paths.items():
            shutil.copy(path, f'{root}/bin/{name}')
        with open(f'{root}/init', 'w', encoding='ascii') as init:
            init.write('\n'.join(lines) + '\n')
        os.chmod(f'{root}/init', 0o755)
        names = '\0'.join(sorted(os.path.relpath(os.path.join(folder, name), root)
                                 for folder, folders, files in os.walk(root) for name in folders + files))
        with open(target, 'wb') as file:
            subprocess.run(['cpio', '--null', '--create', '--format=newc', '--owner=0:0', '--quiet'], check=True,
                           cwd=root, input=names.encode(), stdout=file)


def add_program(initrd, path, target):
    """`initrd` with /bin/PROGRAM more: a second archive behind the first, which the kernel unpacks over it."""
    with tempfile.TemporaryDirectory() as root:
        os.mkdir(f'{root}/bin')
        shutil.copy(path, f'{root}/bin/')
        with open(initrd, 'rb') as first, open(target, 'wb') as file:
            shutil.copyfileobj(first, file)
            file.write(b'\0' * (-file.tell() % 512))
            file.flush()
            subprocess.run(['cpio', '--null', '--create', '--format=newc', '--owner=0:0', '--quiet'], check=True, cwd=root,
                           input=f'bin\0bin/{os.path.basename(path)}'.encode(), stdout=file)


def read_results(lines):
    """Results of (host's seconds, host's CPU seconds, line) up to END or the end. Without CPU seconds of
    the host what the lines say about it counts. RuntimeError where the bench failed."""
    results = Results({}, {}, {}, [], [])
    cpu_before = 0.0
    for host, cpu, line in lines:
        row, clock = ROW.search(line), CLOCK.search(line)
        if row:
            name, seconds, checksum, guest, cpu_said = row.groups()
            results.seconds.setdefault(name, []).append(float(seconds))
            results.cpu.setdefault(name, []).append(float(cpu_said) if cpu is None else cpu - cpu_before)
            if results.checksums.setdefault(name, checksum) != checksum:
                raise RuntimeError(f'{name}: checksum {checksum} after {results.checksums[name]} in the same run')
            results.clock.append((float(guest), host))
        elif clock:
            results.clock.append((float(clock.group(1)), host))
        elif END in line:
            break
        elif 'bench:' in line:
            raise RuntimeError(line.strip())
        elif results.clock and line.strip():
            results.remarks.append(line.strip())
        if row or clock:
            cpu_before = cpu
    return results


def require(results, rows, runs):
    """RuntimeError unless each row was measured as often as asked for."""
    for row in rows:
        if row != BOOT and len(results.seconds.get(row, [])) != runs:
            raise RuntimeError(f'{row}: {len(results.seconds.get(row, []))} results of {runs}')
    return results


def run_native(paths, busybox, rows, runs, scale):
    """The programs on this host, on one processor as in the guests, their files in memory."""
    environment = {'PATH': os.environ['PATH'], 'GLIBC_TUNABLES': PLAIN_GLIBC, 'BUSYBOX': busybox}
    processor = max(os.sched_getaffinity(0))
    output = []
    with tempfile.TemporaryDirectory(dir='/dev/shm') as place:
        for name, arguments in commands(rows, runs, scale):
            ran = subprocess.run([paths[name], *arguments], cwd=place, env=environment, text=True, stdout=subprocess.PIPE,
                                 preexec_fn=lambda: os.sched_setaffinity(0, {processor}), check=False)
            output += ran.stdout.splitlines()
            if ran.returncode != 0:
                output.append(f'bench: failed {name}: status {ran.returncode}')
    return require(read_results((0.0, None, line) for line in output), rows, runs)


def run_guest(process, rows, runs):
    """The rows that the guest of a TimedProcess prints."""
    lines = ((host, process.cpu_seconds(), line) for host, line in process.lines(LINE_LIMIT_SECONDS))
    return require(read_results(lines), rows, runs)
