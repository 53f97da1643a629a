"""Deterministic runs: a whole kernel boot, twice, step for step the same."""

import os
import unittest

from vmm_guest import *

STEP = 1_000_000  # instructions


class Deterministic(GuestTest):
    def boot(self, *options, kernel="cloud", cpus=2, console="pipe"):
        config = (f'kernel = "{guest_file(kernel + "-vmlinuz")}"\n'
                  f'initrd = "{guest_file(kernel + "-initrd")}"\n'
                  f'append = "console=ttyS0"\ncpus = {cpus}\nmemory = "256M"\n'
                  'deterministic = true\n')
        return self.start(config, arguments=options, console=console)

    def path(self, name):
        return os.path.join(self.directory, name)

    def lines(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read().splitlines()

    def record_and_replay(self, kernel, cpus):
        guest = self.boot("--record", self.path("inputs"), "--state-hash", self.path("first"),
                          kernel=kernel, cpus=cpus)
        guest.expect("guest# ", 400)
        guest.send("echo $((6 * 7))\r")
        guest.expect(r"\n42\r", 60)
        guest.send("poweroff -f\r")
        self.assert_ends(guest, SUCCESS, 60)
        recorded = guest.stream.data
        guest.stop()

        guest = self.boot("--replay", self.path("inputs"), "--state-hash", self.path("again"),
                          kernel=kernel, cpus=cpus)
        guest.send("exit 1\r")  # nobody hears it
        self.assert_ends(guest, SUCCESS, 400)
        self.assertTrue(guest.stream.wait_end(10))
        self.assertEqual(guest.stream.data, recorded)

        first, again = self.lines("first"), self.lines("again")
        for number, (one, other) in enumerate(zip(first, again)):
            self.assertEqual(one, other, f"line {number}")
        self.assertEqual(len(first), len(again))
        self.assertEqual(first[0], f"vmm-state-hash 1 every {STEP}")
        self.assertGreater(len(first), 500)
        self.assertTrue(any(" ram " in line for line in first))
        self.assertGreater(len(set(line.split()[1] for line in first[1:])), len(first) * 0.9)
        print(f"{kernel}, {cpus} CPU: {len(first) - 1} steps of {STEP} instructions are alike",
              flush=True)

    def test_a_boot_and_its_replay_are_alike(self):
        self.record_and_replay("cloud", cpus=2)

    @full_only
    def test_i386_kernels_too(self):
        self.record_and_replay("i686", cpus=1)
        self.record_and_replay("i686pae", cpus=2)

    def test_a_record_that_is_none_is_refused(self):
        with open(self.path("inputs"), "w", encoding="utf-8") as file:
            file.write("vmm-inputs 1\n12 serial0 6g\n")
        guest = self.start_script("P", "deterministic = true\n",
                                  arguments=("--replay", self.path("inputs")))
        self.assert_ends(guest, 65)
        self.assertIn(f"{self.path('inputs')}:2: this is no record of inputs: the bytes must be "
                      "pairs of hexadecimal digits; fix: give a file that vmm run --record wrote",
                      guest.messages)

    def test_files_that_cannot_be_written_are_refused(self):
        for option in "--record", "--state-hash":
            with self.subTest(option=option):
                path = self.path("no/such/place")
                guest = self.start_script("P", "deterministic = true\n", arguments=(option, path))
                self.assert_ends(guest, 66)
                self.assertIn(f"can't write the ", guest.messages)
                self.assertIn(path, guest.messages)
                guest.stop()

    def test_a_full_disk_is_told(self):
        guest = self.start_script("X0", "deterministic = true\n",
                                  arguments=("--record", "/dev/full"))
        self.assert_ends(guest, 74)
        self.assertIn("the record of inputs /dev/full is incomplete", guest.messages)

    def test_traces_need_a_deterministic_run(self):
        guest = self.start_script("P", arguments=("--record", self.path("inputs")))
        self.assert_ends(guest, 64)
        self.assertIn("fix: add --deterministic", guest.messages)

    def test_kvm_is_refused(self):
        guest = self.start_script("P", "deterministic = true\n", engine="kvm")
        self.assert_ends(guest, 65)
        self.assertIn('deterministic = true does not go with accel = "kvm" '
                      "(KVM can't count instructions)", guest.messages)


if __name__ == "__main__":
    unittest.main()
