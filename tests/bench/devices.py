"""Disks and networks: the same program in vmm, in QEMU TCG and on this host, in one run, each guest with virtio."""

import contextlib
import fnmatch
import multiprocessing
import os
import socket
import struct
import subprocess
import tempfile
import time
from statistics import median

import bars
import bench_programs
import boot
import translator
from timed_process import TimedProcess

PROGRAM = 'devices'
# Row -> what one of its repetitions moves: MiB, or requests of random-*.
ROWS = {'write-128k': 512, 'read-128k': 512, 'write-1m': 512, 'read-1m': 512, 'random-4k-1': 10_000,
        'random-4k-32': 40_000, 'guest-to-host': 512, 'host-to-guest': 512}
DISK_MIB = 256
LATENCY = 'random-4k-1: median latency'
# QEMU TCG's time / vmm's time, at least.
MIN_TCG = {'write-128k': 2, 'read-128k': 2, 'write-1m': 1, 'read-1m': 1, 'random-4k-1': 4, 'random-4k-32': 4,
           LATENCY: 3, 'guest-to-host': 4, 'host-to-guest': 2}
SIDES = ('native', 'vmm', 'tcg')
QEMU_DEVICES = ['-drive', 'if=none,id=disk,format=raw,cache=writeback,aio=io_uring,file={disk}',
                '-device', 'virtio-blk-pci,drive=disk', '-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net']
HOST = '10.0.2.2'  # as a guest of either sees it
PROMPT = b'guest# '
LIMIT_SECONDS = 120


def serve(listener):
    """Takes or gives what a client asks for: b's' or b'r', and how many bytes."""
    data = bytearray(1 << 20)
    while True:
        stream, _ = listener.accept()
        with stream:
            what, left = struct.unpack('<cQ', stream.recv(9, socket.MSG_WAITALL))
            if what == b's':
                while left > 0:
                    left -= stream.recv_into(data)
                stream.sendall(b'!')
            else:
                while left > 0:
                    left -= stream.send(memoryview(data)[:left])


