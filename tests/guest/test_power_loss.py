"""A guest writes numbered blocks and flushes; then the power fails, or vmm is killed.

vmm_recorded remembers every write and sync that reaches the host. power_loss cuts the record at
random points and judges what may be left; it does the same with what a killed vmm has left.

VMM_CUTS (default 60): cuts of each format. VMM_KILLS (default 10): of raw and of qcow2.
"""

import os
import random
import shutil
import struct
import subprocess
import time
import unittest

from vmm_guest import *

BUILT = os.path.join(ROOT, "build", "tests", "disk")
RECORDED = os.environ.get("VMM_RECORDED", os.path.join(BUILT, "vmm_recorded"))
POWER_LOSS = os.environ.get("VMM_POWER_LOSS", os.path.join(BUILT, "power_loss"))
WRITER = os.environ.get("VMM_GUEST_WRITER", os.path.join(BUILT, "guest_writer"))
CUTS = int(os.environ.get("VMM_CUTS", "1000" if FULL else "60"))
KILLS = int(os.environ.get("VMM_KILLS", "100" if FULL else "10"))
SIZE = 4 << 20  # bytes of the disk
TABLE = SIZE // 2048 * 32  # a promise for each block

# name: (format, options of `vmm disk create`, is there a backing file)
SETUPS = {
    "raw": ("raw", [], False),
    "qcow2": ("qcow2", [], False),
    "qcow2 with small clusters, backed": ("qcow2", ["--cluster-size", "4096"], True),
}


def run(*command, timeout=600):
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


class PowerLoss(GuestTest):
    def path(self, name):
        return os.path.join(self.directory, name)

    def make_disk(self, setup, keep=()):
        form, options, backed = SETUPS[setup]
        for name in ("disk", "table"):
            if os.path.exists(self.path(name)) and name not in keep:
                os.remove(self.path(name))
        if backed:
            with open(self.path("backing"), "wb") as file:
                for sector in range(SIZE // 512):  # version 0 of each
                    file.write(struct.pack("<QQ", sector, 0xA5) * 32)
            options = [*options, "--backing", self.path("backing"), "--backing-format", "raw"]
        made = run(VMM, "disk", "create", "--format", form, *options, self.path("disk"), str(SIZE))
        self.assertEqual(made.returncode, 0, made.stderr)
        with open(self.path("table"), "ab") as file:
            file.truncate(TABLE)

    def boot(self, operations, seed, host=Host()):
        """A guest that begins to write."""
        programs = self.path("programs")
        os.makedirs(programs, exist_ok=True)
        shutil.copy(WRITER, programs)
        guest = self.start(f'kernel = "{guest_file("cloud-vmlinuz")}"\n'
                           f'initrd = "{guest_file("cloud-initrd")}"\n'
                           'append = "console=ttyS0 quiet"\ncpus = 2\nmemory = "256M"\n'
                           f'accel = "{ENGINES[0]}"\nshare = ["{programs}"]\n'
                           f'disk = ["{self.path("disk")}", {{ path = "{self.path("table")}", '
                           'format = "raw" }]\n', host=host)
        guest.expect("guest# ", 200)
        guest.send("mount -t virtiofs share0 /tmp; cd /tmp; echo is-$?\r")
        guest.expect("is-0", 60)
        guest.expect("guest# ", 60)
        guest.send("stty -echo\r")
        guest.expect("guest# ", 60)
        guest.send(f"echo begins; ./guest_writer /dev/vda /dev/vdb 3 {operations} {seed}\r")
        guest.expect("begins", 60)
        return guest

    def record(self, setup, seed):
        self.make_disk(setup)
        shutil.copyfile(self.path("disk"), self.path("start"))
        host = Host(program=RECORDED, environment={"VMM_RECORD": self.path("record"),
                                                   "VMM_RECORD_NOTES": self.path("table")})
        guest = self.boot(400, seed, host)
        guest.expect("wrote 2048 blocks", 200)
        guest.expect("guest# ", 60)
        guest.send("poweroff -f\r")
        self.assert_ends(guest, SUCCESS, 60)
        guest.stop()

    def replay(self, *options):
        return run(POWER_LOSS, "replay", self.path("start"), self.path("record"), *options,
                   timeout=2000)

    def backed(self, setup):
        return ["--backed"] if SETUPS[setup][2] else []

    def test_what_was_flushed_survives_the_loss_of_power(self):
        for number, setup in enumerate(SETUPS):
            with self.subTest(setup=setup):
                self.record(setup, 11 + number)
                done = self.replay("--cuts", str(CUTS), *self.backed(setup))
                print(f"{setup}: {done.stdout.strip()}", flush=True)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                # The same without the syncs shows that all of this can fail.
                done = self.replay("--cuts", "30", "--without-sync", *self.backed(setup))
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_what_was_flushed_survives_kill_9(self):
        """The guest is in the midst of its work, at a random point."""
        rng = random.Random(20261122)
        flushed = 0
        for setup in list(SETUPS)[:2]:
            for number in range(KILLS):
                with self.subTest(setup=setup, number=number):
                    self.make_disk(setup)
                    guest = self.boot(1000000, number)
                    time.sleep(rng.uniform(0.02, 0.6))
                    guest.signal(signal.SIGKILL)
                    guest.process.wait(30)
                    guest.stop()
                    done = run(POWER_LOSS, "judge", self.path("disk"), self.path("table"))
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                    if done.stdout.startswith("0 blocks"):
                        continue
                    flushed += 1
                    self.make_disk(setup, keep=["table"])
                    done = run(POWER_LOSS, "judge", self.path("disk"), self.path("table"))
                    self.assertEqual(done.returncode, 1, "a disk without all that was flushed")
        print(f"killed {2 * KILLS} times, {flushed} of them after a flush", flush=True)
        self.assertGreater(flushed, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
