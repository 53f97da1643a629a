"""Suspending a machine to its file and going on from it: docs/suspend.md."""

import itertools
import json
import os
import random
import subprocess
import time
import unittest

from vmm_guest import *

STATE = "suspend.vmstate"
# Which engines a suspended machine may meet: all that were asked for.
SURVIVOR = os.environ.get("VMM_SURVIVOR", os.path.join(ROOT, "build", "tests", "conformance",
                                                       "survivor"))


class Suspend(GuestTest):
    def state(self):
        return os.path.join(self.directory, STATE)

    def script(self, script, config="", **keywords):
        return self.start_script(script, config, **keywords)

    def suspend(self, guest, timeout=30):
        guest.signal(signal.SIGUSR1)
        self.assert_ends(guest, SUSPENDED, timeout)
        self.assertTrue(os.path.exists(self.state()), guest.messages)

    def test_a_suspended_guest_goes_on_where_it_was(self):
        # e: echoes until a Q comes. The machine is suspended while it waits.
        guest = self.script(".e.o")
        guest.expect("hello from the guest")
        guest.send("abc")
        guest.expect("abc")
        self.suspend(guest)
        self.assertEqual(guest.result["exit_name"], "Suspended")

        resumed = self.script(".e.o")
        resumed.wait_for_message("resumed from")
        resumed.send("xyz")
        resumed.expect("xyz")
        self.assertNotIn(b"hello", resumed.stream.data, "it started afresh")
        self.assertFalse(os.path.exists(self.state()), "a state that was used is left")
        resumed.send("Q")
        resumed.expect("hello from the guest")
        self.assert_ends(resumed, SUCCESS)

    def test_what_was_typed_and_not_yet_taken_goes_with_the_guest(self):
        self.typed_ahead("")

    def test_what_was_typed_goes_with_a_deterministic_guest_too(self):
        """There some of it waits for the machine's time."""
        self.typed_ahead("deterministic = true\n")

    def typed_ahead(self, config):
        """The guest echoes; the runs have one standard input, from which the first has read ahead."""
        text = bytes(ord("a") + i % 26 for i in range(20000))
        reader, typist = os.pipe()
        self.addCleanup(os.close, reader)
        self.addCleanup(os.close, typist)
        guest = self.script(".e.o", config, stdin=reader)
        guest.expect("hello from the guest")
        os.write(typist, text)
        guest.expect("abc")
        self.suspend(guest)
        guest.stream.wait_end(10)
        self.assertNotIn(text, guest.stream.data, "nothing was left to be taken")
        resumed = self.script(".e.o", config, stdin=reader)
        os.write(typist, b"Q")
        self.assert_ends(resumed, SUCCESS, 60)
        resumed.stream.wait_end(10)
        self.assertIn(text, guest.stream.data + resumed.stream.data)

    def test_the_escape_key_suspends(self):
        guest = self.script(".e.o", console="pty")
        guest.expect("hello from the guest")
        guest.send(b"\x01s")
        self.assert_ends(guest, SUSPENDED)
        resumed = self.script(".e.o")
        resumed.send("Q")
        resumed.expect("hello from the guest")
        self.assert_ends(resumed, SUCCESS)

    def test_discard_state_starts_afresh(self):
        guest = self.script(".e.o")
        guest.expect("hello from the guest")
        self.suspend(guest)
        afresh = self.script(".e.o", arguments=["--discard-state"])
        afresh.expect("hello from the guest")
        self.assertFalse(os.path.exists(self.state()))

    def test_a_file_may_be_named(self):
        place = os.path.join(self.directory, "elsewhere")
        guest = self.script(".e.o", arguments=["--suspend-to", place])
        guest.expect("hello from the guest")
        guest.signal(signal.SIGUSR1)
        self.assert_ends(guest, SUSPENDED)
        self.assertEqual(os.stat(place).st_mode & 0o777, 0o600)
        resumed = self.script(".e.o", f'suspend_file = "{place}"\n')
        resumed.send("Q")
        resumed.expect("hello from the guest")
        self.assert_ends(resumed, SUCCESS)

    def test_a_guest_whose_state_can_not_be_written_goes_on(self):
        guest = self.script(".e.o", arguments=["--suspend-to", "/proc/no/such/folder"])
        guest.expect("hello from the guest")
        for _ in range(2):
            guest.signal(signal.SIGUSR1)
            guest.wait_for_message("not suspended and goes on")
            guest.send("abc")
            guest.expect("abc")
        guest.send("Q")
        self.assert_ends(guest, SUCCESS)

    def test_a_full_disk_leaves_the_guest_running_and_no_half_file(self):
        small = os.path.join(self.directory, "small")
        os.mkdir(small)
        mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
                 f'mount -t tmpfs -o size=16k none {small} && exec "$@"', "sh"]
        if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("this host lets nobody mount a small file system")
        # Something that does not compress to nothing.
        noise = os.path.join(self.directory, "noise")
        with open(noise, "wb") as file:
            file.write(random.randbytes(1 << 20))
        guest = self.script(".e.o", f'modules = ["{noise}"]\n',
                            arguments=["--suspend-to", small + "/state"], host=Host(before=mount))
        guest.expect("hello from the guest")
        guest.signal(signal.SIGUSR1)
        guest.wait_for_message("No space left on device")
        inside = f"/proc/{guest.process.pid}/root{small}"
        self.assertEqual(os.listdir(inside), [])
        guest.send("Q")
        self.assert_ends(guest, SUCCESS)

    def test_damaged_states_are_refused_and_kept(self):
        guest = self.script(".e.o")
        guest.expect("hello from the guest")
        self.suspend(guest)
        with open(self.state(), "rb") as file:
            good = file.read()
        middle = len(good) // 2
        damaged = {
            "empty": b"",
            "no state": b"x" * 1000,
            "newer": good.replace(b"machine 1\n", b"machine 2\n", 1),
            "cut": good[:middle],
            "cut at the end": good[:-1],
            "longer": good + b"x",
            "a flipped bit": good[:middle] + bytes([good[middle] ^ 4]) + good[middle + 1:],
            "a flipped bit of the checksum": good[:-2] + bytes([good[-2] ^ 1]) + good[-1:],
        }
        for name, data in damaged.items():
            with self.subTest(damage=name):
                with open(self.state(), "wb") as file:
                    file.write(data)
                refused = self.script(".e.o")
                self.assert_ends(refused, CONFIG_INVALID)
                self.assertIn("can't resume from", refused.messages)
                self.assertIn("--discard-state", refused.messages)
                with open(self.state(), "rb") as file:
                    self.assertEqual(file.read(), data)
        with open(self.state(), "wb") as file:
            file.write(good)
        resumed = self.script(".e.o")
        resumed.send("Q")
        self.assert_ends(resumed, SUCCESS)

    def test_another_machine_is_refused_with_the_difference(self):
        guest = self.script(".e.o")
        guest.expect("hello from the guest")
        self.suspend(guest)
        for arguments, words in ((["--cpus", "2"], "cpus = 1"), (["--memory", "32M"], "MiB of RAM")):
            with self.subTest(arguments=arguments):
                refused = self.script(".e.o", arguments=arguments)
                self.assert_ends(refused, CONFIG_INVALID)
                self.assertIn("it is another machine", refused.messages)
                self.assertIn(words, refused.messages)
        # A new name makes no new machine.
        renamed = self.script(".e.o", arguments=["--name", "renamed"])
        renamed.send("Q")
        self.assert_ends(renamed, SUCCESS)

    def test_a_machine_of_one_engine_resumes_under_another(self):
        probe = json.loads(subprocess.run([VMM, "probe", "--json"], capture_output=True, timeout=30,
                                          check=False).stdout)
        engines = ["bt", "interpreter"] + ["kvm"] * probe["kvm"]["present"]
        if "kvm" not in engines:
            print(f"not tried with KVM: {probe['reason']}")
        # A processor that any KVM has, so that none of them need refuse it.
        machine = 'cpu = "x86-64"\nmitigations = "host"\n'
        for first, second in itertools.permutations(engines, 2):
            with self.subTest(first=first, second=second):
                guest = self.script(".e.o", machine, engine=first)
                guest.expect("hello from the guest", 60)
                guest.send("abc")
                guest.expect("abc", 60)
                self.suspend(guest)
                guest.stop()
                resumed = self.script(".e.o", machine, engine=second)
                resumed.wait_for_message("resumed from", 30)
                resumed.send("xyz")
                resumed.expect("xyz", 60)
                resumed.send("Q")
                resumed.expect("hello from the guest", 60)
                self.assert_ends(resumed, SUCCESS, 60)
                resumed.stop()

    def test_what_the_interpreter_promises_kvm_keeps_or_refuses(self):
        probe = json.loads(subprocess.run([VMM, "probe", "--json"], capture_output=True, timeout=30,
                                          check=False).stdout)
        if not probe["kvm"]["present"]:
            self.skipTest(f"no KVM on this host: {probe['reason']}")
        guest = self.script(".e.o")
        guest.expect("hello from the guest")
        guest.signal(signal.SIGUSR2)
        moved = guest.wait_for_message(r"the machine (moved from|does not move).*", 30).group(0)
        if "moved from" in moved:
            return  # a KVM with all of it
        self.assertRegex(moved, "lacks what the guest's processor has: .*(ibrs|_no)")
        guest.send("abc")
        guest.expect("abc")
        self.suspend(guest)
        refused = self.script(".e.o", engine="kvm")
        self.assert_ends(refused, ENGINE_UNAVAILABLE, 30)
        self.assertRegex(refused.messages, "it had the features .*(ibrs|_no)")
        resumed = self.script(".e.o")
        resumed.send("Q")
        self.assert_ends(resumed, SUCCESS)