@contextlib.contextmanager
def server():
    """The port of one on the loopback."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        process = multiprocessing.get_context('fork').Process(target=serve, args=(listener,), daemon=True)
        process.start()
        try:
            yield listener.getsockname()[1]
        finally:
            process.terminate()
            process.join()


def make_image(path):
    """A disk of the bytes that the program writes, in the page cache."""
    with open(path, 'wb') as file:
        for _ in range(DISK_MIB):
            file.write(b'\x5a' * (1 << 20))


def commands(arguments, guests, place, disk, initrd):
    """{side: command} of the guests."""
    config = f'{place}/vm.toml'
    kernel = f'{guests}/cloud-vmlinuz'
    with open(config, 'w', encoding='ascii') as file:
        file.write(f'kernel = "{kernel}"\ninitrd = "{initrd}"\nappend = "{translator.APPEND}"\naccel = "{arguments.engine}"\n'
                   f'cpus = 1\nmemory = "512M"\ndisk = ["{disk}"]\nnet = ["user"]\n')
    qemu = boot.qemu_command(translator.QEMU_MACHINE, kernel, initrd, translator.APPEND)
    return {'vmm': [arguments.vmm, 'run', '--config', config],
            'tcg': qemu + [word.format(disk=disk) for word in QEMU_DEVICES]}


def read(lines, rows, runs):
    """(Results, the medians of the latency) of lines as bench_programs.read_results() has them."""
    latencies = []

    def others():
        for line in lines:
            if 'devices: latency ' in line[2]:
                latencies.append(float(line[2].split()[-1]))
            else:
                yield line
    return bench_programs.require(bench_programs.read_results(others()), rows, runs), latencies


def run_guest(command, port, options, rows, runs):
    with TimedProcess(command) as process:
        process.wait_for(PROMPT, LIMIT_SECONDS)
        # The terminal shows the line as it is typed: what the program says must not stand in it.
        end, failed = (text.replace('bench', 'be""nch') for text in (bench_programs.END, 'bench: failed'))
        line = (f'ip link set lo up; ip link set eth0 up; udhcpc -n -q -i eth0 >/tmp/udhcpc 2>&1 || cat /tmp/udhcpc; '
                f'DISK=/dev/vda TARGET={HOST}:{port} /bin/{PROGRAM} {options} {" ".join(rows)} || echo "{failed}"; '
                f'echo "{end}"\r')
        process.process.stdin.write(line.encode())
        process.process.stdin.flush()
        lines = ((host, process.cpu_seconds(), text) for host, text in process.lines(LIMIT_SECONDS))
        return read(lines, rows, runs)


def run_native(path, disk, port, options, rows, runs):
    environment = {**os.environ, 'DISK': disk, 'TARGET': f'127.0.0.1:{port}', 'CACHED': '1'}
    ran = subprocess.run([path, *options.split(), *rows], env=environment, text=True, check=True,
                                        stdout=subprocess.PIPE)
    return read(((0.0, None, line) for line in ran.stdout.splitlines()), rows, runs)


def measure(arguments, rows, sides):
    """{row: {side: seconds}}, the latency among them."""
    options = f'--runs {arguments.runs} --scale {arguments.scale!r}'
    seconds = {row: {} for row in rows}
    path = bench_programs.build_one(arguments.programs, PROGRAM, ROWS)
    with tempfile.TemporaryDirectory() as place, server() as port:
        disk, initrd = f'{place}/disk.raw', f'{place}/initrd'
        make_image(disk)
        bench_programs.add_program(f'{arguments.guests}/cloud-initrd', path, initrd)
        guests = commands(arguments, arguments.guests, place, disk, initrd)
        for side in sides:
            start = time.monotonic()
            if side == 'native':
                results, latencies = run_native(path, disk, port, options, rows, arguments.runs)
            else:
                results, latencies = run_guest(guests[side], port, options, rows, arguments.runs)
            for row in rows:
                seconds[row][side] = median(results.seconds[row])
            if latencies:
                seconds.setdefault(LATENCY, {})[side] = median(latencies)
            print(f'{side}: measured in {time.monotonic() - start:.0f} s', flush=True)
    return seconds


def say(row, seconds, scale):
    """A figure of one side, as people say it."""
    if seconds is None:
        return '-'
    if row == LATENCY:
        return f'{seconds * 1e6:.1f} us'
    rate = ROWS[row] * scale / seconds
    return f'{rate / 1000:.1f} k/s' if row.startswith('random') else f'{rate:.0f} MiB/s'


def misses(row, ratio):
    """Whether the ratio to TCG, None if it was not measured, is below the row's bar."""
    return ratio is not None and ratio < MIN_TCG[row]


def bench(arguments):
    """Measures, prints the table; {'rows': ..., 'missed': [...]}."""
    sides = [side for side in SIDES if side in arguments.sides.split(',')]
    rows = [row for row in ROWS if any(fnmatch.fnmatch(row, pattern) for pattern in arguments.rows.split(','))]
    seconds = measure(arguments, rows, sides)
    judged = arguments.engine == 'bt' and arguments.scale == 1
    missed, lines = [], []
    for row in [row for row in (*ROWS, LATENCY) if row in seconds]:
        ratio = bars.ratios(seconds[row])
        share = f'{1 / ratio.native:.0%}' if ratio.native else '-'
        bad = judged and misses(row, ratio.tcg)
        if bad:
            missed.append(f'{row}: TCG/vmm >= {MIN_TCG[row]}')
        lines.append([row, *(say(row, seconds[row].get(side), arguments.scale) for side in SIDES), share,
                      translator.say_ratio(ratio.tcg), f'>= {MIN_TCG[row]}',
                      'NO' if bad else 'yes' if judged and ratio.tcg is not None else '-'])
    heads = ['row', 'host', arguments.engine, 'tcg', 'of the host', f'TCG/{arguments.engine}', 'bar', 'ok?']
    print('\n' + '\n'.join(translator.table(heads, lines)), flush=True)
    return {'rows': seconds, 'missed': missed}
