"""Tests of what tests/bench makes of its measurements."""

import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'bench'))
import bars  # noqa: E402
import devices  # noqa: E402
import translator  # noqa: E402
from bars import Bar, Ratios  # noqa: E402
from bench_programs import END, Results, commands, read_results, require  # noqa: E402
from timed_process import TimedProcess  # noqa: E402


class BarsTest(unittest.TestCase):
    def test_every_row_has_a_bar_and_every_bar_has_rows(self):
        with_bar = {row for bar in bars.BARS for row in bar.rows}
        self.assertEqual(with_bar, set(bars.ALL_ROWS))
        self.assertEqual(len(bars.ALL_ROWS), len(set(bars.ALL_ROWS)))

    def test_a_mean_is_geometric(self):
        self.assertAlmostEqual(bars.geometric_mean([1, 2, 4, 8]), 2 ** 1.5)

    def test_ratios_say_slower_than_native_and_quicker_than_tcg(self):
        self.assertEqual(bars.ratios({'native': 0.5, 'vmm': 1.0, 'tcg': 6.0}), Ratios(2, 6, 12))
        self.assertEqual(bars.ratios({'vmm': 1.0, 'tcg': 6.0}), Ratios(None, 6))
        self.assertEqual(bars.ratios({'native': 0.5, 'tcg': 6.0}), Ratios(None, None, 12))

    def test_a_row_as_slow_as_tcg_misses(self):
        self.assertEqual(bars.row_misses('fib', Ratios(1, 1.0)), ['TCG/vmm > 1'])
        self.assertEqual(bars.row_misses('fib', Ratios(50, 1.01)), [])

    def test_a_row_with_bars_of_its_own_has_to_meet_them(self):
        self.assertEqual(bars.row_misses('memcpy', Ratios(1.7, 2.4)), ['vmm/native <= 1.6', 'TCG/vmm >= 2.5'])
        self.assertEqual(bars.row_misses('x87', Ratios(3.6, 9)), ['vmm/native <= 3.5'])
        self.assertEqual(bars.row_misses('x87', Ratios(3.4, 9)), [])
        self.assertEqual(bars.row_misses('stat', Ratios(9, 1.9)), ['TCG/vmm >= 2'])

    def test_a_bar_holds_for_the_mean_or_for_each(self):
        by_row = {'a': Ratios(1, 1), 'b': Ratios(4, 16)}
        self.assertEqual(bars.bar_misses(Bar('', ['a', 'b'], 2, 4), by_row), [])
        self.assertEqual(bars.bar_misses(Bar('', ['a', 'b'], 1.9, 4.1), by_row), ['vmm/native <= 1.9', 'TCG/vmm >= 4.1'])
        self.assertEqual(bars.bar_misses(Bar('', ['a', 'b'], 2, 4, True), by_row), ['vmm/native <= 2'])
        self.assertEqual(bars.bar_misses(Bar('', ['a', 'b'], 2, 4, False, True), by_row), ['TCG/vmm >= 4'])
        self.assertEqual(bars.bar_misses(Bar('', ['a', 'b'], 2, 4, max_one=3.5), by_row), ['no row over 3.5'])

    def test_a_bar_says_nothing_without_all_its_rows(self):
        self.assertIsNone(bars.bar_misses(Bar('', ['a', 'b'], 2, 4), {'a': Ratios(9, 1)}))
        self.assertIsNone(bars.bar_misses(Bar('', ['a'], 2, 4), {'a': Ratios(None, 9)}))
        self.assertEqual(bars.bar_misses(Bar('', ['a'], None, 4), {'a': Ratios(None, 9)}), [])

    def test_a_clock_that_runs_slow_is_seen(self):
        error, span = bars.clock_error([(5.0, 100.0), (50.0, 150.0), (104.0, 200.0)])
        self.assertAlmostEqual(error, -0.01)
        self.assertEqual(span, 100.0)


class ReadResultsTest(unittest.TestCase):
    def read(self, *lines):
        return read_results((float(i), i * 0.5, line) for i, line in enumerate(lines))

    def test_rows_clocks_and_other_lines_are_told_apart(self):
        results = self.read('[    0.1] Linux', 'bench: clock 1.5', 'bench: row fib 0.250000 00000000000000aa 2.500000 0.2\r',
                            '[    2.6] watchdog: BUG: soft lockup', '[ 2.7] bench: row fib 0.500000 00000000000000aa 3.5 0.2',
                            END, 'bench: row fib 9.0 00000000000000ab 9.0 0.2')
        self.assertEqual(results.seconds, {'fib': [0.25, 0.5]})
        self.assertEqual(results.cpu, {'fib': [0.5, 1.0]})
        self.assertEqual(results.checksums, {'fib': '00000000000000aa'})
        self.assertEqual(results.clock, [(1.5, 1.0), (2.5, 2.0), (3.5, 4.0)])
        self.assertEqual(results.remarks, ['[    2.6] watchdog: BUG: soft lockup'])

    def test_a_program_on_the_host_says_its_cpu_time_itself(self):
        results = read_results([(0.0, None, 'bench: clock 1.0'), (0.0, None, 'bench: row fib 0.3 00000000000000aa 1.0 0.2')])
        self.assertEqual(results.cpu, {'fib': [0.2]})

    def test_a_checksum_that_changes_between_repetitions_fails(self):
        with self.assertRaisesRegex(RuntimeError, 'fib: checksum 00000000000000ab'):
            self.read('bench: row fib 0.2 00000000000000aa 1.0 0.2', 'bench: row fib 0.2 00000000000000ab 2.0 0.2')

    def test_a_program_that_fails_or_garbles_a_line_fails_the_bench(self):
        for line in ('bench: failed integer: status 139', 'bench: row fib 0.2 00000000', 'bench: row fib -0.2 00000000000000aa 1.0 0.2'):
            with self.assertRaisesRegex(RuntimeError, 'bench: '):
                self.read(line)

    def test_a_row_that_is_short_of_repetitions_fails(self):
        results = self.read('bench: row fib 0.2 00000000000000aa 1.0 0.2')
        self.assertIs(require(results, ['fib', 'boot'], 1), results)
        with self.assertRaisesRegex(RuntimeError, 'fib: 1 results of 3'):
            require(results, ['fib'], 3)
        with self.assertRaisesRegex(RuntimeError, 'sort: 0 results of 1'):
            require(results, ['fib', 'sort'], 1)

    def test_a_program_measures_only_the_rows_asked_for(self):
        self.assertEqual(commands(['fib', 'boot', 'pipe', 'getppid'], 3, 0.5),
                         [('calls', ['--runs', '3', '--scale', '0.5', 'fib']),
                          ('system', ['--runs', '3', '--scale', '0.5', 'getppid', 'pipe'])])


