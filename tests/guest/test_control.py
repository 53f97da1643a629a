"""`vmm ctl` and the control socket of a running machine: docs/control.md."""

import contextlib
import errno
import json
import stat
import subprocess
import threading
import time
import unittest

from vmm_guest import *

BUTTON = "b.o"  # waits for the power button, then powers off
SPIN = ".s"


class ControlTest(GuestTest):
    def setUp(self):
        super().setUp()
        self.socket = os.path.join(self.directory, "control.sock")

    def start_machine(self, script=SPIN, config="", console="pipe", **keywords):
        guest = self.start_script(script, config, console=console, **keywords)
        self.connect(self.socket).close()  # it is there
        return guest

    def ctl(self, *words, where=None, timeout=60, **keywords):
        where = ["--socket", self.socket] if where is None else where
        keywords.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([VMM, "ctl", *where, *words], capture_output=True, text=True,
                              timeout=timeout, check=False, **keywords)

    def told(self, *words, **keywords):
        """What `vmm ctl` prints, which must succeed."""
        process = self.ctl(*words, **keywords)
        self.assertEqual((process.returncode, process.stderr), (0, ""), process)
        return process.stdout

    def result(self, *words):
        answer = json.loads(self.told(*words, "--json"))
        self.assertIs(answer["ok"], True)
        return answer["result"]

    def assert_refused(self, process, code, pattern):
        self.assertEqual(process.returncode, code, process)
        self.assertRegex(process.stderr, pattern)


