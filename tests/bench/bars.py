"""The rows of the translator's bench, the bars they have to meet, and the arithmetic of both."""

import math
from typing import NamedTuple

# Program of tests/bench/programs -> its rows. Boot has no program.
PROGRAMS = {
    'integer': ['fnv', 'lanes', 'sha256', 'compress', 'sort'],
    'floating': ['nbody', 'mandelbrot', 'matrix', 'x87', 'libm'],
    'memory': ['chase64m', 'random64m', 'stream', 'memcpy'],
    'calls': ['fib', 'indirect', 'bytecode'],
    'system': ['getppid', 'stat', 'signals', 'fork-exec', 'fork', 'pipe', 'mmap', 'mprotect'],
    'applets': ['shell-loop', 'gzip', 'sha256sum', 'md5sum'],
}
BOOT = 'boot'
GETPPID_CALLS = 1_000_000  # as system.cc has it
ALL_ROWS = [row for rows in PROGRAMS.values() for row in rows] + [BOOT]


class Bar(NamedTuple):
    """What rows have to reach; "each" bars hold for every row, the others for their geometric mean."""
    title: str
    rows: list
    max_native: float | None = None  # vmm's time / native time
    min_tcg: float | None = None  # QEMU TCG's time / vmm's time
    each_native: bool = False
    each_tcg: bool = False
    max_one: float | None = None  # no row's vmm/native above this


BARS = [
    Bar('user compute, all rows', [row for name in ('integer', 'floating', 'memory', 'calls') for row in PROGRAMS[name]],
        2.2, 3.5),
    Bar('floating point and SSE', PROGRAMS['floating'], 1.6, 8, max_one=3.5),
    Bar('busybox shell loop', ['shell-loop'], 2.3, 6),
    Bar('gzip', ['gzip'], 2.4, 2.3),
    Bar('sha256sum, md5sum, memcpy, each', ['sha256sum', 'md5sum', 'memcpy'], 1.6, 2.5, True, True),
    Bar('random access over 64 MiB', ['random64m'], 5, 4),
    Bar('getppid, stat, signals', ['getppid', 'stat', 'signals'], 3, 2, each_tcg=True),
    Bar('fork+exec+wait, fork, mprotect, mmap', ['fork-exec', 'fork', 'mprotect', 'mmap'], 4, 3.5),
    Bar('pipe ping-pong', ['pipe'], 4, 2.5),
    Bar('boot to init', [BOOT], None, 3),
]


class Ratios(NamedTuple):
    """None where one of the two was not measured."""
    native: float | None  # vmm / native
    tcg: float | None  # TCG / vmm
    tcg_native: float | None = None  # TCG / native


def geometric_mean(values):
    return math.exp(sum(math.log(value) for value in values) / len(values))


def ratios(seconds):
    """Ratios of a row from its seconds, {'native': s, 'vmm': s, 'tcg': s} or fewer."""
    native, vmm, tcg = (seconds.get(side) for side in ('native', 'vmm', 'tcg'))
    return Ratios(*(over / under if over and under else None for over, under in ((vmm, native), (tcg, vmm), (tcg, native))))


def mean_ratios(rows, by_row):
    """The geometric means over rows; None where any of them lacks that ratio."""
    return Ratios(*(geometric_mean(values) if None not in values else None
                    for values in zip(*(by_row.get(row, Ratios(None, None)) for row in rows))))


def row_misses(row, row_ratios):
    """What the row misses by itself: every row beats TCG, some have bars of their own."""
    misses = []
    if row_ratios.tcg is not None and row_ratios.tcg <= 1:
        misses.append('TCG/vmm > 1')
    for bar in BARS:
        if row not in bar.rows:
            continue
        most = bar.max_native if bar.each_native else bar.max_one
        if most is not None and row_ratios.native is not None and row_ratios.native > most:
            misses.append(f'vmm/native <= {most:g}')
        if bar.each_tcg and row_ratios.tcg is not None and row_ratios.tcg < bar.min_tcg:
            misses.append(f'TCG/vmm >= {bar.min_tcg:g}')
    return misses


def bar_misses(bar, by_row):
    """What the rows of a bar miss, together or (where each has to reach it) one by one. None if a row
    that the bar needs was not measured: then there is nothing to say."""
    means = mean_ratios(bar.rows, by_row)
    if (bar.max_native is not None and means.native is None) or means.tcg is None:
        return None
    measured = [by_row[row] for row in bar.rows]
    misses = []
    if bar.max_native is not None:
        worst = max(row.native for row in measured) if bar.each_native else means.native
        if worst > bar.max_native:
            misses.append(f'vmm/native <= {bar.max_native:g}')
    if bar.max_one is not None and max(row.native for row in measured) > bar.max_one:
        misses.append(f'no row over {bar.max_one:g}')
    worst = min(row.tcg for row in measured) if bar.each_tcg else means.tcg
    if worst < bar.min_tcg:
        misses.append(f'TCG/vmm >= {bar.min_tcg:g}')
    return misses


def say_row_bar(row):
    """What the row has to reach by itself, in words."""
    parts = []
    for bar in BARS:
        most = bar.max_native if bar.each_native else bar.max_one
        if row in bar.rows and most is not None:
            parts.append(f'<= {most:g}')
        if row in bar.rows and bar.each_tcg:
            parts.append(f'>= {bar.min_tcg:g}')
    return ', '.join(parts or ['> 1'])


def say_bar(bar):
    """The bar in words, as "<= 1.6, >= 8; no row > 3.5"."""
    native = '' if bar.max_native is None else f'<= {bar.max_native:g}, '
    one = '' if bar.max_one is None else f'; no row > {bar.max_one:g}'
    return f'{native}>= {bar.min_tcg:g}{one}'


def clock_error(stamps):
    """How much faster the guest's clock ran than the host's, as a share of the time from the first to
    the last of the (guest seconds, host seconds), and that time."""
    (guest_first, host_first), (guest_last, host_last) = stamps[0], stamps[-1]
    span = host_last - host_first
    return ((guest_last - guest_first) / span - 1 if span > 0 else 0.0), span
