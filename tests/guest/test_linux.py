"""Stock Debian kernels with a busybox initramfs (ci/guests), used as a person at the console would."""

import json
import re
import subprocess
import time
import unittest

from cloud_guest import *


class Linux(CloudTest):
    """On the console, where the end of the machine is what is tested, or its beginning."""

    def boot(self, kernel, engine, cpus=1, extra=""):
        return self.boot_cloud(extra, engine, cpus, kernel=kernel)

    def use_and_power_off(self, kernel, cpus=1, machine="x86_64"):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                guest = self.boot(kernel, engine, cpus)
                started = time.monotonic()
                guest.expect("vmm-init: up", BOOT_SECONDS[engine])
                print(f"{kernel}, {cpus} CPU, {engine}: init after "
                      f"{time.monotonic() - started:.1f} s", flush=True)
                guest.expect("guest# ", BOOT_SECONDS[engine])
                self.run_command(guest, "echo $((6 * 7))", r"\n42\r")
                self.run_command(guest, "nproc", rf"\n{cpus}\r")
                self.run_command(guest, "uname -m", rf"\n{machine}\r")
                self.assert_no_complaints(guest, "soft lockup|rcu.*stall|BUG:")
                guest.send("poweroff -f\r")
                self.assert_ends(guest, SUCCESS, 60)
                self.assertNotIn("stopped by", guest.messages)
                guest.stop()

    def test_the_cloud_kernel_with_one_cpu(self):
        self.use_and_power_off("cloud")

    def test_a_software_engine_spares_the_kernel_its_defences(self):
        """No page-table isolation, no retpolines: dear where every branch is translated."""
        for mitigations, indirect in (("auto", "IBRS"), ("host", "Retpolines|LFENCE")):
            for engine in [name for name in ENGINES if name != "kvm"]:
                with self.subTest(mitigations=mitigations, engine=engine):
                    # At the end what no bit that a processor can show denies.
                    script = """
                        cd /sys/devices/system/cpu/vulnerabilities
                        cat spectre_v2 meltdown
                        echo left: $(grep -L 'Not affected' *)
                        dmesg | grep 'unchecked MSR' || true"""
                    output = self.run_in_guest(script, f'mitigations = "{mitigations}"\n', engine, modules=False).decode()
                    self.assertRegex(output, rf"^Mitigation: [^;\n]*({indirect})")
                    if mitigations == "auto":
                        self.assertRegex(output, r"\nNot affected\nleft: (old_microcode )?spectre_v1( srbds)?"
                                                 r"( vmscape)?\n$")

    @full_only
    def test_the_cloud_kernel_through_its_real_mode_setup_code(self):
        guest = self.boot("cloud", "interpreter", extra='entry = "real"\n')
        guest.expect("Probing EDD", 60)  # by INT 13h and INT 10h
        guest.expect(r"BIOS-e820: \[mem 0x0000000000000000-0x000000000009fbff\] usable", 120)
        guest.expect("vmm-init: up", BOOT_SECONDS["interpreter"])

    @full_only
    def test_the_cloud_kernel_with_four_cpus(self):
        self.use_and_power_off("cloud", cpus=4)

    @full_only
    def test_the_generic_kernel_with_one_and_four_cpus(self):
        self.use_and_power_off("generic")
        self.use_and_power_off("generic", cpus=4)

    @full_only
    def test_the_i386_kernels(self):
        self.use_and_power_off("i686", machine="i686")
        self.use_and_power_off("i686pae", machine="i686")
        self.use_and_power_off("i686pae", cpus=2, machine="i686")

    def text_address(self, extra="", append=""):
        """Where the cloud kernel says that its code is."""
        output = self.run_in_guest("grep -m 1 ' T _text' /proc/kallsyms", extra, "bt", append=append, modules=False)
        return int(re.match(rb"([0-9a-f]{16}) T _text\n$", output)[1], 16)

    def test_a_kernel_that_vmm_unpacks_is_at_a_random_address(self):
        linked = 0xffffffff81000000
        unpacked = 'entry = "unpacked"\n'
        found = {self.text_address(extra=unpacked) for _ in range(3)}
        self.assertGreater(len(found), 1)  # one in 500 * 500 fails: three of 500 places alike
        for address in found:
            self.assertEqual(address % (2 << 20), 0)
        self.assertEqual(self.text_address(unpacked, "nokaslr"), linked)
        self.assertEqual(self.text_address('entry = "long"\n', "nokaslr"), linked)

    def test_a_panic_is_told_apart(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                # Without an initrd there is no root file system.
                config = (f'kernel = "{guest_file("cloud-vmlinuz")}"\naccel = "{engine}"\n'
                          'append = "console=ttyS0 panic=1"\n')
                guest = self.start(config)
                self.assert_ends(guest, PANIC, BOOT_SECONDS[engine])
                self.assertIn("Unable to mount root fs", guest.result["reason"])
                guest.stop()

    @full_only
    def test_reboot_starts_the_kernel_again(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                guest = self.boot("cloud", engine)
                guest.expect("guest# ", BOOT_SECONDS[engine])
                guest.send("reboot -f\r")
                guest.expect("Linux version", BOOT_SECONDS[engine])
                guest.expect("guest# ", BOOT_SECONDS[engine])
                guest.send("poweroff -f\r")
                self.assert_ends(guest, SUCCESS, 60)
                guest.stop()

    @full_only
    def test_the_power_button_shuts_linux_down(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                guest = self.boot("cloud", engine, extra='stop_timeout = "120s"\n')
                guest.expect("guest# ", BOOT_SECONDS[engine])
                guest.signal(signal.SIGTERM)
                self.assert_ends(guest, SUCCESS, 120)
                guest.stop()

    def test_a_suspended_linux_goes_on(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                guest = self.boot("cloud", engine)
                guest.expect("guest# ", BOOT_SECONDS[engine])
                uptime = "cut -d. -f1 /proc/uptime"
                before = int(self.run_command(guest, uptime, r"\n(\d+)\r").group(1))
                self.run_command(guest, "export WORD=kept; echo set", r"\nset\r")
                guest.signal(signal.SIGUSR1)
                self.assert_ends(guest, SUSPENDED, 60)
                guest.stop()
                time.sleep(3)  # which the guest must not notice
                resumed = self.boot("cloud", engine)
                resumed.wait_for_message("resumed from", 30)
                self.run_command(resumed, "echo $WORD", r"\nkept\r")
                after = int(self.run_command(resumed, uptime, r"\n(\d+)\r").group(1))
                self.assertGreaterEqual(after, before)
                self.assert_no_complaints(resumed, "soft lockup|rcu.*stall|BUG:")
                resumed.send("poweroff -f\r")
                self.assert_ends(resumed, SUCCESS, 60)
                resumed.stop()

    def test_a_kernel_moves_away_from_a_kvm_that_emulates_it(self):
        probe = json.loads(subprocess.run([VMM, "probe", "--json"], capture_output=True, timeout=30,
                                          check=False).stdout)
        if not probe["kvm"]["present"]:
            self.skipTest(f"no KVM on this host: {probe['reason']}")
        if probe["engine"] == "kvm":
            self.skipTest("this host's KVM is good, so that no machine leaves it")
        guest = self.boot("cloud", "kvm", extra="accel_move = true\n")
        guest.wait_for_message("the machine moved from kvm to", 300)
        guest.expect("guest# ", BOOT_SECONDS["interpreter"])
        self.run_command(guest, "echo $((6 * 7))", r"\n42\r")
        self.assert_no_complaints(guest, "soft lockup|rcu.*stall|BUG:")
        guest.send("poweroff -f\r")
        self.assert_ends(guest, SUCCESS, 60)


if __name__ == "__main__":
    unittest.main(verbosity=2)
