"""accel = "auto" boots Debian's cloud kernel to its shell whatever the host's KVM is."""

import time
import unittest

import host_kvm
from vmm_guest import *

BOOT_SECONDS = 400  # for slow and busy CI machines


class AutoBoots(GuestTest):
    def boot_and_power_off(self, host, reason, files=None):
        """`reason` is a pattern for the one line that vmm says."""
        kernel, initrd = files or (guest_file("cloud-vmlinuz"), guest_file("cloud-initrd"))
        guest = self.start(f'kernel = "{kernel}"\ninitrd = "{initrd}"\nmemory = "256M"\n'
                           'append = "console=ttyS0"\n', host=host)
        started = time.monotonic()
        guest.expect("guest# ", BOOT_SECONDS)
        print(f"{self._testMethodName}: shell after {time.monotonic() - started:.1f} s",
              flush=True)
        guest.send("echo $((6 * 7))\r")
        guest.expect(r"\n42\r", 60)
        guest.send("poweroff -f\r")
        self.assert_ends(guest, SUCCESS, 60)
        self.assertRegex(guest.messages, rf"^vmm: {reason}\n$")
        return guest

    def without_kvm(self, reason):
        return rf"engine: bt: {reason} \(to change that: .+\)"

    def test_without_dev_kvm(self):
        host, why_not = host_kvm.without_device(self.directory)
        if host is None:
            print(f"through the fake: {why_not}", flush=True)
            host = host_kvm.fake("missing")
        self.boot_and_power_off(host, self.without_kvm("no (KVM|/dev/kvm).*"))

    def test_as_a_user_who_may_not_open_dev_kvm(self):
        files = [guest_file("cloud-vmlinuz"), guest_file("cloud-initrd")]
        host, copies, why_not = host_kvm.ordinary_user(self.directory, files)
        if host is None:
            print(f"through the fake: {why_not}", flush=True)
            host, copies = host_kvm.fake("forbidden"), files
        guest = self.boot_and_power_off(host, self.without_kvm("no access to /dev/kvm: .*"),
                                        copies)
        if why_not is None:
            self.assertEqual(guest.messages,
                             host_kvm.forbidden_text(host, "engine: bt"))

    def test_with_a_busy_kvm(self):
        self.boot_and_power_off(host_kvm.fake("busy", "virtualbox"),
                                self.without_kvm("KVM is busy: VirtualBox .*"))

    def test_with_a_slow_kvm(self):
        self.boot_and_power_off(host_kvm.fake("slow"),
                                self.without_kvm(r"KVM is slow here .* 1/\d+ of native speed"))

    def test_with_a_kvm_that_lacks_instructions(self):
        self.boot_and_power_off(host_kvm.fake("lacks"),
                                self.without_kvm("KVM fails here .* cmpxchg16b, int3 .*"))

    def test_with_the_kvm_of_this_host(self):
        found = host_kvm.probe(host_kvm.real())
        print(f"this host: {found['reason']}", flush=True)
        if not found["kvm"]["present"]:
            self.skipTest("this host has no KVM that can make a VM: one of the other cases")
        good = found["engine"] == "kvm"
        self.boot_and_power_off(host_kvm.real(), r"engine: kvm: KVM runs guest code at .*" if good
                                else self.without_kvm("KVM (is slow|fails) here.*"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
