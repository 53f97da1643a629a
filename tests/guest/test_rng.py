"""Debian's cloud kernel reads random bytes from the virtio entropy device."""

import re
import unittest

from cloud_guest import *


class Rng(CloudTest):
    def boot(self, rng, engine=ENGINES[0]):
        return self.boot_cloud(f"rng = {rng}\n", engine)

    def read_random(self, guest):
        """The MD5 of 64 KiB of /dev/hwrng, read in one piece and in many."""
        self.run_command(guest, "dd if=/dev/hwrng bs=100 count=50 2>/dev/null | wc -c", r"\n5000\r")
        return self.run_command(guest, "head -c 65536 /dev/hwrng | tee /tmp/r | md5sum; wc -c </tmp/r",
                                r"\n([0-9a-f]{32})  -\r\n65536\r")[1]

    def test_the_guest_reads_random_bytes(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                guest = self.boot("true", engine)
                self.await_shell(guest)
                self.run_command(guest, "cat /sys/class/misc/hw_random/rng_current", r"\nvirtio_rng\.0\r")
                one, other = self.read_random(guest), self.read_random(guest)
                self.assertNotEqual(one, other)
                # What two runs over the same bytes could not be packed to.
                self.run_command(guest, "test $(gzip </tmp/r | wc -c) -gt 65536 && echo dense", r"\ndense\r")
                self.power_off(guest)
                guest.stop()

    def test_without_the_key_there_is_none(self):
        guest = self.boot("false")
        self.await_shell(guest)
        self.run_command(guest, "cat /sys/class/misc/hw_random/rng_current", r"\nnone\r")
        self.power_off(guest)

    def test_a_suspended_guest_goes_on_reading(self):
        guest = self.boot("true")
        self.await_shell(guest)
        self.read_random(guest)
        guest.send("cat /dev/hwrng >/dev/null & echo begun\r")
        guest.expect(r"\nbegun\r")
        guest.expect("guest# ")
        guest.signal(signal.SIGUSR1)
        self.assert_ends(guest, SUSPENDED, 60)
        guest.stop()
        guest = self.boot("true")
        guest.wait_for_message("resumed from")
        # What is typed ahead of the prompt is not always shown whole.
        self.run_command(guest, "kill %1")
        self.read_random(guest)
        self.power_off(guest)


if __name__ == "__main__":
    unittest.main()
