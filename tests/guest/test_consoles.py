"""Serial lines on stdio, a terminal, sockets and files, with readers that are late, slow or gone."""

import os
import socket
import termios
import time
import unittest

from vmm_guest import *


class Stdio(GuestTest):
    def test_input_that_comes_early_is_held_back(self):
        # 'b' waits for the power button: everything is typed before the guest reads any of it.
        guest = self.start_script("be.o")
        guest.send("typed early, " * 40 + "Q")
        guest.expect("waiting")
        guest.signal(signal.SIGTERM)
        guest.expect("(typed early, ){40}hello from the guest", 10)
        self.assert_ends(guest, SUCCESS)

    def test_the_end_of_stdin_does_not_end_the_machine(self):
        guest = self.start_script("eb.o")
        guest.send("last wordsQ")
        guest.close_input()
        guest.expect("last wordswaiting")
        time.sleep(0.2)
        self.assertIsNone(guest.process.poll())
        guest.signal(signal.SIGTERM)
        self.assert_ends(guest, SUCCESS)

    def test_stdin_from_dev_null_is_no_trouble(self):
        with open(os.devnull, "rb") as nothing:
            guest = self.start_script(".o", stdin=nothing)
            guest.expect("hello from the guest")
            self.assert_ends(guest, SUCCESS)

    def test_a_closed_reader_does_not_end_the_machine(self):
        reader, writer = os.pipe()
        guest = self.start_script("ff2b.o", console=None, stdout=writer, config=(
            f'[console]\nserial0 = "stdio"\nserial1 = "file:{self.directory}/done"\n'))
        os.close(writer)
        os.read(reader, 100)
        os.close(reader)
        self.await_file(f"{self.directory}/done", b"2")
        self.assertIsNone(guest.process.poll(), guest.messages)
        time.sleep(0.1)  # until the guest has switched ACPI on
        guest.signal(signal.SIGTERM)
        self.assert_ends(guest, SUCCESS)

    def test_all_that_a_guest_prints_before_its_end_arrives(self):
        guest = self.start_script("f.o")
        self.assert_ends(guest, SUCCESS, 30)
        guest.expect("00003fff......\r\nhello from the guest")
        self.assertEqual(len(guest.stream.data), 16384 * 16 + len("hello from the guest\r\n"))


class Terminal(GuestTest):
    def start_on_terminal(self, script, config=""):
        guest = self.start_script(script, config, console="pty")
        return guest

    def test_keys_go_to_the_guest_unchanged_and_the_terminal_is_restored(self):
        guest = self.start_on_terminal(".e.o")
        guest.expect("hello from the guest")
        self.assertNotEqual(termios.tcgetattr(guest.terminal), guest.terminal_before)
        guest.send("\x03\x1a\x1c^")
        guest.expect("\x03\x1a\x1c\\^")
        guest.send("Q")
        self.assert_ends(guest, SUCCESS)
        self.assert_terminal_restored(guest)

    def test_ctrl_a_x_stops(self):
        for script in (".e", ".s"):  # a guest that reads, and one that does not
            with self.subTest(script=script):
                guest = self.start_on_terminal(script)
                guest.expect("hello from the guest")
                guest.send("abc\x01x")
                self.assert_ends(guest, STOPPED)
                self.assert_terminal_restored(guest)
                guest.stop()

    def test_ctrl_a_p_presses_the_power_button(self):
        guest = self.start_on_terminal(".b.o")
        guest.expect("hello from the guest")
        guest.expect("waiting")
        guest.send("\x01p")
        self.assert_ends(guest, SUCCESS)
        self.assert_terminal_restored(guest)

    def test_ctrl_a_a_sends_ctrl_a(self):
        guest = self.start_on_terminal(".e.o")
        guest.expect("hello from the guest")
        guest.send("<\x01a>Q")
        guest.expect("<\x01>")
        self.assert_ends(guest, SUCCESS)

    def test_the_terminal_is_restored_on_every_way_out(self):
        for script, config, code in ((".t", "", TRIPLE_FAULT), (".h", "", HANG),
                                     (".P", "", PANIC), (".x3", "", GUEST_FAILURE),
                                     (".r", 'on_reboot = "exit"\n', GUEST_RESET),
                                     (".s", '[limits]\nwall = "200ms"\n', WALL_TIMEOUT)):
            with self.subTest(script=script):
                guest = self.start_on_terminal(script, config)
                self.assert_ends(guest, code)
                self.assert_terminal_restored(guest)
                guest.stop()

    def test_the_terminal_is_restored_when_signals_end_the_machine(self):
        for signals in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGHUP),
                        (signal.SIGQUIT,)):
            with self.subTest(signals=signals):
                guest = self.start_on_terminal(".s")
                guest.expect("hello from the guest")
                for number in signals:
                    guest.signal(number)
                    time.sleep(0.05)
                self.assert_ends(guest, STOPPED)
                self.assert_terminal_restored(guest)
                guest.stop()


