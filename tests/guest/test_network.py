"""Debian's cloud kernel on virtio network cards: the network behind the host's, and a wire by hand."""

import glob
import hashlib
import os
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import unittest

from cloud_guest import *
from network_servers import FileServer, Resolver, Sink, WebServer, WebServer6, fetch, in_background

SIZE = 100 << 20  # bytes of the download


class Networks(CloudTest):
    """On the console where the host comes in through a forward, pulls the cable or ends the helper meanwhile, and
    where the guest is suspended or reset."""

    def boot(self, net, engine=ENGINES[0], **keywords):
        """`net`: the items of the key, as vm.toml has them."""
        return self.boot_cloud(f'net = [{net}]\n', engine, append="quiet", **keywords)

    def check_network(self, engine, size):
        web = WebServer(size)
        port = in_background(self, web)
        noise = hashlib.sha256(web.noise).hexdigest()
        sink, names = in_background(self, Sink()), in_background(self, Resolver())
        files = FileServer()
        tftp = in_background(self, files)
        guest = self.boot('{ forward = ["tcp:0:80", "udp:0:7"] }', engine, cpus=2)
        self.lease(guest)
        self.run_command(guest, "ping -c 3 10.0.2.2", r"3 packets received")
        # TCP both ways.
        self.run_command(guest, f"wget -q -O - http://10.0.2.2:{port}/x | sha256sum",
                         rf"\n{noise}  -\r", 300)
        self.run_command(guest, f"dd if=/dev/zero of=/tmp/z bs=1M count={size >> 20}; echo made",
                         r"\nmade\r")
        count = "".join(f"\\{byte:03o}" for byte in size.to_bytes(8, "big"))
        self.run_command(guest, f"printf '{count}' > /tmp/n; echo made", r"\nmade\r")
        zeros = hashlib.sha256(bytes(size)).hexdigest()
        self.run_command(guest, f"cat /tmp/n /tmp/z | nc 10.0.2.2 {sink}", rf"\n{zeros}\r", 300)
        # A web server in the guest, through a forward: as many bytes again.
        self.run_command(guest, f"wget -q -O /tmp/z http://10.0.2.2:{port}/; echo got", r"\ngot\r",
                         300)
        self.run_command(guest, "httpd -h /tmp; echo serves", r"\nserves\r")
        got = fetch(guest.forwarded(80), "/z")
        self.assertEqual(hashlib.sha256(got).hexdigest(), noise)
        # UDP both ways.
        digest = hashlib.sha256(files.noise).hexdigest()
        self.run_command(guest, f"tftp -g -r f -l /tmp/f 10.0.2.2 {tftp}; sha256sum /tmp/f",
                         rf"\n{digest}  /tmp/f\r")
        self.assert_datagrams_come(guest, guest.forwarded(7, "udp"))
        # DNS, by a resolver of our own.
        self.run_command(guest, f"nslookup -type=a known.test 10.0.2.2:{names}",
                         r"Address: 192\.0\.2\.77")
        self.run_command(guest, f"nslookup -type=a other.test 10.0.2.2:{names}", r"NXDOMAIN")
        self.run_command(guest, "cat /etc/resolv.conf", r"nameserver 10\.0\.2\.3")
        self.assert_no_complaints(guest, "BUG:|call trace|bad csum|hw csum")
        self.power_off(guest)

    def assert_datagrams_come(self, guest, port):
        """Nobody listens there in the guest, whose kernel counts what came in vain."""
        came = threading.Event()

        def send():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                while not came.wait(0.05):
                    client.sendto(b"is anybody there?", ("127.0.0.1", port))
        sender = threading.Thread(target=send)
        sender.start()
        try:
            self.run_command(guest, "count() { awk '/^Udp: [0-9]/ {print $3}' /proc/net/snmp; }", "")
            self.run_command(guest, "until [ $(count) -gt 5 ]; do :; done; echo came", r"\ncame\r")
        finally:
            came.set()
            sender.join()

    def test_the_network_behind_the_hosts(self):
        self.check_network(ENGINES[0], SIZE)

    @full_only
    def test_the_other_engines(self):
        for engine in ENGINES[1:]:
            with self.subTest(engine=engine):
                self.check_network(engine, 8 << 20)

    def test_ipv6(self):
        try:
            web = WebServer6(1 << 20, ("::1", 0))
        except OSError as error:
            raise unittest.SkipTest(f"the host has no ::1: {error}") from None
        port = in_background(self, web)
        noise = hashlib.sha256(web.noise).hexdigest()
        # The router's advertisement makes the address; duplicate detection takes a second.
        script = f"""{LEASE}
            until ip -6 a s eth0 | grep -v tent | grep fec0; do :; done
            ping -c 2 fec0::2
            wget -q -O - http://[fec0::2]:{port}/ | sha256sum"""
        output = self.run_in_guest(script, 'net = ["user"]\n').decode()
        self.assertRegex(output, rf"(?s)\n *inet6 fec0:.*\n2 packets .* 2 packets received.*\n{noise}  -\n$")

    def test_forwards_of_ipv6(self):
        """TCP and UDP, to the address that the guest makes of the router's prefix."""
        script = f"""{LEASE}
            until ip -6 a s eth0 | grep -v tent | grep -q fec0; do :; done
            printf 'HTTP/1.0 200 OK\\r\\n\\r\\nby IPv6' > /tmp/page
            nc -l -p 80 < /tmp/page &
            until grep -qi ':0050 ' /proc/net/tcp6; do :; done
            echo listens
            wait
            # Nobody listens for datagrams: the kernel counts what came in vain.
            until [ $(awk '$1 == "Udp6NoPorts" {{ print $2 }}' /proc/net/snmp6) -gt 5 ]; do :; done"""
        guest = self.start_in_guest(script, 'net = [{ forward = ["tcp:[::1]:0:80", "udp:[::1]:0:7"] }]\n')
        try:
            guest.expect("listens\n", BOOT_SECONDS[ENGINES[0]])
        except AssertionError:
            if "can't listen on tcp [::1]:0: " in guest.messages:
                raise unittest.SkipTest("the host has no ::1") from None
            raise
        self.assertEqual(fetch(guest.forwarded(80, "tcp", "[::1]"), "/", "::1"), b"by IPv6")
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
            while guest.process.poll() is None:  # it has a limit of its own
                client.sendto(b"is anybody there?", ("::1", guest.forwarded(7, "udp", "[::1]")))
                time.sleep(0.05)
        self.finish(guest)

    def test_restricted_it_is_reached_and_reaches_nobody(self):
        port = in_background(self, WebServer(100))
        guest = self.boot('{ restrict = true, forward = ["tcp:0:80"] }')
        self.lease(guest)
        self.run_command(guest, f"wget -T 5 -O - http://10.0.2.2:{port}/ || echo refused",
                         r"\nrefused\r")
        self.run_command(guest, "echo inside > /tmp/x; httpd -h /tmp; echo serves", r"\nserves\r")
        self.assertEqual(fetch(guest.forwarded(80), "/x"), b"inside\n")
        self.power_off(guest)

    def test_a_cable_is_pulled_out_and_plugged_in_again(self):
        guest = self.boot('"user", { mac = "52:54:00:aa:bb:cc" }')
        self.lease(guest)

        def ctl(*words, status=0):
            ran = subprocess.run([VMM, "ctl", "--config", self.directory, "link", *words], capture_output=True,
                                 text=True, timeout=60, check=False)
            self.assertEqual(ran.returncode, status, ran)
            return ran.stdout + ran.stderr

        self.assertRegex(ctl(), r"(?s)net0: user, 52:[0-9a-f:]{14}, up\nnet1: user, 52:54:00:aa:bb:cc, up\n")
        self.assertRegex(ctl("net0", "down"), r"(?s)net0: .*, down\nnet1: .*, up\n")
        # The driver hears of it by an interrupt and a piece of work, which may take it a moment.
        wait = "until grep -q {} /sys/class/net/eth0/carrier; do :; done; echo is-$?"
        self.run_command(guest, wait.format(0), r"\nis-0\r")
        self.run_command(guest, "ping -c 1 -W 1 10.0.2.2 >/dev/null; echo is-$?", r"\nis-1\r")
        self.assertRegex(ctl("net0", "up"), r"net0: .*, up\n")
        self.run_command(guest, wait.format(1), r"\nis-0\r")
        self.run_command(guest, "ping -c 3 10.0.2.2", r"3 packets received")
        self.assertIn("fix: name one of net0, net1", ctl("net7", "down", status=69))
        self.assertIn("up", ctl("net0", "sideways", status=64))
        self.power_off(guest)

    def test_the_card_is_as_vm_toml_says_and_stays_so(self):
        pcap = os.path.join(self.directory, "net.pcap")
        nets = f'{{ mac = "52:54:00:aa:bb:cc", mtu = 1400, pcap = "{pcap}" }}, "user"'
        addresses = []
        for _ in range(2):
            output = self.run_in_guest(f"{LEASE}\nip link show eth0; ip link show eth1; cat /sys/class/net/eth0/carrier",
                                       f"net = [{nets}]\n").decode()
            match = re.search(r"(?s)mtu 1400.*\n.*52:54:00:aa:bb:cc.*ether (52:[0-9a-f:]{14}) .*\n1\n$", output)
            self.assertTrue(match, output)
            addresses.append(match.group(1))
        self.assertEqual(addresses[0], addresses[1])
        with open(pcap, "rb") as file:
            data = file.read()
        self.assertEqual(struct.unpack_from("<I", data)[0], 0xA1B23C4D)
        frames, at = [], 24
        while at < len(data):
            _, _, length, original = struct.unpack_from("<4I", data, at)
            self.assertEqual(length, original)
            frames.append(data[at + 16:at + 16 + length])
            at += 16 + length
        self.assertEqual(at, len(data))
        mac = bytes.fromhex("525400aabbcc")
        self.assertTrue(any(frame[6:12] == mac for frame in frames))
        # [RFC 2131] 2, 3: from the server's port, with the magic number and the card's address.
        self.assertTrue(any(frame[34:36] == b"\0\x43" and b"\x63\x82\x53\x63" in frame and
                            frame[70:76] == mac for frame in frames), "no answer of DHCP")

    def test_suspended_and_resumed(self):
        """The card and its address stay, connections are lost, and new ones come at once."""
        web = WebServer(1 << 20)
        port = in_background(self, web)
        noise = hashlib.sha256(web.noise).hexdigest()
        net = '{ forward = ["tcp:0:80"] }'
        guest = self.boot(net, cpus=2)
        self.lease(guest)
        self.run_command(guest, "echo inside > /tmp/x; httpd -h /tmp; echo serves", r"\nserves\r")
        for _ in range(3):
            guest.signal(signal.SIGUSR1)
            self.assert_ends(guest, SUSPENDED, 60)
            guest.stop()
            guest = self.boot(net, cpus=2)
            guest.wait_for_message("resumed from", 30)
            self.assertEqual(fetch(guest.forwarded(80), "/x"), b"inside\n")
            self.run_command(guest, f"wget -q -O - http://10.0.2.2:{port}/ | sha256sum",
                             rf"\n{noise}  -\r")
        self.assert_no_complaints(guest, "BUG:|call trace")
        self.power_off(guest)

    def test_reset_with_traffic(self):
        port = in_background(self, WebServer(64 << 20))
        guest = self.boot('"user"', cpus=2)
        for _ in range(2):
            self.lease(guest)
            self.start_job(guest, f"while :; do wget -q -O /dev/null http://10.0.2.2:{port}/; echo go-on; done")
            guest.expect(r"\ngo-on\r", 120)
            guest.send("reboot -f\r")
        self.lease(guest)
        self.power_off(guest)

    def test_the_helper_ends_with_vmm(self):
        guest = self.boot('"user"')
        self.await_shell(guest)
        helpers = self.children(guest.process.pid)
        self.assertEqual(len(helpers), 1)
        with open(f"/proc/{helpers[0]}/status", encoding="utf-8") as file:
            status = file.read()
        self.assertRegex(status, r"\nNoNewPrivs:\s*1\n")
        self.assertRegex(status, r"\nSeccomp:\s*2\n")
        guest.process.kill()
        guest.process.wait()
        deadline = time.monotonic() + 30
        while not self.has_ended(helpers[0]):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_a_helper_that_dies_takes_the_link_down(self):
        guest = self.boot('"user"')
        self.lease(guest)
        os.kill(self.children(guest.process.pid)[0], signal.SIGKILL)
        guest.wait_for_message("net0: what its wire led to is gone", 30)
        self.run_command(guest, "until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do :; done",
                         r"\r")
        self.power_off(guest)

    def children(self, pid):
        """Children that are the helper."""
        found = []
        for path in glob.glob(f"/proc/{pid}/task/*/children"):
            with open(path, encoding="utf-8") as file:
                for child in file.read().split():
                    with open(f"/proc/{child}/comm", encoding="utf-8") as name:
                        if name.read().strip() == "vmm-nat":
                            found.append(int(child))
        return found

    def has_ended(self, pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                return file.read().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    def test_a_port_that_is_taken_is_told(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            guest = self.boot(f'{{ forward = ["tcp:{port}:80"] }}')
            self.assert_ends(guest, UNAVAILABLE, 60)
            self.assertIn(f"net0: can't listen on tcp 127.0.0.1:{port}: Address already in use; "
                          "fix: ", guest.messages)

    def test_a_tap_by_name_and_inherited(self):
        """In a network namespace of its own, where no rights are needed."""
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tap_host.py")
        size = 16 << 20
        noise = hashlib.sha256(random.Random(20261122).randbytes(size)).hexdigest()
        count = "".join(f"\\{byte:03o}" for byte in size.to_bytes(8, "big"))
        for how, key in (("name", 'tap = "tap0"'), ("fd", "fd = 9")):
            with self.subTest(how=how):
                before = ("unshare", "-rn", sys.executable, program, how)
                probe = subprocess.run([*before, "probe"], capture_output=True, timeout=60,
                                       check=False)
                if probe.returncode != 0:
                    raise unittest.SkipTest(f"the host lets us have no tap: {probe.stderr[-200:]}")
                script = f"""
                    ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up
                    wget -q -O /tmp/z 192.0.2.2/; sha256sum /tmp/z
                    printf '{count}' > /tmp/n; cat /tmp/n /tmp/z | nc 192.0.2.2 81"""
                output = self.run_in_guest(script, f"net = [{{ {key} }}]\n", cpus=2, host=Host(before=before)).decode()
                self.assertEqual(output, f"{noise}  /tmp/z\n{noise}\n")

    def test_a_wire_by_hand(self):
        """Frames behind their lengths, as passt and QEMU speak: we are the peer, and answer ARP."""
        path = os.path.join(self.directory, "wire.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            guest = self.boot(f'{{ path = "{path}", mac = "52:54:00:00:00:07" }}')
            listener.settimeout(60)
            wire, _ = listener.accept()
        self.addCleanup(wire.close)
        wire.settimeout(self.limit)
        self.await_shell(guest)
        guest.send("ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up\r")
        guest.expect("guest# ", 30)
        guest.send("ping -c 2 192.0.2.2\r")
        us, guests = bytes.fromhex("520000000009"), bytes.fromhex("525400000007")
        answered = 0
        while answered < 2:
            frame = self.read_frame(wire)
            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[38:42] == b"\xc0\0\2\2":
                arp = (guests + us + frame[12:20] + b"\0\2" + us + frame[38:42] + frame[22:32])
                wire.sendall(struct.pack(">I", len(arp)) + arp)
            elif frame[12:14] == b"\x08\0" and frame[23] == 1 and frame[34] == 8:
                self.assertEqual(frame[6:12], guests)
                reply = bytearray(frame)
                reply[0:12] = frame[6:12] + frame[0:6]
                reply[26:34] = frame[30:34] + frame[26:30]
                reply[34] = 0
                checksum = struct.unpack_from(">H", frame, 36)[0] + 0x0800
                struct.pack_into(">H", reply, 36, (checksum & 0xFFFF) + (checksum >> 16))
                data = struct.pack(">I", len(reply)) + reply
                wire.sendall(data[:7])  # cut anywhere
                wire.sendall(data[7:])
                answered += 1
        guest.expect("2 packets received", 60)
        self.power_off(guest)

    def read_frame(self, wire):
        def read(count):
            data = b""
            while len(data) < count:
                more = wire.recv(count - len(data))
                self.assertTrue(more, "the wire was cut")
                data += more
            return data
        length, = struct.unpack(">I", read(4))
        self.assertTrue(14 <= length <= 65557, length)
        return read(length)


if __name__ == "__main__":
    unittest.main()
