"""Linux with a damaged kernel or initrd: what the kernel makes of it is the verdict."""

import os
import random
import time
import unittest

from bad_input import SEED, BadInputTest
from vmm_guest import *

BOOT_SECONDS = 400  # for slow and busy CI machines


class BadBoots(BadInputTest):
    def setUp(self):
        super().setUp()
        self.random = random.Random(SEED)
        with open(guest_file("cloud-vmlinuz"), "rb") as kernel:
            self.kernel = kernel.read()
        with open(guest_file("cloud-initrd"), "rb") as initrd:
            self.initrd = initrd.read()

    def boot(self, kernel=None, initrd=None, append=""):
        """To the end; the guest, and its exit code."""
        started = time.monotonic()
        guest, code = self.run_to_verdict(
            f'kernel = "{self.write("kernel", kernel or self.kernel)}"\n'
            f'initrd = "{self.write("initrd", initrd or self.initrd)}"\n'
            f'append = "console=ttyS0 panic=-1 {append}"\nmemory = "256M"\n'
            f'accel = "{ENGINES[0]}"\n', BOOT_SECONDS)
        print(f"{self._testMethodName}: {time.monotonic() - started:.1f} s", flush=True)
        return guest, code

    def assert_panics(self, initrd, complaint):
        guest, code = self.boot(initrd=initrd)
        guest.expect(complaint)
        self.assertEqual(code, PANIC, guest.messages)
        reason = ("Kernel panic - not syncing: VFS: Unable to mount root fs on "
                  "unknown-block(0,0)")
        self.assertEqual(guest.result["reason"], reason)
        self.assertEqual(guest.messages,
                         f"vmm: engine: {ENGINES[0]}: as asked for\nvmm: {reason}\n")

    def test_an_initrd_that_is_cut_in_half_panics(self):
        self.assert_panics(self.initrd[:len(self.initrd) // 2], "Initramfs unpacking failed")

    def test_an_initrd_of_random_bytes_panics(self):
        self.assert_panics(self.random.randbytes(300_000), "Initramfs unpacking failed")

    def test_a_kernel_whose_middle_is_corrupt_halts_for_good(self):
        kernel = bytearray(self.kernel)
        middle = len(kernel) // 2
        kernel[middle:middle + 65536] = self.random.randbytes(65536)
        guest, code = self.boot(kernel, append="earlyprintk=serial")
        guest.expect("-- System halted")
        self.assertEqual(code, HANG, guest.messages)

    def test_a_kernel_of_any_length_is_refused_unless_it_is_whole(self):
        # Behind what the header tells of there may be a signature, which nobody needs.
        whole = ((self.kernel[0x1f1] or 4) + 1) * 512 + 16 * int.from_bytes(
            self.kernel[0x1f4:0x1f8], "little")
        path = self.write("kernel", self.kernel)
        sizes = [whole - 16, whole - 4096, whole // 2, 100_000, 32768, 16384, 4096, 1024, 1023,
                 0x290, 0x202, 512, 511, 1] + [self.random.randrange(1, whole - 16)
                                               for _ in range(10)]
        for size in sorted(set(sizes), reverse=True):
            with self.subTest(size=size):
                os.truncate(path, size)
                guest, code = self.run_to_verdict(f'kernel = "{path}"\naccel = "interpreter"\n')
                self.assertEqual(code, CONFIG_INVALID, guest.messages)
                if size >= 1024:
                    self.assertEqual(guest.messages, f"vmm: kernel {path}: truncated: {size} bytes "
                                                     f"of {whole}\n")
                guest.stop()

    @full_only
    def test_an_initrd_that_lacks_its_last_bytes_boots(self):
        guest = self.start_watched(
            f'kernel = "{self.write("kernel", self.kernel)}"\n'
            f'initrd = "{self.write("initrd", self.initrd[:-200])}"\n'
            f'append = "console=ttyS0"\nmemory = "256M"\naccel = "{ENGINES[0]}"\n')
        guest.expect("Initramfs unpacking failed", BOOT_SECONDS)
        guest.expect("guest# ", BOOT_SECONDS)
        guest.send("poweroff -f\r")
        self.assert_ends(guest, SUCCESS, 60)
        self.assert_left_nothing(guest)


if __name__ == "__main__":
    unittest.main(verbosity=2)
