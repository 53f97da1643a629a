"""Debian's cloud kernel on the virtio console: a shell on hvc0, and named ports both ways, with
readers that are slow, leave and come back."""

import fcntl
import hashlib
import struct
import termios
import unittest

from cloud_guest import *

LAST = 300_000  # of the numbers that a guest sends: 2 MiB
NUMBERS = b"".join(b"%d\n" % i for i in range(1, LAST + 1))


class VirtioConsole(CloudTest):
    """On the guest's own console where readers come and go in mid-run, a terminal is looked at, the guest is
    suspended or powers itself off."""

    def boot(self, config, engine=ENGINES[0], **keywords):
        return self.boot_cloud(config, engine, **keywords)

    def read_all(self, client, until=None):
        """All that comes until `until` stands at the end, or until the other side closes."""
        data = bytearray()
        client.settimeout(120)
        while until is None or not data.endswith(until):
            chunk = client.recv(65536)
            if not chunk:
                break
            data += chunk
        return bytes(data)

    def test_a_shell_runs_on_hvc0(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                path = f"{self.directory}/{engine}.sock"
                guest = self.boot(f'[console]\nhvc0 = "unix:{path}"\n', engine)
                self.await_shell(guest)
                client = self.connect(path)
                stream = Stream(client.fileno())
                self.start_job(guest, "setsid sh -c 'exec cttyhack sh -l </dev/hvc0 >/dev/hvc0 2>&1'")
                stream.expect("guest# ", 60)
                client.send(b"echo $((6*7)) on $(hostname)\r")
                stream.expect("\r\n42 on vmm-guest\r\n", 60)
                stream.expect("guest# ", 60)
                client.send(b"seq 1 20000 | md5sum\r")
                stream.expect(hashlib.md5(b"".join(b"%d\n" % i for i in range(1, 20001)))
                              .hexdigest(), 60)
                stream.expect("guest# ", 60)
                client.send(b"seq 1 20000\r")
                stream.expect("\r\n19999\r\n20000\r\n", 60)
                self.power_off(guest)
                guest.stop()

    def test_a_console_has_the_size_of_the_terminal(self):
        guest = self.boot(f'[console]\nserial0 = "unix:{self.directory}/s"\nhvc0 = "stdio"\n',
                          console="pty")
        serial = self.connect(f"{self.directory}/s")
        lines = Stream(serial.fileno())

        def resize(columns, rows):
            fcntl.ioctl(guest.terminal, termios.TIOCSWINSZ,
                        struct.pack("HHHH", rows, columns, 0, 0))
            guest.signal(signal.SIGWINCH)

        def await_size(columns, rows):
            # The kernel hears of it on a thread of its own.
            serial.send(b"until stty size </dev/hvc0 | grep '^%d %d$'; do usleep 10000; done\r"
                        % (rows, columns))
            lines.expect(rf"\r\n{rows} {columns}\r\n", 60)
            lines.expect("guest# ", 60)

        resize(132, 43)
        lines.expect("vmm-init: up", self.limit)
        lines.expect("guest# ", self.limit)
        await_size(132, 43)
        resize(90, 30)
        await_size(90, 30)
        serial.send(b"poweroff -f\r")
        self.assert_ends(guest, SUCCESS, 60)

    def test_ports_carry_bytes_both_ways(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                path = f"{self.directory}/{engine}.sock"
                script = """
                    exec 3<>$(port org.example.0) 4<>$(port other)
                    echo open
                    md5sum <&4 >&3
                    head -c 1048576 /dev/urandom >/tmp/r; cat /tmp/r >&3
                    md5sum </tmp/r"""
                guest = self.start_in_guest(
                    script, 'port = [{ name = "org.example.0", to = "unix:%s" }, "other"]\n' % path, engine)
                client = self.connect(path, 60)
                other = self.connect(f"{self.directory}/other.sock", 60)
                guest.expect("open\n", BOOT_SECONDS[engine])
                other.sendall(NUMBERS)
                other.close()  # the end of the file, once all of it has come
                client.settimeout(60)
                self.assertIn(hashlib.md5(NUMBERS).hexdigest().encode(), client.recv(100))
                received = bytearray()
                while len(received) < 1048576:
                    received += client.recv(65536)
                self.assertEqual(self.finish(guest).decode(), f"open\n{hashlib.md5(received).hexdigest()}  -\n")

    def test_a_slow_reader_stops_the_program_and_nothing_else(self):
        script = f"""
            exec 3<>$(port slow)
            (seq 1 {LAST} >&3; touch /tmp/written) &
            for i in 1 2 3 4 5; do usleep 100000; echo $((6*7)); test -e /tmp/written || echo waits; done
            wait; test -e /tmp/written"""
        guest = self.start_in_guest(script, 'port = ["slow"]\n')
        client = self.connect(f"{self.directory}/slow.sock", 60)
        guest.expect(r"^(42\nwaits\n){5}", BOOT_SECONDS[ENGINES[0]])
        self.assertEqual(self.read_all(client, b"\n%d\n" % LAST), NUMBERS)
        self.finish(guest)

    def test_a_reader_that_leaves_is_seen_and_the_next_goes_on(self):
        guest = self.boot('port = ["talk"]\n')
        self.await_shell(guest)
        client = self.connect(f"{self.directory}/talk.sock")
        self.run_command(guest, "exec 3<>$(port talk)")
        self.start_job(guest, f"seq 1 {LAST} >&3")
        client.settimeout(60)
        first = client.recv(1000)
        self.assertTrue(NUMBERS.startswith(first))
        client.close()
        client = self.connect(f"{self.directory}/talk.sock")
        rest = self.read_all(client, b"\n%d\n" % LAST)
        # What lay in the first one's socket went with it; the rest is there to the last byte.
        self.assertTrue(NUMBERS.endswith(rest))
        self.assertGreater(len(rest), len(NUMBERS) // 2)
        # Programs see the end of the input when a client goes, and take what the next one says.
        for i in range(3):
            self.start_job(guest, "cat <&3; echo over")
            client.sendall(b"hello %d\n" % i)
            client.close()
            guest.expect(rf"hello {i}\r\nover\r\n", 60)
            client = self.connect(f"{self.directory}/talk.sock")
            self.run_command(guest, 'echo "back $((6*7))" >&3')
            self.assertEqual(self.read_all(client, b"\n"), b"back 42\n")
        self.power_off(guest)

    def test_a_suspended_guest_loses_no_byte(self):
        config = 'port = ["stream"]\n'
        guest = self.boot(config)
        self.await_shell(guest)
        client = self.connect(f"{self.directory}/stream.sock")
        self.run_command(guest, "exec 3<>$(port stream)")
        self.start_job(guest, f"seq 1 {LAST} >&3; touch /tmp/written")
        client.settimeout(60)
        received = client.recv(1000)
        guest.signal(signal.SIGUSR1)
        received += self.read_all(client)
        self.assert_ends(guest, SUSPENDED, 60)
        guest.stop()
        self.assertLess(len(received), len(NUMBERS))
        guest = self.boot(config)
        guest.wait_for_message("resumed from")
        client = self.connect(f"{self.directory}/stream.sock")
        received += self.read_all(client, b"\n%d\n" % LAST)
        self.assertEqual(received, NUMBERS)
        client.sendall(b"and back\n")
        self.run_command(guest, "head -n 1 <&3", "\r\nand back\r\n")
        self.power_off(guest)

    def test_what_was_sent_before_the_end_arrives(self):
        guest = self.boot('port = [{ name = "log", to = "file:%s/log" }]\n' % self.directory)
        self.await_shell(guest)
        guest.send(f"exec 3<>$(port log); seq 1 {LAST} >&3; poweroff -f\r")
        self.assert_ends(guest, SUCCESS, 60)
        self.await_file(f"{self.directory}/log", NUMBERS)


if __name__ == "__main__":
    unittest.main()