class Commands(ControlTest):
    def test_the_status_is_that_of_the_machine(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                guest = self.start_machine(config='cpus = 2\nname = "web1"\n', engine=engine)
                status = self.result("status")
                self.assertEqual(
                    {key: status[key] for key in ("name", "state", "engine", "cpus", "memory", "pid")},
                    {"name": "web1", "state": "running", "engine": engine, "cpus": 2,
                     "memory": 16 << 20, "pid": guest.process.pid})
                self.assertEqual(status["config"], os.path.join(self.directory, "vm.toml"))
                self.assertRegex(self.told("status"), "^web1 is running: 2 CPUs, 16M, engine ")
                guest.stop()

    def test_the_machine_is_found_by_its_config_or_the_working_directory(self):
        self.start_machine(config='name = "web1"\n')
        for where, keywords in ((["--config", self.directory], {}),
                                (["-c", os.path.join(self.directory, "vm.toml")], {}),
                                ([], {"cwd": self.directory})):
            self.assertIn("web1 is running", self.told("status", where=where, **keywords))

    def test_a_paused_guest_stands_still_and_goes_on(self):
        guest = self.start_machine("F")
        guest.expect("\n")
        self.assertEqual(self.told("pause"), "the machine is paused\n")
        self.assertEqual(self.result("status")["state"], "paused")
        before = self.executed()
        self.assertEqual(self.executed(), before)
        self.assertEqual(self.result("pause")["state"], "paused")
        self.assertEqual(self.told("resume"), "the machine is running\n")
        deadline = time.monotonic() + 30
        while self.executed() == before:
            self.assertLess(time.monotonic(), deadline)

    def executed(self):
        engines = self.result("stats")["engines"]
        self.assertEqual(len(engines), 1)
        self.assertTrue(engines[0]["running"])
        row = engines[0]["statistics"][0]
        self.assertEqual(sum(row["cpus"]), row["total"])
        return row["total"]

    def test_powerdown_presses_the_button_and_waits_for_the_end(self):
        guest = self.start_machine(BUTTON)
        guest.expect("waiting")
        text = self.told("powerdown", "--wait")
        self.assertEqual(text, "the power button was pressed\n"
                               "the machine ended with 0 (Success): the guest powered off\n")
        # All that it left is there, and its socket gone, when the command returns.
        self.assertEqual(guest.result["exit_code"], 0)
        self.assertFalse(os.path.exists(self.socket))
        self.assert_ends(guest, SUCCESS)

    def test_a_paused_guest_does_not_see_the_button(self):
        self.start_machine()
        self.told("pause")
        self.assert_refused(self.ctl("powerdown"), UNAVAILABLE, "paused.*fix: vmm ctl resume")

    def test_stop_asks_first_and_force_does_not(self):
        guest = self.start_machine(BUTTON)
        guest.expect("waiting")
        self.told("stop")
        self.assert_ends(guest, SUCCESS)
        guest = self.start_machine(SPIN, 'stop_timeout = "200ms"\n')
        guest.expect("hello")
        self.assertIn("ended with 87 (Stopped)", self.told("stop", "--wait"))
        self.assert_ends(guest, STOPPED)
        guest = self.start_machine(SPIN)
        guest.expect("hello")
        self.assertIn("(Stopped): stopped by vmm ctl", self.told("stop", "--force", "--wait"))
        self.assert_ends(guest, STOPPED)

    def test_reset_starts_the_guest_again(self):
        guest = self.start_machine(SPIN)
        for _ in range(3):
            guest.expect("hello from the guest")
            self.assertEqual(self.told("reset"), "the machine was reset\n")
        guest.expect("hello from the guest")

    def test_suspend_answers_once_the_file_is_there(self):
        guest = self.start_machine(BUTTON)
        guest.expect("waiting")
        file = os.path.join(self.directory, "suspend.vmstate")
        self.assertEqual(self.result("suspend"), {"file": file})
        self.assertTrue(os.path.exists(file))
        self.assert_ends(guest, SUSPENDED)
        guest = self.start_machine(BUTTON)  # goes on from there
        guest.wait_for_message("resumed")
        self.assertIn("ended with 0", self.told("powerdown", "--wait"))
        self.assert_ends(guest, SUCCESS)

    def test_what_can_not_be_suspended_goes_on(self):
        guest = self.start_machine(config='suspend_file = "/no/such/place/file"\n')
        process = self.ctl("suspend", "--wait")
        self.assertNotEqual(process.returncode, 0)
        self.assertIn("goes on", process.stderr)
        answer = json.loads(self.ctl("suspend", "--json").stdout)
        self.assertIs(answer["ok"], False)
        self.assertEqual(self.result("status")["state"], "running")
        self.assertIsNone(guest.process.poll())

    @unittest.skipUnless({"bt", "interpreter"} <= set(ENGINES), "needs two engines")
    def test_move_tells_the_new_engine_or_why_not(self):
        self.start_machine(engine="interpreter")
        # Without a KVM that could take it over: the translator.
        process = self.ctl("move")
        if process.returncode == 0:
            engine = self.result("status")["engine"]
            self.assertEqual(process.stdout, f"the machine goes on under {engine}\n")
            self.assertNotEqual(engine, "interpreter")
        else:
            self.assert_refused(process, ENGINE_UNAVAILABLE, "KVM lacks")
            self.assertEqual(self.result("status")["engine"], "interpreter")

    def test_wait_tells_how_the_machine_ended(self):
        guest = self.start_machine("e", "cpus = 2\n")
        clients = [self.connect(self.socket) for _ in range(3)]
        for client in clients:
            client.settimeout(30)
            client.sendall(b'{"id":1,"command":"disk"}\n{"id":2,"command":"wait"}\n')
        lines = [client.makefile() for client in clients]
        for file in lines:  # the machine has read both
            self.addCleanup(file.close)
            self.assertIn("vmm", json.loads(file.readline()))
            self.assertEqual(json.loads(file.readline())["id"], 1)
        guest.send("Q")
        for file in lines:
            answer = json.loads(file.readline())
            self.assertEqual(answer["id"], 2)
            self.assertEqual(answer["result"]["exit_code"], 0)
            self.assertEqual(file.readline(), "")
        self.assertFalse(os.path.exists(self.socket))
        self.assert_ends(guest, SUCCESS)

    def test_disks_are_listed(self):
        image = os.path.join(self.directory, "a.img")
        with open(image, "wb") as file:
            file.truncate(1 << 20)
        self.start_machine(config='disk = [{ path = "a.img", mode = "ro" }]\n')
        self.assertEqual(
            [{key: disk[key] for key in ("name", "path", "format", "mode", "size", "queues")}
             for disk in self.result("disk")["disks"]],
            [{"name": "disk0", "path": image, "format": "raw", "mode": "ro", "size": 1 << 20,
              "queues": 1}])
        self.assertRegex(self.told("disk"), r"^disk0: .*a.img \(raw, ro\), 1048576 bytes, by ")

    def test_attach_connects_with_a_console(self):
        guest = self.start_machine("e", '[console]\nserial0 = "unix:c.sock"\nserial1 = "pty"\n',
                                   console=None)
        output = self.told("attach", input="hallo Q", stdin=None)
        self.assertEqual(output, "hallo ")
        self.assert_ends(guest, SUCCESS)

    def test_a_console_that_nobody_can_attach_to_says_so(self):
        self.start_machine()
        self.assert_refused(self.ctl("attach"), UNAVAILABLE, "the terminal of vmm itself.*fix: write")
        self.assert_refused(self.ctl("attach", "serial1"), UNAVAILABLE, "leads to nowhere")
        self.assert_refused(self.ctl("attach", "com1"), USAGE, "no console; known: serial0")


class Sockets(ControlTest):
    def test_without_a_machine_every_command_says_so(self):
        for words in (["status"], ["wait"], ["stop", "--wait"], ["attach"]):
            self.assert_refused(self.ctl(*words), UNAVAILABLE, "^vmm: no machine runs behind ")

    def test_a_machine_without_vm_toml_has_a_socket_only_if_asked(self):
        arguments = ("--kernel", SCRIPT_GUEST, "--append", SPIN, "--accel", ENGINES[0])
        guest = self.start(arguments=(*arguments, "--control", self.socket))
        guest.expect("hello")
        self.assertIn("is running", self.told("status"))
        guest.stop()
        guest = self.start(arguments=arguments)
        guest.expect("hello")
        # The one that was killed has left its file; nobody answers there.
        self.assert_refused(self.ctl("status"), UNAVAILABLE, "no machine runs")

    def test_the_socket_of_a_killed_machine_is_replaced(self):
        guest = self.start_machine()
        guest.process.kill()
        guest.process.wait()
        self.assertTrue(os.path.exists(self.socket))
        guest = self.start_machine()
        self.assertEqual(self.result("status")["pid"], guest.process.pid)
        self.assertEqual(stat.S_IMODE(os.stat(self.socket).st_mode), 0o600)

    def test_the_socket_of_a_live_machine_stays_its_own(self):
        elsewhere = os.path.join(self.directory, "elsewhere")
        os.mkdir(elsewhere)
        first = Guest(elsewhere, f'kernel = "{SCRIPT_GUEST}"\nappend = "{SPIN}"\nmemory = "16M"\n'
                                 f'accel = "{ENGINES[0]}"\ncontrol = "{self.socket}"\n')
        self.addCleanup(first.stop)
        self.connect(self.socket).close()
        second = self.start_script("x0")
        self.assert_ends(second, SUCCESS)  # nobody asked for its socket: it runs without
        self.assertIn("vmm ctl won't reach this machine", second.messages)
        third = self.start_script("x0", 'control = "control.sock"\n')
        self.assert_ends(third, 73)
        self.assertIn("another program serves it", third.messages)
        self.assertEqual(self.result("status")["pid"], first.process.pid)

    def test_a_path_that_is_too_long_is_told_early(self):
        guest = self.start_script("x0", f'control = "{"x" * 120}"\n')
        self.assert_ends(guest, CONFIG_INVALID)
        self.assertRegex(guest.messages, r"vm.toml:\d+:\d+: the path of the control socket has \d+ ")
        deep = os.path.join(self.directory, "d" * 100)
        os.mkdir(deep)
        with open(os.path.join(deep, "vm.toml"), "w", encoding="utf-8") as file:
            file.write(f'kernel = "{SCRIPT_GUEST}"\nappend = "x0"\naccel = "{ENGINES[0]}"\n')
        guest = self.start(arguments=[deep])
        self.assert_ends(guest, SUCCESS)  # nobody asked for that one
        self.assertIn("won't reach", guest.messages)

    def test_the_socket_is_there_until_the_machine_is_down(self):
        guest = self.start_machine(SPIN, 'stop_timeout = "10m"\n')
        guest.expect("hello")
        self.told("stop")
        guest.wait_for_message("power button")
        self.assertEqual(self.result("status")["state"], "running")
        self.told("stop", "--force", "--wait")
        self.assertFalse(os.path.exists(self.socket))
        self.assert_ends(guest, STOPPED)


class Hostile(ControlTest):
    """Clients that do what they should not; meanwhile the guest runs and others are served."""

    def setUp(self):
        super().setUp()
        self.guest = self.start_machine("e")

    def talk(self, data):
        client = self.connect(self.socket)
        client.settimeout(30)
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.assertIn(error.errno, (errno.EPIPE, errno.ECONNRESET))
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := client.recv(65536):
                received += chunk
        return received

    def assert_alive(self):
        self.assertEqual(self.result("status")["state"], "running")
        self.guest.send("x")
        self.guest.expect("x")

    def test_garbage_gets_an_error_of_json(self):
        for data in (b"status\n", b"{}\n", b"[[[[\n", b"\xff\xfe\n", b"\0" * 100 + b"\n",
                     b'{"command":"\xff"}\n', b"[" * 16000 + b"\n"):
            greeting, answer, rest = self.talk(data).split(b"\n")
            self.assertEqual(json.loads(greeting)["vmm"]["protocol"], 1)
            self.assertEqual(json.loads(answer)["error"]["name"], "Usage")
            self.assertEqual(rest, b"")
        self.assert_alive()

    def test_a_line_of_a_mebibyte_is_refused(self):
        for data in (b"x" * (1 << 20), b'{"command":"' + b"x" * (1 << 20) + b'"}\n'):
            received = self.talk(data)
            # Its rest was not read, so that the answer may be lost with the connection.
            if received.count(b"\n") > 1:
                self.assertIn(b"a line has at most", received)
        self.assert_alive()

    def test_half_lines_and_sudden_ends(self):
        for _ in range(50):
            for data in (b"", b"{", b'{"command":"status"', b'{"command":"stats"}\n' * 3,
                         b'{"command":"wait"}\n', b'{"command":"disk"}\n{"command":"wait"}\n{'):
                client = socket.socket(socket.AF_UNIX)
                client.connect(self.socket)
                with contextlib.suppress(OSError):
                    client.sendall(data)
                client.close()
        self.assert_alive()

    def test_a_hundred_connections_leave_room_once_they_are_gone(self):
        clients = [self.connect(self.socket) for _ in range(100)]
        self.guest.send("x")
        self.guest.expect("x")
        for client in clients:
            client.close()
        deadline = time.monotonic() + 30
        while self.ctl("status").returncode != 0:
            self.assertLess(time.monotonic(), deadline)
        self.assert_alive()

    def test_a_client_that_reads_nothing_holds_up_nobody(self):
        client = self.connect(self.socket)
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                client.send(b'{"command":"stats"}\n' * 100)
        self.assert_alive()

    def test_many_at_once_are_all_answered(self):
        answers = []

        def ask():
            for _ in range(10):
                for command in ("status", "stats", "pause", "resume"):
                    answers.append(self.talk(b'{"id":1,"command":"%s"}\n' % command.encode()))

        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(answers), 200)
        for received in answers:
            answer = json.loads(received.split(b"\n")[1])
            self.assertEqual((answer["id"], answer["ok"]), (1, True))
        self.told("resume")
        self.assert_alive()


if __name__ == "__main__":
    unittest.main()
