"""`cpu`: a stock kernel on each 64-bit model sees the model's features and none beyond them."""

import re
import subprocess
import unittest

from vmm_guest import *

BOOT_SECONDS = 600
# What vmm models on any host is not named so in /proc/cpuinfo.
# Nor are defences, which Linux sums up in flags of its own.
NOT_SHOWN = re.compile(r"invariant_tsc|kvm.*|.*_no|ibrs_all|skip_l1dfl_vmentry|spec_ctrl|intel_stibp|"
                       r"amd_.*|autoibrs|ssbd")
# Linux says so itself of every 64-bit AMD.
SET_BY_LINUX = {"3dnowprefetch"}
NO_SUCH_CPU = "has no "


def features_of(model):
    """What `vmm inspect` says that the guest will see; None where this host can't give the model."""
    inspected = subprocess.run([VMM, "inspect", "--kernel", guest_file("cloud-vmlinuz"), "--cpu", model],
                               capture_output=True, text=True, timeout=60, check=False)
    if inspected.returncode == ENGINE_UNAVAILABLE and NO_SUCH_CPU in inspected.stderr:
        return None
    line = re.search(r"^CPU features: (.*)$", inspected.stdout, re.MULTILINE)
    return set(line.group(1).split())


class CpuModels(GuestTest):
    def flags_of(self, model):
        guest = self.start(f'kernel = "{guest_file("cloud-vmlinuz")}"\n'
                           f'initrd = "{guest_file("cloud-initrd")}"\n'
                           f'append = "console=ttyS0"\naccel = "interpreter"\ncpu = "{model}"\n')
        guest.expect("guest# ", BOOT_SECONDS)
        guest.send("grep -m1 ^flags /proc/cpuinfo; poweroff\r")
        match = guest.expect(r"flags\s*: ([a-z0-9_ ]+)\r", 60)
        self.assertEqual(guest.wait(60), SUCCESS)
        return set(match.group(1).decode().split())

    def test_each_model_shows_its_features_and_no_others(self):
        known = features_of("host") - SET_BY_LINUX
        for model in ("x86-64", "x86-64-v2", "x86-64-v3", "host", "host,-avx"):
            with self.subTest(model=model):
                wanted = features_of(model)
                if wanted is None:
                    self.skipTest(f"this host can't give {model}")
                wanted = {name for name in wanted if not NOT_SHOWN.fullmatch(name)} & known
                self.assertEqual(self.flags_of(model) & known, wanted)


if __name__ == "__main__":
    unittest.main(verbosity=2)
