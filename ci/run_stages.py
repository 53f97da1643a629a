#!/usr/bin/env python3
"""The stages of ./ci/test after the packages are there: checks, builds, guests, tests.

    ci/run_stages.py [--full] [--only STAGE,STAGE] [--before NAME=SECONDS]

Prints the seconds of each stage, and last "N passed, N failed" over all runners.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time

from test_counts import Counts, read_meson_log, read_output

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), '..'))
TAIL_LINES = 120

# Three builds at most: a fourth belongs into one of these.
BUILDS = {
    'build': ('g++', ['-Ddebug=false', '-Doptimization=2']),
    'build-asan': ('clang++-19', ['-Db_sanitize=address,undefined', '-Db_lundef=false', '-Doptimization=1',
                                  '-Ddebug=true', '-Dcpp_args=-fno-sanitize-recover=all -gline-tables-only']),
    'build-tsan': ('clang++-19', ['-Db_sanitize=thread', '-Db_lundef=false', '-Doptimization=1',
                                  '-Ddebug=true', '-Dcpp_args=-gline-tables-only']),
}
SANITIZER_ENVIRONMENT = {
    # Tests send themselves fatal signals to see the terminal restored: no handlers of ASan's own.
    'ASAN_OPTIONS': 'detect_stack_use_after_return=1:strict_string_checks=1:handle_segv=0:'
                    'handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0',
    'UBSAN_OPTIONS': 'print_stacktrace=1',
    'TSAN_OPTIONS': 'halt_on_error=0:second_deadlock_stack=1',
}
CI_GUESTS = ['cloud', 'i686pae', 'tcc', 'debian']
ALL_GUESTS = ['cloud', 'generic', 'i686', 'i686pae', 'tcc', 'debian', 'debian-generic']


def run(command, environment=None, echo=False):
    """(succeeded, output) of a command; its output is shown if it fails, or always with echo."""
    process = subprocess.Popen(command, cwd=TOP, env=dict(os.environ, **(environment or {})), text=True,
                               errors='replace', stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if echo:
            print('  ' + line, end='', flush=True)
    succeeded = process.wait() == 0
    if not succeeded and not echo:
        print(''.join(f'  {line}' for line in lines[-TAIL_LINES:]), flush=True)
    return succeeded, ''.join(lines)


def build(directory):
    compiler, options = BUILDS[directory]
    if shutil.which('ccache'):
        compiler = f'ccache {compiler}'
    verb = ['setup', directory]
    if os.path.exists(os.path.join(TOP, directory, 'build.ninja')):
        verb = ['configure', directory]
    if not run(['meson', *verb, '-Dwerror=true', *options], {'CXX': compiler})[0]:
        return Counts(0, 1)
    target = ['unit_tests'] if directory == 'build-tsan' else ['all', 'meson-test-prereq']
    return Counts(0, 0 if run(['ninja', '-C', directory, *target])[0] else 1)


def meson_test(directory, *options, environment=None):
    log = os.path.join(TOP, directory, 'meson-logs', 'testlog.json')
    if os.path.exists(log):
        os.remove(log)
    succeeded, output = run(['meson', 'test', '-C', directory, '--no-rebuild', *options], environment)
    total = Counts()
    if os.path.exists(log):
        with open(log, encoding='utf-8') as lines:
            for name, counts, text in read_meson_log(lines):
                print(f'  {name}: {say(counts)}')
                if counts.failed:
                    print(''.join(f'    {line}\n' for line in text.splitlines()[-TAIL_LINES:]))
                total += counts
    if total == Counts() and 'No suitable tests defined' not in output:
        total = Counts(0, 0 if succeeded else 1)
    return total


def check():
    succeeded, output = run(['ci/check'], echo=True)
    return read_output(output, succeeded)


def guests(full):
    return Counts(0, 0 if run(['ci/guests', *(ALL_GUESTS if full else CI_GUESTS)], echo=True)[0] else 1)


def test_release(full):
    return meson_test('build', environment={'VMM_FULL': '1'} if full else None,
                      *(['--timeout-multiplier', '20'] if full else []))


def test_asan():
    # No Linux boots here: an interpreter under a sanitizer takes minutes for one.
    return meson_test('build-asan', '--no-suite', 'boot', environment=SANITIZER_ENVIRONMENT)


def test_tsan():
    succeeded, output = run(['build-tsan/unit_tests', '[threads]'], SANITIZER_ENVIRONMENT)
    return read_output(output, succeeded)


def bench():
    return Counts(0, 0 if run(['tests/bench/run'], echo=True)[0] else 1)


def say(counts):
    text = f'{counts.passed} passed, {counts.failed} failed'
    return text + (f', {counts.skipped} skipped' if counts.skipped else '')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--full', action='store_true', help='the long list of boots, and the benches')
    parser.add_argument('--only', help='these stages, separated by commas')
    parser.add_argument('--before', action='append', default=[], help='NAME=SECONDS of a stage that has run')
    arguments = parser.parse_args()
    full = arguments.full
    stages = {
        'check': check,
        'build': lambda: build('build'),
        'guests': lambda: guests(full),
        'test': lambda: test_release(full),
        'build-asan': lambda: build('build-asan'),
        'test-asan': test_asan,
        'build-tsan': lambda: build('build-tsan'),
        'test-tsan': test_tsan,
    }
    if full:
        stages['bench'] = bench
    needs = {'test': 'build', 'test-asan': 'build-asan', 'test-tsan': 'build-tsan', 'bench': 'build'}
    chosen = arguments.only.split(',') if arguments.only else list(stages)
    for name in chosen:
        if name not in stages:
            parser.error(f'no stage is called {name!r}: {", ".join(stages)}')

    total = Counts()
    broken = set()
    report = [f'{name:<12}{float(seconds):7.1f} s' for name, seconds in (entry.split('=') for entry in arguments.before)]
    for name in chosen:
        print(f'== {name}', flush=True)
        start = time.monotonic()
        if needs.get(name) in broken:
            counts = Counts(0, 1)
            print(f'  not run: {needs[name]} failed')
        else:
            counts = stages[name]()
        if counts.failed:
            broken.add(name)
        total += counts
        report.append(f'{name:<12}{time.monotonic() - start:7.1f} s   {say(counts)}')
        print(f'== {report[-1]}', flush=True)
    print('\nStages:\n' + '\n'.join('  ' + line for line in report))
    if total.skipped:
        print(f'{total.skipped} skipped; each says why above or in build*/meson-logs/testlog.txt')
    print(f'{total.passed} passed, {total.failed} failed', flush=True)
    return 1 if total.failed else 0


if __name__ == '__main__':
    sys.exit(main())
