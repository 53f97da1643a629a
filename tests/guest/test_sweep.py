"""Guest accesses to ports and memory, of every size and wherever they go, never stop the machine."""

import unittest

from vmm_guest import *

SWEEP_GUEST = os.environ.get("VMM_SWEEP_GUEST",
                             os.path.join(ROOT, "build", "tests", "guest", "sweep_guest.elf"))


class Sweep(GuestTest):
    def sweep(self, letters, engine):
        return self.start(f'kernel = "{SWEEP_GUEST}"\nappend = "{letters}"\nmemory = "16M"\n'
                          f'accel = "{engine}"\non_reboot = "exit"\n')

    def sweeps(self, letters, timeout=120):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                guest = self.sweep(letters, engine)
                self.assert_ends(guest, SUCCESS, timeout)
                guest.expect("swept")
                guest.stop()

    def test_every_port_can_be_read_in_every_size(self):
        self.sweeps("r")

    def test_every_port_can_be_written_in_every_size(self):
        self.sweeps("w")

    def test_string_instructions_go_to_any_port_and_any_memory(self):
        self.sweeps("s")

    def test_memory_where_nobody_is_can_be_touched_in_every_size(self):
        self.sweeps("m")

    def test_memory_of_devices_can_be_touched_in_every_size(self):
        self.sweeps("d")

    def test_unusual_instructions_may_go_where_nobody_is(self):
        if ENGINES == ["kvm"]:
            self.skipTest("KVM can't emulate x87 instructions there without the rescue")
        guest = self.sweep("x", "interpreter")
        self.assert_ends(guest, SUCCESS, 120)
        guest.expect("swept")

    def test_the_machine_works_after_all_of_it(self):
        guest = self.sweep("rwsmdxrw", "interpreter")
        self.assert_ends(guest, SUCCESS, 120)
        guest.expect("swept")

    def test_a_string_instruction_without_end_can_be_stopped(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                guest = self.sweep("l", engine)
                guest.wait_for_message("engine: ", 20)
                guest.signal(signal.SIGQUIT)
                self.assert_ends(guest, STOPPED, 20)
                guest.stop()

    def test_page_tables_where_nobody_is_end_in_a_triple_fault(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                self.assert_ends(self.sweep("p", engine), TRIPLE_FAULT, 30)


if __name__ == "__main__":
    unittest.main()
