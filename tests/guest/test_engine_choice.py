"""accel = "auto" and "kvm" on hosts with every kind of KVM: which engine runs, and what is said."""

import re
import unittest

import host_kvm
from vmm_guest import *

PROBE_CODE = r"at 0008:[0-9a-f]{4} \(long mode, kernel\)"
NATIVE = r"\d+ % of native speed"

# What is wrong with the fake KVM, the reason (a pattern), the command that would change it.
# There, no VM can be made:
REFUSED = (
    (["missing"], r"no KVM: the kernel module kvm_intel is not loaded", "sudo modprobe kvm_intel"),
    (["forbidden"], r"no access to /dev/kvm: alice is not in group kvm",
     "sudo usermod -aG kvm alice, then log in again"),
    (["busy"], r"KVM is busy: another hypervisor holds VT-x \(VMX\)",
     "lsmod | grep -E 'vboxdrv|vmmon'"),
    (["busy", "virtualbox"], r"KVM is busy: VirtualBox \(vboxdrv\) holds VT-x \(VMX\)",
     "stop its machines, then: sudo modprobe -r vboxnetadp vboxnetflt vboxdrv"),
    (["too-old"],
     r"this host's KVM lacks KVM_CAP_SPLIT_IRQCHIP: Linux 5\.10 or newer is needed",
     "install a newer kernel than that of: uname -r"),
)
# There, one can be made, and is not worth it:
BAD = tuple((conditions, reason, "--accel kvm takes it all the same") for conditions, reason in (
    (["slow"], r"KVM is slow here \(kvm_intel\): guest code runs at 1/\d+ of native speed"),
    (["slow", "lacks"], r"KVM is slow here \(kvm_intel\): guest code runs at 1/\d+ of native "
     r"speed, and it fails at cmpxchg16b, int3"),
    (["lacks"], r"KVM fails here \(kvm_intel\) at what guests need: cmpxchg16b, int3 \(KVM "
     rf"internal error 1: it can't emulate an instruction {PROBE_CODE}\)"),
    (["fail-entry"], r"KVM fails here \(kvm_intel\) at what guests need: port I/O \(the CPU "
     rf"refused to enter the guest \(reason 0x80000021: invalid guest state\) {PROBE_CODE}\)"),
    (["hangs"], r"KVM fails here \(kvm_intel\) at what guests need: port I/O(, [a-z0-9 ]+)* \(no "
     r"answer within the time limit\)"),
))
# There, it is taken:
GOOD = (
    ([], rf"KVM runs guest code at {NATIVE}", None),
    (["no-nested-paging"], rf"KVM runs guest code at {NATIVE}, but without nested paging \(EPT or "
     r"NPT\): page-table work is slow",
     "sudo modprobe -r kvm_intel && sudo modprobe kvm_intel ept=1"),
)


def with_remedy(reason, remedy):
    return reason + (rf" \(to change that: {re.escape(remedy)}\)" if remedy else "")


