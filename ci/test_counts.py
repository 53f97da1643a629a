"""Reads from the output of a test runner how many test cases passed and failed."""

import json
import re
from typing import NamedTuple


class Counts(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other):
        return Counts(*(a + b for a, b in zip(self, other)))


SUMMARY = re.compile(r'^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$', re.M)
CATCH_ALL_PASSED = re.compile(r'^All tests passed \(\d+ assertions? in (\d+) test cases?\)', re.M)
CATCH_SUMMARY = re.compile(r'^test cases: *(\d+)(.*)$', re.M)
CATCH_NONE = re.compile(r'^No tests ran|^No test cases matched', re.M)
UNITTEST_RAN = re.compile(r'^Ran (\d+) tests? in ', re.M)
UNITTEST_RESULT = re.compile(r'^(?:OK|FAILED)(?: \((.*)\))?\s*$', re.M)


def last(pattern, text):
    match = None
    for match in pattern.finditer(text):
        pass
    return match


def read_unittest(text):
    ran, result = last(UNITTEST_RAN, text), last(UNITTEST_RESULT, text)
    if not ran or not result:
        return None
    kinds = dict(re.findall(r'([a-z ]+)=(\d+)', result.group(1) or ''))
    kinds = {name.strip(): int(count) for name, count in kinds.items()}
    failed = sum(kinds.get(name, 0) for name in ('failures', 'errors', 'unexpected successes'))
    # One test can fail more than once (subtests, clean-up) and an error may lie outside any test.
    skipped = kinds.get('skipped', 0)
    return Counts(max(int(ran.group(1)) - failed - skipped, 0), failed, skipped)


def read_catch2(text):
    match = last(CATCH_ALL_PASSED, text)
    if match:
        return Counts(int(match.group(1)))
    match = last(CATCH_SUMMARY, text)
    if match:
        parts = {name: int(count) for count, name in re.findall(r'(\d+) (passed|failed)', match.group(2))}
        return Counts(int(match.group(1)) - parts.get('failed', 0), parts.get('failed', 0))
    return Counts() if CATCH_NONE.search(text) else None


def read_output(text, succeeded):
    """Counts of one runner: Catch2's, unittest's, or our own last line "N passed, N failed".

    A runner that prints none of these is one test case. One that ended badly has failed at least
    once, whatever it printed.
    """
    summary = last(SUMMARY, text)
    if summary:
        counts = Counts(*(int(group or 0) for group in summary.groups()))
    else:
        counts = read_unittest(text) or read_catch2(text)
    if counts is None:
        counts = Counts(1, 0) if succeeded else Counts(0, 1)
    elif not succeeded and counts.failed == 0:
        counts += Counts(0, 1)
    return counts


def read_meson_log(lines):
    """[(name, counts, output)] of meson's testlog.json, one JSON object a line."""
    results = []
    for line in lines:
        test = json.loads(line)
        output = (test.get('stdout') or '') + '\n' + (test.get('stderr') or '')
        result = test['result']
        if result == 'SKIP':
            counts = Counts(0, 0, 1)
        else:
            counts = read_output(output, result in ('OK', 'EXPECTEDFAIL'))
        results.append((test['name'], counts, output))
    return results
