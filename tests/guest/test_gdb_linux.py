#!/usr/bin/env python3
"""Debugs a stock kernel with the system's GDB. Environment as in test_gdb.py."""

import os
import select
import signal
import time
import unittest

from test_gdb import GdbTest
from vmm_guest import guest_file

BOOT_SECONDS = 300  # to the kernel's first words


class TestStockKernel(GdbTest):
    def wait_for_output(self, text):
        seen = b''
        end = time.monotonic() + BOOT_SECONDS
        while text not in seen:
            self.assertLess(time.monotonic(), end, seen)
            if select.select([self.vmm.stdout], [], [], 1)[0]:
                piece = os.read(self.vmm.stdout.fileno(), 4096)
                self.assertTrue(piece, 'vmm ended')
                seen += piece

    def test_a_kernel_is_stopped_at_its_entry_and_in_its_run(self):
        kernel, initrd = guest_file('cloud-vmlinuz'), guest_file('cloud-initrd')
        self.start('--initrd', initrd, '--append', 'console=ttyS0 earlyprintk=ttyS0 nokaslr', '--memory', '256M',
                   '--cpus', '2', kernel=kernel)
        texts = self.gdb('p/x $rip', 'p/x $efer', 'x/2i $rip', 'hbreak *($rip + 1)', 'stepi', 'p/x $rip',
                         'monitor info cpus', 'delete')
        entry = self.value(texts[0])
        self.assertEqual(entry, 0x1000000)  # startup_64 of the unpacked kernel, where it was linked
        self.assertEqual(self.value(texts[1]) & 0x400, 0x400)
        self.assertRegex(texts[2], r'=> 0x[0-9a-f]+:\s+\w+')
        self.assertGreater(self.value(texts[5]), entry)
        self.assertRegex(texts[6], r'CPU 1 \(thread 2\): waits for SIPI')
        # GDB has left, so the kernel boots. Stopped in its midst, it is watched as it uses its stack.
        self.wait_for_output(b'Linux version')
        texts = self.gdb('info threads', 'p/x $rip', 'p/x $cr3', 'x/2i $rip', 'stepi', 'p/x $rsp', 'watch -l *(long*)($rsp - 8)',
                         'continue', 'x/8xb $rip')
        self.assertIn('CPU 1', texts[0])
        self.assertGreater(self.value(texts[1]), 0xffffffff80000000)
        self.assertRegex(texts[3], r'=> 0x[0-9a-f]+:\s+\w+')
        self.assertIn('Hardware watchpoint', texts[7])
        self.assertIn('New value', texts[7])
        self.vmm.send_signal(signal.SIGQUIT)
        self.assert_exit(87)


if __name__ == '__main__':
    unittest.main()
