"""Tests of ci/check_docs.py."""

import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', '..', 'ci'))
import check_docs  # noqa: E402

EXIT_CODES = '''#define VMM_EXIT_CODES(X) \\
  X(Success, 0, "the guest powered off")  \\
  X(GuestReset, 86, "on_reboot is \\"exit\\"")
'''
TABLE = '| code | name | meaning |\n|---|---|---|\n| 0 | Success | the guest powered off |\n'


class CheckDocsTest(unittest.TestCase):
    def setUp(self):
        self.tree = tempfile.TemporaryDirectory()
        self.addCleanup(self.tree.cleanup)

    def write(self, path, text):
        path = os.path.join(self.tree.name, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)

    def faults(self):
        return check_docs.check(self.tree.name)

    def test_links_to_files_folders_headings_and_hosts_are_fine(self):
        self.write('README.md', '# Vmm\n[a](docs/a.md) [b](docs) [c](docs/a.md#how-it-works) [d](https://example.org) [e](#vmm)\n')
        self.write('docs/a.md', '## How `it` works\n')
        self.assertEqual(self.faults(), [])

    def test_a_link_to_a_missing_file_is_a_fault(self):
        self.write('docs/a.md', '\n[x](b.md)\n')
        self.assertEqual(self.faults(), ['docs/a.md:2: the link b.md leads nowhere'])

    def test_a_link_to_a_missing_heading_is_a_fault(self):
        self.write('a.md', '# One\n[x](#two)\n')
        self.assertEqual(self.faults(), ['a.md:2: a.md has no heading #two'])

    def test_code_is_not_searched_for_links(self):
        self.write('a.md', '```\n[x](b.md)\n```\n')
        self.assertEqual(self.faults(), [])

    def test_a_tag_of_a_manual_is_defined(self):
        self.write('docs/specs.md', '- `[16550]` the data sheet\n')
        self.write('src/a.cc', '// [16550] 8.6.4 says so\nint a = b[N] + 1;\n')
        self.assertEqual(self.faults(), [])
        self.write('src/a.cc', '\n// [SDM 3A] 4.7\n')
        self.assertEqual(self.faults(), ['src/a.cc:2: the tag [SDM 3A] is not defined in docs/specs.md'])

    def test_the_table_of_exit_codes_says_what_the_source_says(self):
        self.write('src/vmm/core/base/exit_code.h', EXIT_CODES)
        self.assertIn('is missing', self.faults()[0])
        self.write('docs/exit-codes.md', TABLE + '| 86 | GuestReset | on_reboot is "exit" |\n')
        self.assertEqual(self.faults(), [])

    def test_a_missing_a_changed_and_a_needless_row_are_faults(self):
        self.write('src/vmm/core/base/exit_code.h', EXIT_CODES)
        self.write('docs/exit-codes.md', TABLE.replace('powered off', 'ended') + '| 87 | X | y |\n')
        faults = '\n'.join(self.faults())
        self.assertIn('exit-codes.md:3: src/vmm/core/base/exit_code.h says "the guest powered off"', faults)
        self.assertIn('has no row for 86', faults)
        self.assertIn('exit-codes.md:4: src/vmm/core/base/exit_code.h has no 87', faults)


if __name__ == '__main__':
    unittest.main()