class Survivor(GuestTest):
    """A guest of two processors that checks its memory, registers, clocks and interrupts."""

    def start_survivor(self, engine):
        if not os.path.exists(SURVIVOR):
            raise unittest.SkipTest(f"{SURVIVOR} is missing: build conformance-survivor")
        return self.start(f'kernel = "{SURVIVOR}"\ncpus = 2\nmemory = "32M"\naccel = "{engine}"\n')

    def test_a_hundred_suspends_at_random_points_go_unseen(self):
        random.seed(20261)
        rounds = 100
        guest = self.start_survivor(ENGINES[0])
        guest.expect("running", 30)
        for i in range(rounds):
            guest.expect(r"\.", 30)
            time.sleep(random.uniform(0, 0.03))
            guest.signal(signal.SIGUSR1)
            self.assert_ends(guest, SUSPENDED, 30)
            self.assertNotIn(b"FAIL", guest.stream.data)
            guest.stop()
            guest = self.start_survivor(ENGINES[(i + 1) % len(ENGINES)])
        guest.expect(r"\.", 30)
        guest.send("q")
        self.assert_ends(guest, SUCCESS, 30)
        self.assertIn(b"PASS", guest.stream.data)

    def await_moves(self, guest, count, timeout=60):
        """The message of the last of so many moves."""
        deadline = time.monotonic() + timeout
        while True:
            moves = [line for line in guest.messages.splitlines() if "the machine moved" in line]
            if len(moves) >= count:
                return moves[-1]
            self.assertLess(time.monotonic(), deadline, guest.messages)
            time.sleep(0.005)

    def test_a_hundred_moves_between_engines_go_unseen(self):
        # A KVM may have less than the host's processor: a guest that starts there can come back.
        probe = json.loads(subprocess.run([VMM, "probe", "--json"], capture_output=True, timeout=30,
                                          check=False).stdout)
        guest = self.start_survivor("kvm" if probe["kvm"]["present"] else ENGINES[0])
        guest.expect("running", 60)
        random.seed(20262)
        guest.signal(signal.SIGUSR2)
        moved = guest.wait_for_message(r"the machine (moved from|does not move).*", 30).group(0)
        if "does not move" in moved:
            self.skipTest(f"there is no second engine here: {moved}")
        rounds = 100
        for i in range(rounds - 1):
            # A KVM that is slow gets some time, not some progress.
            if "from kvm to" in moved:
                guest.expect(r"\.", 120)
            time.sleep(random.uniform(0, 0.03))
            guest.signal(signal.SIGUSR2)
            moved = self.await_moves(guest, i + 2)
            self.assertNotIn(b"FAIL", guest.stream.data)
        if "to kvm" in moved:
            guest.signal(signal.SIGUSR2)
        guest.expect(r"\.", 60)
        guest.send("q")
        self.assert_ends(guest, SUCCESS, 60)
        self.assertIn(b"PASS", guest.stream.data)


if __name__ == "__main__":
    unittest.main()
