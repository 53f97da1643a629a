"""Tests of ci/deps where it must not install: other systems, and Debian without root."""

import os
import subprocess
import tempfile
import unittest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))


class DepsTest(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)

    def write(self, name, text):
        path = os.path.join(self.place.name, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        return path

    def run_deps(self, *options, **environment):
        # An apt-get that tells on itself stands first in PATH.
        self.write('bin/apt-get', '#!/bin/sh\necho "$@" >> "$(dirname "$0")/apt-was-called"\n')
        os.chmod(os.path.join(self.place.name, 'bin/apt-get'), 0o755)
        env = dict(os.environ, PATH=f'{self.place.name}/bin:{os.environ["PATH"]}', **environment)
        return subprocess.run([f'{TOP}/ci/deps', *options], env=env, text=True, capture_output=True, check=False)

    def apt_calls(self):
        path = os.path.join(self.place.name, 'bin/apt-was-called')
        if not os.path.exists(path):
            return ''
        with open(path, encoding='utf-8') as file:
            return file.read()

    def debian(self):
        return self.write('os-release', 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n')

    def no_packages(self):
        self.write('dpkg/status', '')
        return os.path.join(self.place.name, 'dpkg')

    def test_without_root_it_names_the_command_and_changes_nothing(self):
        result = self.run_deps('--test', VMM_DEPS_OS_RELEASE=self.debian(), VMM_DEPS_UID='1000',
                               VMM_DEPS_ADMINDIR=self.no_packages())
        self.assertEqual(result.returncode, 1)
        self.assertIn('needs root', result.stderr)
        self.assertRegex(result.stderr, r'sudo apt-get .*install .*\bmeson\b.*\bclang-19\b')
        self.assertEqual(self.apt_calls(), '')

    def test_on_another_system_it_names_what_is_missing_and_changes_nothing(self):
        fedora = self.write('os-release', 'PRETTY_NAME="Fedora Linux 41"\nID=fedora\nVERSION_ID=41\n')
        self.write('bin/g++', '#!/bin/sh\nexit 1\n')  # a compiler that finds no header
        os.chmod(os.path.join(self.place.name, 'bin/g++'), 0o755)
        result = self.run_deps(VMM_DEPS_OS_RELEASE=fedora, VMM_DEPS_UID='0')
        self.assertEqual(result.returncode, 1)
        self.assertIn('this is Fedora Linux 41', result.stderr)
        self.assertIn('Nothing was changed', result.stderr)
        self.assertIn('<fmt/format.h>, in Debian\'s libfmt-dev', result.stderr)
        self.assertEqual(self.apt_calls(), '')

    def test_an_older_debian_is_another_system(self):
        old = self.write('os-release', 'PRETTY_NAME="Debian 11"\nID=debian\nVERSION_ID="11"\n')
        self.run_deps(VMM_DEPS_OS_RELEASE=old, VMM_DEPS_UID='0', VMM_DEPS_ADMINDIR=self.no_packages())
        self.assertEqual(self.apt_calls(), '')

    def test_root_on_debian_installs_what_is_missing_and_says_so(self):
        result = self.run_deps(VMM_DEPS_OS_RELEASE=self.debian(), VMM_DEPS_UID='0',
                               VMM_DEPS_ADMINDIR=self.no_packages())
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r'deps: installing .*\bmeson\b')
        update, install = self.apt_calls().splitlines()
        self.assertIn('update', update)
        self.assertRegex(install, r'install .*\bmeson\b')
        self.assertNotIn('clang-19', install)

    def test_an_unknown_option_is_refused(self):
        self.assertEqual(self.run_deps('--tset').returncode, 64)


if __name__ == '__main__':
    unittest.main()
