"""Tests of ci/test_counts.py, on what the runners really print."""

import json
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', '..', 'ci'))
from test_counts import Counts, read_meson_log, read_output  # noqa: E402


class TestCountsTest(unittest.TestCase):
    def test_catch2_counts_test_cases_and_not_assertions(self):
        text = '=====\nAll tests passed (79568 assertions in 236 test cases)\n\n'
        self.assertEqual(read_output(text, True), Counts(236, 0))
        self.assertEqual(read_output('All tests passed (1 assertion in 1 test case)\n', True), Counts(1, 0))

    def test_catch2_failures_are_counted(self):
        text = 'test cases: 12 | 10 passed | 2 failed\nassertions: 40 | 37 passed | 3 failed\n'
        self.assertEqual(read_output(text, False), Counts(10, 2))

    def test_a_crash_under_catch2_is_a_failure(self):
        text = 'FAILED:\nSIGSEGV\ntest cases: 7 | 6 passed | 1 failed\n'
        self.assertEqual(read_output(text, False), Counts(6, 1))
        self.assertEqual(read_output('All tests passed (2 assertions in 2 test cases)\n==ERROR: leak\n', False),
                         Counts(2, 1))

    def test_catch2_without_a_match_ran_nothing(self):
        self.assertEqual(read_output("No test cases matched '[threads]'\n===\nNo tests ran\n", True), Counts(0, 0))

    def test_unittest_counts_skips_apart(self):
        text = 'ss.\nRan 3 tests in 0.010s\n\nOK (skipped=2)\n'
        self.assertEqual(read_output(text, True), Counts(1, 0, 2))
        self.assertEqual(read_output('Ran 3 tests in 1s\n\nOK\n', True), Counts(3, 0))

    def test_unittest_failures_and_errors_are_counted(self):
        text = 'Ran 9 tests in 2.1s\n\nFAILED (failures=1, errors=2, skipped=1)\n'
        self.assertEqual(read_output(text, False), Counts(5, 3, 1))

    def test_our_own_last_line_is_read(self):
        self.assertEqual(read_output('1 passed, 1 failed\nx\n10 passed, 0 failed\n', True), Counts(10, 0))
        self.assertEqual(read_output('10 passed, 2 failed, 3 skipped\n', False), Counts(10, 2, 3))

    def test_a_runner_that_says_nothing_is_one_test(self):
        self.assertEqual(read_output('', True), Counts(1, 0))
        self.assertEqual(read_output('Killed', False), Counts(0, 1))

    def test_a_bad_end_is_a_failure_whatever_was_printed(self):
        self.assertEqual(read_output('10 passed, 0 failed\n', False), Counts(10, 1))

    def test_meson_log_is_summed_by_test(self):
        lines = [json.dumps({'name': 'unit', 'result': 'OK', 'stdout': 'All tests passed (9 assertions in 4 test cases)'}),
                 json.dumps({'name': 'guest', 'result': 'TIMEOUT', 'stdout': '', 'stderr': ''}),
                 json.dumps({'name': 'kvm', 'result': 'SKIP', 'stdout': 'no KVM'})]
        self.assertEqual([counts for _, counts, _ in read_meson_log(lines)],
                         [Counts(4, 0), Counts(0, 1), Counts(0, 0, 1)])


if __name__ == '__main__':
    unittest.main()