class Sockets(GuestTest):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.directory, "serial.sock")
        self.config = f'[console]\nserial0 = "unix:{self.path}"\n'

    def test_a_client_talks_to_the_guest_and_the_socket_is_removed(self):
        guest = self.start_script("e.o", self.config)
        client = self.connect(self.path)
        client.sendall(b"over the socketQ")
        self.assertIn(b"over the sockethello from the guest", read_for(client, 5))
        self.assert_ends(guest, SUCCESS)
        self.assertFalse(os.path.exists(self.path))

    def test_the_socket_is_removed_when_the_machine_is_stopped(self):
        guest = self.start_script("s", self.config)
        self.connect(self.path)
        guest.signal(signal.SIGQUIT)
        self.assert_ends(guest, STOPPED)
        self.assertFalse(os.path.exists(self.path))

    def test_a_late_client_gets_the_last_64_kib(self):
        guest = self.start_script("f2eo", self.config +
                                  f'serial1 = "file:{self.directory}/done"\n')
        self.await_file(f"{self.directory}/done", b"2")
        client = self.connect(self.path)
        replay = read_for(client, 1)
        self.assertEqual(len(replay), 65536)
        self.assertTrue(replay.endswith(b"00003fff......\r\n"), replay[-40:])
        client.sendall(b"Q")
        self.assert_ends(guest, SUCCESS)

    def test_a_second_client_can_attach_after_the_first_left(self):
        guest = self.start_script("eo", self.config)
        first = self.connect(self.path)
        first.sendall(b"first")
        self.assertIn(b"first", read_for(first, 0.5))
        first.close()
        second = self.connect(self.path)
        second.sendall(b"secondQ")
        self.assertIn(b"second", read_for(second, 2))
        self.assert_ends(guest, SUCCESS)

    def test_a_reader_that_stops_reading_stalls_nobody(self):
        guest = self.start_script("ff2o", self.config +
                                  f'serial1 = "file:{self.directory}/done"\n')
        self.connect(self.path).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.await_file(f"{self.directory}/done", b"2", 20)
        self.assert_ends(guest, SUCCESS, 5)

    def test_a_guest_that_floods_does_not_keep_signals_or_other_lines_from_working(self):
        guest = self.start_script("2F", self.config +
                                  f'serial1 = "file:{self.directory}/done"\n'
                                  'serial2 = "null"\n')
        client = self.connect(self.path)
        self.await_file(f"{self.directory}/done", b"2")
        self.assertGreater(len(read_for(client, 0.3)), 1000)
        asked = time.monotonic()
        guest.signal(signal.SIGTERM)
        guest.signal(signal.SIGQUIT)
        self.assert_ends(guest, STOPPED, 3)
        self.assertLess(time.monotonic() - asked, 2)


class OtherConsoles(GuestTest):
    def test_four_lines_lead_to_four_places(self):
        config = "[console]\n" + "".join(
            f'serial{i} = "file:{self.directory}/line{i}"\n' for i in range(4))
        guest = self.start_script("1234o", config)
        self.assert_ends(guest, SUCCESS)
        for i in range(4):
            with open(f"{self.directory}/line{i}", encoding="ascii") as file:
                self.assertEqual(file.read(), str(i + 1))

    def test_a_pseudo_terminal_is_named_and_usable(self):
        guest = self.start_script("e.o", '[console]\nserial0 = "pty"\n')
        path = guest.wait_for_message(r"(/dev/pts/\d+)").group(1)
        terminal = os.open(path, os.O_RDWR | os.O_NOCTTY)
        try:
            os.write(terminal, b"over the ptyQ")
            seen = b""
            while b"hello from the guest" not in seen:
                seen += os.read(terminal, 4096)
            self.assertIn(b"over the pty", seen)
        finally:
            os.close(terminal)
        self.assert_ends(guest, SUCCESS)

    def test_a_console_that_cannot_be_opened_is_an_error_with_its_name(self):
        for spec in (f"file:{self.directory}/none/log", f"unix:{self.directory}/none/sock"):
            with self.subTest(spec=spec):
                guest = self.start_script("o", f'[console]\nserial0 = "{spec}"\n')
                self.assertIn(guest.wait(), (66, 73, 102, 65), guest.messages)
                self.assertIn("none", guest.messages)


if __name__ == "__main__":
    unittest.main()