class EngineChoice(GuestTest):
    def run_until_end(self, conditions, accel, script=".o"):
        guest = self.start_script(script, engine=accel, host=host_kvm.fake(*conditions))
        guest.wait(30)
        return guest

    def assert_says(self, guest, *lines):
        """These are all lines on stderr."""
        self.assertRegex(guest.messages, "^" + "".join(f"vmm: {line}\n" for line in lines) + "$")

    def test_auto_runs_the_guest_in_software_and_says_why_in_one_line(self):
        for conditions, reason, remedy in REFUSED + BAD:
            with self.subTest(kvm=",".join(conditions)):
                guest = self.run_until_end(conditions, "auto")
                self.assertEqual(guest.wait(), SUCCESS, guest.messages)
                guest.expect("hello from the guest")
                engine_reason = "engine: bt: " + with_remedy(reason, remedy)
                self.assert_says(guest, engine_reason)
                self.assertEqual(guest.result["engine"], "bt")
                self.assertRegex(guest.result["engine_reason"], f"^{engine_reason}$")

    def test_kvm_where_no_vm_can_be_made_is_103_with_the_reason(self):
        for conditions, reason, remedy in REFUSED:
            with self.subTest(kvm=",".join(conditions)):
                guest = self.run_until_end(conditions, "kvm")
                self.assertEqual(guest.wait(), ENGINE_UNAVAILABLE, guest.messages)
                self.assert_says(guest, r'accel = "kvm": ' + with_remedy(reason, remedy))
                self.assertEqual(guest.result["exit_name"], "EngineUnavailable")
                self.assertEqual(guest.stream.data, b"")

    def test_kvm_that_is_bad_is_used_as_it_is_with_a_warning(self):
        for conditions, reason, _ in BAD:
            with self.subTest(kvm=",".join(conditions)):
                # The fake runs no guest but the probe's: it is there until it is stopped.
                guest = self.start_script("s", engine="kvm", host=host_kvm.fake(*conditions))
                warning = r'accel = "kvm": ' + reason + "; used as it is"
                guest.wait_for_message(warning, 30)
                guest.signal(signal.SIGQUIT)
                self.assert_ends(guest, STOPPED)
                self.assert_says(guest, "engine: kvm: as asked for", warning, "stopped by SIGQUIT")
                self.assertEqual(guest.result["engine"], "kvm")

    def test_auto_takes_a_good_kvm(self):
        for conditions, reason, remedy in GOOD:
            with self.subTest(kvm=",".join(conditions)):
                guest = self.start_script("s", engine="auto", host=host_kvm.fake(*conditions))
                line = "engine: kvm: " + with_remedy(reason, remedy)
                guest.wait_for_message(line, 30)
                guest.signal(signal.SIGQUIT)
                self.assert_ends(guest, STOPPED)
                self.assert_says(guest, line, "stopped by SIGQUIT")

    def test_kvm_that_can_no_longer_enter_the_guest_is_100_where_it_is_required(self):
        guest = self.run_until_end(["turns-bad"], "kvm")
        self.assertEqual(guest.wait(), ENGINE_FAILED, guest.messages)
        self.assertIn("the CPU refused to enter the guest", guest.result["reason"])
        self.assertIn(guest.result["reason"], guest.messages)

    def test_auto_moves_away_from_kvm_that_can_no_longer_enter_the_guest(self):
        guest = self.run_until_end(["turns-bad"], "auto")
        self.assertEqual(guest.wait(), SUCCESS, guest.messages)
        self.assertRegex(guest.messages, "moving to another engine: the CPU refused to enter the guest")
        self.assertIn("the machine moved from kvm to bt", guest.messages)

    def test_probe_says_the_same(self):
        for conditions, reason, remedy in REFUSED + BAD + GOOD:
            with self.subTest(kvm=",".join(conditions)):
                found = host_kvm.probe(host_kvm.fake(*conditions))
                good = (conditions, reason, remedy) in GOOD
                self.assertEqual(found["engine"], "kvm" if good else "bt")
                self.assertRegex(found["reason"], f"^{reason}$")
                self.assertEqual(found["remedy"], remedy or "")
                self.assertEqual(found["kvm"]["present"],
                                 conditions not in [case[0] for case in REFUSED])

    def test_a_condition_that_the_fake_does_not_know_is_refused(self):
        guest = self.run_until_end(["splendid"], "auto")
        self.assertEqual(guest.wait(), 2)
        self.assertIn("no condition is called 'splendid'", guest.messages)


class ThisHost(GuestTest):
    """What the KVM of this very host is, if it has one."""

    def test_kvm_runs_a_small_guest_or_says_why_not(self):
        found = host_kvm.probe(host_kvm.real())
        guest = self.start_script(".o", engine="kvm")
        code = guest.wait(120)
        if not found["kvm"]["present"]:
            self.assertEqual(code, ENGINE_UNAVAILABLE, guest.messages)
            self.assertIn(found["reason"], guest.messages)
            return
        self.assertEqual(code, SUCCESS, guest.messages)
        guest.expect("hello from the guest")
        self.assertIn("vmm: engine: kvm: as asked for\n", guest.messages)
        bad = found["engine"] != "kvm"
        self.assertEqual(bool(re.search(r'vmm: accel = "kvm": .*; used as it is\n',
                                        guest.messages)), bad, guest.messages)

    def test_kvm_without_a_device_is_103(self):
        host, why_not = host_kvm.without_device(self.directory)
        if host is None:
            self.skipTest(why_not)
        guest = self.start_script(".o", engine="kvm", host=host)
        self.assert_ends(guest, ENGINE_UNAVAILABLE)
        self.assertRegex(guest.messages, r'^vmm: accel = "kvm": no (KVM|/dev/kvm).*\(to change '
                                         r"that: .*\)\n$")

    def test_kvm_that_this_user_may_not_open_is_103_and_names_the_group(self):
        host, (kernel,), why_not = host_kvm.ordinary_user(self.directory, [SCRIPT_GUEST])
        if host is None:
            self.skipTest(why_not)
        guest = self.start(f'kernel = "{kernel}"\naccel = "kvm"\n', host=host)
        self.assert_ends(guest, ENGINE_UNAVAILABLE)
        self.assertEqual(guest.messages, host_kvm.forbidden_text(host, 'accel = "kvm"'))


if __name__ == "__main__":
    unittest.main()
