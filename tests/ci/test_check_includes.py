"""Tests of ci/check_includes.py: it must pass a clean tree, and it must be able to fail."""

import contextlib
import io
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', '..', 'ci'))
import check_includes  # noqa: E402


class CheckIncludesTest(unittest.TestCase):
    def setUp(self):
        self.tree = tempfile.TemporaryDirectory()
        self.addCleanup(self.tree.cleanup)
        self.write('src/vmm/core/base/types.h', '#pragma once\n')
        self.write('src/vmm/machine/machine.h', '#include "vmm/core/base/types.h"\n')

    def write(self, path, text):
        path = os.path.join(self.tree.name, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)

    def faults(self):
        return check_includes.check(self.tree.name)

    def assert_fault(self, *parts):
        faults = self.faults()
        self.assertEqual(len(faults), 1, faults)
        for part in parts:
            self.assertIn(part, faults[0])

    def test_a_clean_tree_has_no_fault(self):
        self.write('src/kvm/vcpu.cc', '#include <vector>\n#include "kvm/vcpu.h"\n#include "vmm/core/base/types.h"\n')
        self.write('src/kvm/vcpu.h', '#pragma once\n')
        self.write('src/vmm/machine/machine.cc', '#include "kvm/vcpu.h"\n#include "vmm/machine/machine.h"\n')
        self.write('src/vmm/config/config.cc', '#include <toml++/toml.h>\n')
        self.write('tests/unit/kvm/vcpu_test.cc', '#include "fake.h"\n#include "kvm/vcpu.h"\n')
        self.write('tests/unit/kvm/fake.h', '#pragma once\n')
        self.assertEqual(self.faults(), [])

    def test_core_may_not_include_the_assembly_half(self):
        self.write('src/vmm/core/bus/bus.cc', '\n#include "vmm/machine/machine.h"\n')
        self.assert_fault('src/vmm/core/bus/bus.cc:2:', 'vmm/machine/machine.h')

    def test_the_parts_may_not_include_each_other_or_the_assembly_half(self):
        for header in ('kvm/a.h', 'bt/a.h', 'virtio/a.h', 'legacy-devices/a.h'):
            self.write('src/' + header, '')
        for part in ('kvm', 'bt', 'virtio', 'legacy-devices'):
            for header in ('kvm/a.h', 'bt/a.h', 'virtio/a.h', 'legacy-devices/a.h', 'vmm/machine/machine.h'):
                with self.subTest(part=part, header=header):
                    self.write(f'src/{part}/a.cc', f'#include "{header}"\n')
                    if header.startswith(part):
                        self.assertEqual(self.faults(), [])
                    else:
                        self.assert_fault(f'src/{part}/a.cc:1:', header)
            self.write(f'src/{part}/a.cc', '')

    def test_guest_tools_see_the_protocol_headers_only(self):
        self.write('src/vmm/core/protocol/agent.h', '')
        self.write('src/guest-tools/agent.cc', '#include "vmm/core/protocol/agent.h"\n')
        self.assertEqual(self.faults(), [])
        self.write('src/guest-tools/agent.cc', '#include "vmm/core/base/types.h"\n')
        self.assert_fault('src/guest-tools/agent.cc:1:')

    def test_a_source_may_not_include_a_test(self):
        self.write('tests/unit/fake.h', '')
        self.write('src/vmm/machine/machine.cc', '#include "tests/unit/fake.h"\n')
        self.assert_fault('src/vmm/machine/machine.cc:1:', 'test header')

    def test_a_header_of_ours_is_named_from_src_and_in_quotes(self):
        self.write('src/vmm/machine/a.cc', '#include "machine.h"\n')
        self.assert_fault('src/vmm/machine/a.cc:1:', 'does not exist')
        self.write('src/vmm/machine/a.cc', '#include <vmm/machine/machine.h>\n')
        self.assert_fault('src/vmm/machine/a.cc:1:', 'with ""')

    def test_each_heavy_header_is_fenced(self):
        cases = {
            'toml++/toml.h': 'src/vmm/config/a.cc', 'CLI/CLI.hpp': 'src/vmm/cli/a.cc',
            'nlohmann/json.hpp': 'src/vmm/probe/a.cc', 'spdlog/spdlog.h': 'src/vmm/core/base/a.cc',
            'Zydis/Zydis.h': 'src/bt/isa/a.cc', 'xbyak/xbyak.h': 'src/bt/emit/a.cc',
            'libfdt.h': 'src/vmm/machine/a.cc',
        }
        for header, home in cases.items():
            with self.subTest(header=header):
                self.write(home, f'#include <{header}>\n')
                self.assertEqual(self.faults(), [])
                self.write('src/kvm/a.cc', f'#include <{header}>\n')
                self.assert_fault('src/kvm/a.cc:1:', header)
                self.write('src/kvm/a.cc', '')

    def test_json_stays_out_of_headers(self):
        self.write('src/vmm/cli/a.h', '#include <nlohmann/json.hpp>\n')
        self.assert_fault('src/vmm/cli/a.h:1:', 'nlohmann/json.hpp')

    def test_a_heavy_header_does_not_leak_through_a_header_of_ours(self):
        self.write('src/vmm/config/toml_file.h', '#include <toml++/toml.h>\n')
        self.write('src/vmm/machine/a.cc', '#include "vmm/machine/machine.h"\n#include "vmm/config/toml_file.h"\n')
        self.assert_fault('src/vmm/machine/a.cc:2:', 'vmm/config/toml_file.h -> toml++/toml.h')

    def test_headers_that_include_each_other_end(self):
        self.write('src/kvm/a.h', '#include "kvm/b.h"\n')
        self.write('src/kvm/b.h', '#include "kvm/a.h"\n')
        self.assertEqual(self.faults(), [])

    def test_a_file_has_at_most_500_lines_unless_it_is_a_table(self):
        self.write('src/kvm/long.cc', '\n' * 500)
        self.write('src/bt/isa/opcode_table.cc', '\n' * 2000)
        self.assertEqual(self.faults(), [])
        self.write('src/kvm/long.cc', '\n' * 501)
        self.assert_fault('src/kvm/long.cc:500:', '501 lines')

    def test_scripts_are_counted_too(self):
        self.write('ci/long', '#!/bin/sh\n' + '\n' * 500)
        self.assert_fault('ci/long:500:')

    def test_the_exit_status_says_whether_there_are_faults(self):
        self.assertEqual(check_includes.main(['', self.tree.name]), 0)
        self.write('src/kvm/a.cc', '#include <CLI/CLI.hpp>\n')
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(check_includes.main(['', self.tree.name]), 1)


if __name__ == '__main__':
    unittest.main()
