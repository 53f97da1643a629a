"""How a run ends, and with which exit code: docs/exit-codes.md."""

import time
import unittest

from vmm_guest import *


class Verdicts(GuestTest):
    def ends(self, script, code, config="", timeout=10, **keywords):
        guest = self.start_script(script, config, **keywords)
        self.assert_ends(guest, code, timeout)
        return guest

    def test_a_guest_that_powers_off_ends_with_0(self):
        guest = self.ends(".o", SUCCESS)
        guest.expect("hello from the guest")
        self.assertEqual(guest.result["exit_code"], 0)

    def test_the_debug_exit_port_gives_0_or_80(self):
        self.ends("x0", SUCCESS)
        guest = self.ends("x7", GUEST_FAILURE)
        self.assertEqual(guest.result["guest_value"], 7)

    def test_a_triple_fault_is_82(self):
        self.ends("t", TRIPLE_FAULT)

    def test_all_processors_halted_with_interrupts_off_is_83(self):
        self.ends("h", HANG)
        self.ends("h", HANG, "cpus = 3\n")

    def test_a_guest_that_waits_for_interrupts_is_no_hang(self):
        guest = self.start_script(".i", "[limits]\nwall = \"1500ms\"\n")
        self.assert_ends(guest, WALL_TIMEOUT)

    def test_the_limits_are_84_and_85(self):
        self.ends("F", WALL_TIMEOUT, "[limits]\nwall = \"300ms\"\nidle = \"250ms\"\n")
        self.ends(".s", IDLE_TIMEOUT, "[limits]\nwall = \"8s\"\nidle = \"200ms\"\n")

    def test_a_panic_is_81_within_a_second(self):
        for script in ("P", "ps", "pr", "v"):
            with self.subTest(script=script):
                guest = self.start_script("." + script)
                guest.expect("hello from the guest")
                printed = time.monotonic()
                self.assert_ends(guest, PANIC)
                self.assertLess(time.monotonic() - printed, 1.5)
                if script != "v":
                    self.assertIn("the test says so", guest.result["reason"])
                    self.assertEqual(guest.messages.count("the test says so"), 1)
                    self.assertIn("hello from the guest", guest.result["console_tail"])

    def test_on_panic_reset_starts_the_guest_again(self):
        guest = self.start_script(".ps", 'on_panic = "reset"\n')
        for _ in range(2):
            guest.expect("hello from the guest")
            guest.expect("not syncing")
            guest.wait_for_message("not syncing")

    def test_a_reset_by_each_of_its_ways_starts_the_guest_again(self):
        for way in "rka":
            with self.subTest(way=way):
                guest = self.start_script("." + way)
                for _ in range(3):
                    guest.expect("hello from the guest")
                guest.stop()

    def test_cmos_outlives_a_reset(self):
        guest = self.ends("co", SUCCESS)
        guest.expect("boot 1\r\nboot 2\r\nboot 3\r\n")

    def test_with_on_reboot_exit_a_reset_is_86(self):
        for way in "rka":
            with self.subTest(way=way):
                self.ends(way, GUEST_RESET, 'on_reboot = "exit"\n')

    def test_accesses_where_nobody_is_do_not_stop_the_machine(self):
        guest = self.ends("w.x0", SUCCESS)
        guest.expect("hello from the guest")

    def test_the_engine_and_the_reason_are_told_once(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                guest = self.ends("x0", SUCCESS, engine=engine)
                self.assertEqual(guest.messages.count("engine: "), 1)
                self.assertIn(engine, guest.messages)
                self.assertEqual(guest.result["engine"], engine)


class Stopping(GuestTest):
    def test_sigterm_presses_the_power_button(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(signal=number):
                guest = self.start_script("b.o")
                guest.expect("waiting")
                guest.signal(number)
                self.assert_ends(guest, SUCCESS)
                guest.expect("hello from the guest")

    def test_after_the_grace_time_the_end_comes_by_force(self):
        guest = self.start_script(".s", 'stop_timeout = "300ms"\n')
        guest.expect("hello from the guest")
        asked = time.monotonic()
        guest.signal(signal.SIGTERM)
        self.assert_ends(guest, STOPPED)
        self.assertGreater(time.monotonic() - asked, 0.25)
        self.assertLess(time.monotonic() - asked, 2)

    def test_a_second_signal_ends_at_once(self):
        for second in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=second):
                guest = self.start_script(".s", 'stop_timeout = "30s"\n')
                guest.expect("hello from the guest")
                guest.signal(signal.SIGTERM)
                guest.wait_for_message("power button")
                guest.signal(second)
                self.assert_ends(guest, STOPPED, 2)

    def test_a_paused_guest_can_be_stopped(self):
        guest = self.start_script(".v", 'on_panic = "pause"\n')
        guest.wait_for_message("paused")
        guest.signal(signal.SIGTERM)
        self.assert_ends(guest, STOPPED, 2)


if __name__ == "__main__":
    unittest.main()