class DevicesTest(unittest.TestCase):
    def test_every_row_has_a_bar(self):
        self.assertEqual(set(devices.MIN_TCG), {*devices.ROWS, devices.LATENCY})

    def test_a_row_below_its_bar_misses(self):
        self.assertTrue(devices.misses('read-128k', 1.99))
        self.assertFalse(devices.misses('read-128k', 2))
        self.assertFalse(devices.misses('read-128k', None))

    def test_latencies_are_read_beside_the_rows(self):
        row = 'bench: row random-4k-1 0.5 00000000000000aa 2.0 0.2'
        lines = ['bench: clock 1.5', 'devices: latency 0.000002000', row, END]
        results, latencies = devices.read(((0.0, 0.0, line) for line in lines), ['random-4k-1'], 1)
        self.assertEqual(results.seconds, {'random-4k-1': [0.5]})
        self.assertEqual(latencies, [2e-6])

    def test_figures_are_said_as_rates_of_what_was_moved(self):
        self.assertEqual(devices.say('read-1m', 2.0, 1), '256 MiB/s')
        self.assertEqual(devices.say('random-4k-1', 0.5, 0.1), '2.0 k/s')
        self.assertEqual(devices.say(devices.LATENCY, 25e-6, 1), '25.0 us')
        self.assertEqual(devices.say('read-1m', None, 1), '-')


class CompareTest(unittest.TestCase):
    def results(self, checksum, *seconds):
        return Results({'fib': list(seconds)}, {'fib': [second / 2 for second in seconds]}, {'fib': checksum}, [], [])

    def test_the_median_counts(self):
        sides = {'native': self.results('1', 3.0, 1.0, 1.1), 'vmm': self.results('1', 2.0, 9.0, 2.5)}
        self.assertEqual(translator.compare(sides, {}, ['fib']), ({'fib': {'native': 1.1, 'vmm': 2.5}}, []))
        self.assertEqual(translator.compare(sides, {}, ['fib'], cpu_time=True)[0], {'fib': {'native': 0.55, 'vmm': 1.25}})

    def test_a_checksum_that_differs_between_the_sides_is_named(self):
        sides = {'native': self.results('1', 1.0), 'tcg': self.results('2', 1.0)}
        self.assertEqual(translator.compare(sides, {}, ['fib'])[1], ['fib'])

    def test_rows_are_chosen_by_patterns(self):
        self.assertEqual(translator.chosen_rows('fork*,boot'), ['fork-exec', 'fork', 'boot'])
        with self.assertRaisesRegex(RuntimeError, 'no row'):
            translator.chosen_rows('nothing')


class TimedProcessTest(unittest.TestCase):
    def test_lines_come_one_by_one_and_the_end_of_the_program_is_an_error(self):
        with TimedProcess(['printf', 'one\\ntwo\\nunfinished']) as process:
            lines = process.lines(10)
            self.assertEqual([next(lines)[1], next(lines)[1]], ['one', 'two'])
            with self.assertRaisesRegex(RuntimeError, 'ended without next line'):
                next(lines)

    def test_each_line_has_the_time_of_its_arrival(self):
        with TimedProcess(['sh', '-c', 'echo one; read go; echo two']) as process:
            lines = process.lines(10)
            first = next(lines)[0]
            time.sleep(0.05)
            process.process.stdin.write(b'go\n')
            process.process.stdin.flush()
            self.assertGreaterEqual(next(lines)[0] - first, 0.05)

    def test_cpu_time_counts_work_and_not_waiting(self):
        with TimedProcess(['sh', '-c', 'sleep 0.1; echo one; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; '
                           'echo two; read go']) as process:
            lines = process.lines(60)
            next(lines)
            self.assertLess(process.cpu_seconds(), 0.1)
            next(lines)
            self.assertGreater(process.cpu_seconds(), 0.005)

    def test_silence_has_a_limit(self):
        with TimedProcess(['sleep', '60']) as process:
            with self.assertRaisesRegex(RuntimeError, 'no next line in time'):
                next(process.lines(0.1))


if __name__ == '__main__':
    unittest.main()
