"""Debian's cloud kernel reads random bytes from the virtio entropy device."""

import unittest
import zlib

from cloud_guest import *


class Rng(CloudTest):
    """On the console where the guest is suspended."""

    def test_the_guest_reads_random_bytes(self):
        """In one piece and in many."""
        script = """
            cat /sys/class/misc/hw_random/rng_current
            dd if=/dev/hwrng bs=100 count=50 2>/dev/null
            head -c 65536 /dev/hwrng
            head -c 65536 /dev/hwrng"""
        for engine in ENGINES:
            with self.subTest(engine=engine):
                name, _, data = self.run_in_guest(script, "rng = true\n", engine).partition(b"\n")
                self.assertEqual(name, b"virtio_rng.0")
                self.assertEqual(len(data), 5000 + 2 * 65536)
                self.assertNotEqual(data[-65536:], data[-2 * 65536:-65536])
                # What two runs over the same bytes could not be packed to.
                self.assertGreater(len(zlib.compress(data, 9)), len(data))

    def test_without_the_key_there_is_none(self):
        self.assertEqual(self.run_in_guest("cat /sys/class/misc/hw_random/rng_current", "rng = false\n"), b"none\n")

    def test_a_suspended_guest_goes_on_reading(self):
        guest = self.boot_cloud("rng = true\n")
        self.await_shell(guest)
        self.run_command(guest, "head -c 65536 /dev/hwrng | wc -c", r"\n65536\r")
        guest.send("cat /dev/hwrng >/dev/null & echo begun\r")
        guest.expect(r"\nbegun\r")
        guest.expect("guest# ")
        guest.signal(signal.SIGUSR1)
        self.assert_ends(guest, SUSPENDED, 60)
        guest.stop()
        guest = self.boot_cloud("rng = true\n")
        guest.wait_for_message("resumed from")
        # What is typed while the shell asks its terminal something is not always shown whole.
        guest.send("kill %1; echo gone-$?\r")
        guest.expect(r"\ngone-0\r", 60)
        guest.send("head -c 65536 /dev/hwrng | wc -c\r")
        guest.expect(r"\n65536\r", 60)
        guest.expect("guest# ", 60)
        self.power_off(guest)


if __name__ == "__main__":
    unittest.main()
