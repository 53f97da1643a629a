"""The translator's bench: the same programs on this host, in vmm and in QEMU TCG, in one run."""

import fnmatch
import os
import tempfile
import time
from statistics import median

import bars
import bench_programs
import boot
from timed_process import TimedProcess

# The PC has the clocks of ACPI: without them TCG's guest has none to check its TSC with.
QEMU_MACHINE = 'pc, SeaBIOS'
APPEND = 'console=ttyS0 quiet'
SIDES = ('native', 'vmm', 'tcg')
MAX_CLOCK_ERROR = 0.005
MIN_CLOCK_SECONDS = 10  # in less, the way of a line to us is not small against the bar
NATIVE_RUNS = 5  # at least: cheap, and all the ratios stand on them


def chosen_rows(patterns):
    rows = [row for row in bars.ALL_ROWS if any(fnmatch.fnmatch(row, pattern) for pattern in patterns.split(','))]
    if not rows:
        raise RuntimeError(f'no row is called {patterns}: {", ".join(bars.ALL_ROWS)}')
    return rows


def measure(arguments, rows, sides):
    """({side: Results}, {side: boot seconds})"""
    kernel = f'{arguments.guests}/cloud-vmlinuz'
    results, boots = {}, {}
    paths = bench_programs.build(arguments.programs)
    with tempfile.TemporaryDirectory() as place:
        busybox = bench_programs.extract_busybox(f'{arguments.guests}/cloud-initrd', place)
        initrd = f'{place}/initrd'
        bench_programs.make_initramfs(paths, busybox, rows, arguments.runs, arguments.scale, initrd)
        guests = {'vmm': boot.vmm_command(arguments.vmm, arguments.engine, kernel, initrd, APPEND),
                  'tcg': boot.qemu_command(QEMU_MACHINE, kernel, initrd, APPEND) if 'tcg' in sides else None}
        for side in sides if rows != [bars.BOOT] else []:
            start = time.monotonic()
            if side == 'native':
                runs = max(arguments.runs, NATIVE_RUNS)
                results[side] = bench_programs.run_native(paths, busybox, rows, runs, arguments.scale)
            else:
                with TimedProcess(guests[side]) as process:
                    results[side] = bench_programs.run_guest(process, rows, arguments.runs)
            print(f'{side}: measured in {time.monotonic() - start:.0f} s', flush=True)
    if bars.BOOT in rows:
        guest = (kernel, f'{arguments.guests}/cloud-initrd', boot.APPEND)
        which = 1 if arguments.cpu_time else 0
        commands = {}
        if 'tcg' in sides:
            commands |= {machine: boot.qemu_command(machine, *guest) for machine in boot.QEMU_MACHINES}
        if 'vmm' in sides:
            commands['vmm'] = boot.vmm_command(arguments.vmm, arguments.engine, *guest)
        times = {name: figures[which] for name, figures in boot.measure(commands, arguments.runs).items()}
        if 'vmm' in sides:
            boots['vmm'] = times.pop('vmm')
        if 'tcg' in sides:
            boots['tcg'] = min(times.values())
    return results, boots


def compare(results, boots, rows, cpu_time=False):
    """{row: {side: median seconds}}, and the names of rows whose checksums differ."""
    measured = {side: result.cpu if cpu_time else result.seconds for side, result in results.items()}
    seconds = {row: {side: median(times[row]) for side, times in measured.items() if row in times} for row in rows}
    if bars.BOOT in rows:
        seconds[bars.BOOT] = boots
    different = [row for row in rows if len({result.checksums.get(row) for result in results.values()}) > 1]
    return seconds, different


def say_ratio(value):
    return '-' if value is None else f'{value:.2f}'


def verdict(misses):
    return '-' if misses is None else 'NO: ' + ', '.join(misses) if misses else 'yes'


def table(heads, lines):
    """Columns as wide as what stands in them; the first and the last two to the left."""
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
    for line in [heads, *lines]:
        yield '  '.join(cell.ljust(width) if i == 0 or i >= len(heads) - 2 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(line, widths))).rstrip()


