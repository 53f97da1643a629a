"""Debian 12 with systemd, as its packages make it, from a virtio disk: to the login prompt and back.

vmm is run by an ordinary user without any capability.
"""

import hashlib
import os
import re
import shutil
import socket
import time
import unittest

from network_servers import FileServer, Resolver, Sink, WebServer, WebServer6, fetch, in_background
from plain_user import give, plain_user, rights
from vmm_guest import *

LOGIN_SECONDS = {"interpreter": 1500, "bt": 300, "kvm": 300}  # to the prompt, on a busy host
SIZE = 100 << 20  # bytes of the download
PROMPT = r"root@guest:~# "
COMPLAINTS = r"BUG:|call trace|lockup|rcu.*stall|hung task|blocked for more|timed out|I/O error|unstable"


class Debian(GuestTest):
    def setUp(self):
        super().setUp()
        self.host = plain_user(self.directory)

    def copy(self, name):
        """A prepared file where the user can read it."""
        path = os.path.join(self.directory, name)
        if not os.path.exists(path):
            shutil.copyfile(guest_file(name), path)
        return path

    def image(self, system, form):
        """A disk of the user's own."""
        path = os.path.join(self.directory, f"disk.{form}")
        run_tool(VMM, "disk", "convert", "--force", "--format", form, guest_file(f"{system}.raw"), path)
        give(path)
        return path

    def boot(self, disk, system="debian", engine=ENGINES[0], extra=""):
        """To the prompt of the shell; `disk` as vm.toml has it."""
        guest = self.start(f'kernel = "{self.copy(system + "-vmlinuz")}"\n'
                           f'initrd = "{self.copy(system + "-initrd")}"\n'
                           'append = "console=ttyS0 root=/dev/vda"\n'
                           f'cpus = 2\nmemory = "512M"\naccel = "{engine}"\n'
                           f'disk = [{disk}]\n{extra}', host=self.host)
        guest.expect("guest login: ", LOGIN_SECONDS[engine])
        print(f"{system}, {disk.replace(self.directory, '')}, {engine}: login after "
              f"{time.monotonic() - guest.started:.1f} s", flush=True)
        guest.send("root\r")
        guest.expect(PROMPT, LOGIN_SECONDS[engine])
        # A shell that does not play with the terminal.
        guest.send("exec sh\r")
        guest.expect(r"(?s)exec sh.*?# ", 60)
        guest.send("PS1= SYSTEMD_COLORS=0; export SYSTEMD_COLORS; stty -echo; dmesg -n 1; echo shell-is\"\"-ready\r")
        guest.expect("shell-is-ready\r\n", 60)
        return guest

    def run_command(self, guest, command, answer="", timeout=120):
        """Waits for its end, with status 0; what `answer` finds in what it wrote."""
        guest.send(f"{command}; echo status-is \"\"$?\r")
        match = guest.expect(r"(?s)(.*?)status-is (\d+)\r\n", timeout)
        output = match.group(1).decode(errors="replace").replace("\r\n", "\n")
        self.assertEqual(match.group(2), b"0", f"{command}: {output}")
        found = re.search(answer, output)
        self.assertTrue(found, f"{command}: no {answer!r} in {output!r}")
        return found

    def assert_healthy(self, guest, timeout=120):
        """Every unit is up, and nobody complains."""
        self.run_command(guest, "systemctl is-system-running --wait", r"^running\n$", timeout)
        self.run_command(guest, "systemctl --failed --no-legend --plain", r"^$")
        self.run_command(guest, f"! journalctl -b --no-pager -o cat | grep -iE '{COMPLAINTS}'", r"^$")
        self.run_command(guest, "findmnt -n -o SOURCE,FSTYPE,OPTIONS /", r"^/dev/vda\s+ext4\s+rw,")

    def power_off(self, guest):
        guest.send("systemctl poweroff\r")
        guest.expect("reboot: Power down", 180)
        self.assert_ends(guest, SUCCESS, 60)

    def check_disk(self, form, system="debian", engine=ENGINES[0], mode="rw"):
        path = self.image(system, form)
        with open(path, "rb") as file:
            before = hashlib.file_digest(file, "sha256").digest()
        guest = self.boot(f'{{ path = "{path}", mode = "{mode}" }}', system, engine)
        self.assert_healthy(guest, 120 if engine == "bt" else 600)
        self.run_command(guest, "echo kept > /root/file; sync; cat /root/file", r"^kept\n$")
        self.power_off(guest)
        guest.stop()
        if mode == "snapshot":
            with open(path, "rb") as file:
                self.assertEqual(hashlib.file_digest(file, "sha256").digest(), before)
            return
        self.assert_holds(path, form)

    def assert_holds(self, path, form):
        """A file system without a fault, and what the guest wrote."""
        if form != "raw":
            run_tool("qemu-img", "check", path)
            raw = path + ".raw"
            run_tool("qemu-img", "convert", "-O", "raw", path, raw)
            path = raw
        run_tool("/sbin/e2fsck", "-fn", path)
        self.assertEqual(run_tool("/sbin/debugfs", "-R", "cat /root/file", path), b"kept\n")

    def test_a_server_on_a_qcow2_with_the_network_behind_the_hosts(self):
        path = self.image("debian", "qcow2")
        guest = self.boot(f'"{path}"',
                          extra='net = [{ forward = ["tcp:0:80", "udp:0:7"] }]\n')
        self.assertEqual(rights(guest.process.pid), (os.getuid() or 65534, 0))
        self.assert_healthy(guest)
        web = WebServer(SIZE)
        port, sink = in_background(self, web), in_background(self, Sink())
        noise = hashlib.sha256(web.noise).hexdigest()
        # DHCP, and a name server that is the test's.
        # What the router advertises may still be coming.
        self.run_command(guest, "until networkctl --no-pager | grep -E 'ether +routable +configured'; do sleep 0.2; done")
        device = self.run_command(guest, "ip -br -4 addr", r"(en\S+)\s+UP\s+10\.0\.2\.15/24").group(1)
        self.run_command(guest, "resolvectl dns", r"10\.0\.2\.3\n")
        names = in_background(self, Resolver())
        self.run_command(guest, f"resolvectl dns {device} 10.0.2.2:{names}")
        self.run_command(guest, "getent ahostsv4 known.test", r"^192\.0\.2\.77\s")
        self.run_command(guest, "! getent ahostsv4 other.test", r"^$")
        # TCP: down, up, and from outside to the web server of the guest.
        self.run_command(guest, f"busybox wget -q -O /noise http://10.0.2.2:{port}/; sha256sum /noise",
                         rf"^{noise}  /noise\n$", 300)
        count = "".join(f"\\{byte:03o}" for byte in SIZE.to_bytes(8, "big"))
        self.run_command(guest, f"{{ printf '{count}'; cat /noise; }} | busybox nc 10.0.2.2 {sink}",
                         rf"^{noise}\n$", 300)
        self.assertEqual(fetch(guest.forwarded(80), "/index.html"), b"a page of the guest\n")
        self.run_command(guest, "mv /noise /var/www/html/noise")
        got = fetch(guest.forwarded(80), "/noise")
        self.assertEqual(hashlib.sha256(got).hexdigest(), noise)
        # UDP: from inside, and from outside through a forward.
        files = FileServer()
        tftp = in_background(self, files)
        digest = hashlib.sha256(files.noise).hexdigest()
        self.run_command(guest, f"busybox tftp -g -r f -l /f 10.0.2.2 {tftp} && sha256sum /f",
                         rf"^{digest}  /f\n$")
        self.echo_datagrams(guest)
        self.check_ipv6(guest)
        self.run_command(guest, "echo kept > /root/file; sync")
        self.power_off(guest)
        guest.stop()
        self.assert_holds(path, "qcow2")

    def echo_datagrams(self, guest):
        self.run_command(guest, "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 7,"
                         " Proto => \"udp\"); $s->send($m) while defined $s->recv($m, 9000)' & :")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", guest.forwarded(7, "udp")))
            client.settimeout(0.5)
            deadline = time.monotonic() + 60
            for number in range(20):
                text = f"datagram {number}".encode() * 80
                while True:
                    self.assertLess(time.monotonic(), deadline)
                    client.send(text)  # they may be lost
                    try:
                        if client.recv(9000) == text:
                            break
                    except (TimeoutError, ConnectionRefusedError):
                        pass

    def check_ipv6(self, guest):
        try:
            web = WebServer6(8 << 20, ("::1", 0))
        except OSError as error:
            print(f"no IPv6 here: {error}")
            return
        port = in_background(self, web)
        noise = hashlib.sha256(web.noise).hexdigest()
        self.run_command(guest, "ip -br -6 addr", r"en\S+\s+UP\s+fec0:")
        self.run_command(guest, f"busybox wget -q -O - http://[fec0::2]:{port}/ | sha256sum",
                         rf"^{noise}  -\n$")

    @full_only
    def test_the_cloud_kernel_on_each_form_of_disk(self):
        self.check_disk("raw")
        self.check_disk("qcow2")
        self.check_disk("raw", mode="snapshot")

    @full_only
    def test_the_generic_kernel_on_each_form_of_disk(self):
        self.check_disk("raw", "debian-generic")
        self.check_disk("qcow2", "debian-generic")
        self.check_disk("raw", "debian-generic", mode="snapshot")

    @full_only
    def test_the_other_engines(self):
        for engine in ENGINES[1:]:
            with self.subTest(engine=engine):
                self.check_disk("raw", engine=engine)


if __name__ == "__main__":
    unittest.main(verbosity=2)
