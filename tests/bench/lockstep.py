#!/usr/bin/env python3
"""The bench's programs with translated code held against the interpreter (vmm run --lockstep).

    tests/bench/lockstep.py [--seconds 60] [--rows PATTERN,...] [--scale 1]

Runs until the guest's clock, at a nanosecond an instruction, has advanced by so much since its first program, or until
the programs have ended; about half an hour for a minute. Prints each row as it is done and how much was compared.
Exit status 1 at the first difference, which vmm's messages show.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
import time

import bench_programs
import translator
from timed_process import TimedProcess

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
COMPARED = re.compile(r'% of translated instructions compared +(?:\S+ +)*([\d.]+)\n')


def run(arguments):
    """Seconds of the guest's clock over the programs."""
    rows = translator.chosen_rows(arguments.rows)
    with tempfile.TemporaryDirectory() as place:
        paths = bench_programs.build(arguments.programs)
        busybox = bench_programs.extract_busybox(f'{arguments.guests}/cloud-initrd', place)
        initrd = f'{place}/initrd'
        bench_programs.make_initramfs(paths, busybox, rows, 1, arguments.scale, initrd)
        command = [arguments.vmm, 'run', '--accel', 'bt', '--deterministic', 'true', '--lockstep', '--stats', '--cpus', '1',
                   '--memory', '512M', '--stop-timeout', '0s', '--kernel', f'{arguments.guests}/cloud-vmlinuz', '--initrd',
                   initrd, '--append', translator.APPEND]
        with TimedProcess(command) as process:
            return watch(process, arguments.seconds)


def watch(process, seconds):
    first = last = None
    for _, line in process.lines(limit=7200):
        row, clock = bench_programs.ROW.search(line), bench_programs.CLOCK.search(line)
        if row or clock:
            last = float(row.group(4) if row else clock.group(1))
            first = last if first is None else first
        if row:
            print(f'{row.group(1)}: alike, guest at {last - first:.1f} s, CPU time {process.cpu_seconds():.0f} s',
                  flush=True)
        if bench_programs.END in line or (first is not None and last - first >= seconds):
            break
    process.process.send_signal(signal.SIGTERM)
    try:
        while True:
            process.receive(time.monotonic() + 60, 'end')
    except RuntimeError:  # it has ended, as it should
        pass
    messages = process.messages.decode(errors='replace')
    compared = COMPARED.search(messages)
    if not compared:
        raise RuntimeError(f'no statistics:\n{messages[-2000:]}')
    print(f'{compared.group(1)} % of translated instructions were compared', flush=True)
    return last - first


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--vmm', default=f'{TOP}/build/vmm')
    parser.add_argument('--guests', default=f'{TOP}/build/guests')
    parser.add_argument('--programs', default=f'{TOP}/build/bench', help='where the programs are built')
    parser.add_argument('--seconds', type=float, default=60, help="of the guest's clock")
    parser.add_argument('--rows', default='*', help='names or patterns, separated by commas')
    parser.add_argument('--scale', type=float, default=1, help='less or more work in each row')
    arguments = parser.parse_args()
    try:
        print(f'{run(arguments):.1f} s of the guest, no difference')
    except RuntimeError as error:
        print(error)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