def print_tables(engine, seconds, by_row, judged):
    """The rows, then the bars. Returns what is missed."""
    missed, lines = [], []
    for row, times in seconds.items():
        misses = bars.row_misses(row, by_row[row]) if judged else None
        missed += [f'{row}: {miss}' for miss in misses or []]
        lines.append([row, *(f'{times[side]:.4f}' if side in times else '-' for side in SIDES),
                      *map(say_ratio, by_row[row][:2]), bars.say_row_bar(row), verdict(misses)])
    heads = ['row', 'native s', f'{engine} s', 'tcg s', f'{engine}/native', f'TCG/{engine}', 'bar', 'ok?']
    print('\n' + '\n'.join(table(heads, lines)))
    lines = []
    for bar in bars.BARS:
        misses = bars.bar_misses(bar, by_row) if judged else None
        missed += [f'{bar.title}: {miss}' for miss in misses or []]
        lines.append([bar.title, *map(say_ratio, bars.mean_ratios(bar.rows, by_row)), bars.say_bar(bar), verdict(misses)])
    heads = ['geometric mean', f'{engine}/native', f'TCG/{engine}', 'TCG/native', 'bar', 'ok?']
    print('\n' + '\n'.join(table(heads, lines)), flush=True)
    return missed


def check_clocks(results):
    """Prints how the guests' clocks ran; returns (what is missed, {side: error})."""
    missed, errors = [], {}
    for side, result in results.items():
        if side == 'native':
            continue
        errors[side], span = bars.clock_error(result.clock)
        judged = span >= MIN_CLOCK_SECONDS
        bad = judged and abs(errors[side]) > MAX_CLOCK_ERROR
        if bad:
            missed.append(f'{side}: clock')
        print(f'{side}: the guest\'s clock is off by {errors[side]:+.3%} in {span:.1f} s; at most {MAX_CLOCK_ERROR:.1%}: '
              + ('MISSED' if bad else 'met' if judged else 'too short to say'))
        for remark in result.remarks:
            print(f'{side}: the console also says: {remark}')
    return missed, errors


def bench(arguments):
    """Measures, prints the tables, returns the report for --json; "missed" in it lists what failed."""
    sides = arguments.sides.split(',')
    if not set(sides) <= set(SIDES):
        raise RuntimeError(f'--sides {arguments.sides}: of {", ".join(SIDES)}')
    rows = chosen_rows(arguments.rows)
    load = os.getloadavg()[0]
    results, boots = measure(arguments, rows, sides)
    seconds, different = compare(results, boots, rows, arguments.cpu_time)
    by_row = {row: bars.ratios(times) for row, times in seconds.items()}
    # The bars are the translator's, and for the whole work.
    judged = arguments.engine == 'bt' and arguments.scale == 1
    missed = [f'{row}: checksums differ' for row in different]
    missed += print_tables(arguments.engine, seconds, by_row, judged)
    print()
    if 'native' in seconds.get('getppid', {}):
        print(f'native getppid: {seconds["getppid"]["native"] / (bars.GETPPID_CALLS * arguments.scale) * 1e9:.0f} ns; '
              'a host with slow system calls flatters the kernel rows')
    if arguments.cpu_time:
        print('all seconds are CPU seconds')
    late, errors = check_clocks(results)
    missed += late
    for what in missed:
        print(f'MISSED {what}')
    if not judged:
        print('The bars are the translator\'s at --scale 1: nothing is judged here but checksums and clocks.')
    return {
        'engine': arguments.engine, 'scale': arguments.scale, 'runs': arguments.runs, 'cpu time': arguments.cpu_time, 'load': load,
        'rows': {row: {'median': seconds[row], 'vmm/native': by_row[row].native, 'TCG/vmm': by_row[row].tcg,
                       'cpu': {side: result.cpu.get(row) for side, result in results.items()},
                       'seconds': {side: result.seconds.get(row) for side, result in results.items()},
                       'checksums': {side: result.checksums.get(row) for side, result in results.items()}}
                 for row in rows},
        'bars': [{'title': bar.title, 'rows': bar.rows, 'bar': bars.say_bar(bar),
                  'vmm/native': bars.mean_ratios(bar.rows, by_row).native,
                  'TCG/vmm': bars.mean_ratios(bar.rows, by_row).tcg,
                  'TCG/native': bars.mean_ratios(bar.rows, by_row).tcg_native} for bar in bars.BARS],
        'clock errors': errors, 'missed': missed,
    }
