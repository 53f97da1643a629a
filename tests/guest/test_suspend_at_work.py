"""A machine whose disk and network are at work is suspended and goes on: docs/suspend.md."""

import hashlib
import json
import os
import random
import time
import unittest

from cloud_guest import *
from network_servers import WebServer, in_background

SIZE = 2 << 20  # bytes of a download
FILES = 100     # that the guest writes, again and again


class AtWork(CloudTest):
    def boot(self, engine):
        return self.boot_cloud(f'disk = ["{self.image}"]\nnet = ["user"]\n', engine, cpus=2, append="quiet")

    def go_on(self, guest, engine):
        """Suspends the machine; the guest in the next run."""
        guest.signal(signal.SIGUSR1)
        self.assert_ends(guest, SUSPENDED, 60)
        run_tool(VMM, "disk", "check", self.image)
        guest.stop()
        guest = self.boot(engine)
        guest.wait_for_message("resumed from", 30)
        return guest

    def link(self, *words):
        return run_tool(VMM, "ctl", "--config", self.directory, "link", *words).decode()

    def check(self, engine):
        self.image = os.path.join(self.directory, "disk.qcow2")
        raw = os.path.join(self.directory, "made.raw")
        run_tool("/sbin/mke2fs", "-q", "-F", "-t", "ext4", raw, f"{64 << 10}k")
        run_tool(VMM, "disk", "convert", "--format", "qcow2", raw, self.image)
        web = WebServer(SIZE)
        port = in_background(self, web)
        noise = hashlib.sha256(web.noise).hexdigest()
        guest = self.boot(engine)
        self.lease(guest)
        self.run_command(guest, "mkdir /mnt; mount -t ext4 /dev/vda /mnt; echo is-$?", r"\nis-0\r")
        # A connection does not outlive its run; whoever only waits for data gives up in the end.
        self.start_job(guest, "until [ -e /tmp/end ]; do s=$(timeout 9 wget -q -O - http://10.0.2.2:"
                       f"{port}/ | sha256sum); echo got-${{s%% *}}; done 2>/dev/null; echo got-all")
        guest.expect(rf"got-{noise}\r", 60)
        # Until it is told to end, for nobody knows how far it gets meanwhile.
        self.start_job(guest, f"i=0; until [ -e /tmp/end ]; do i=$((i+1)); n=$((i%{FILES})); "
                       "dd if=/dev/urandom of=/mnt/f$n bs=32k count=4 conv=fsync 2>/dev/null; "
                       "sha256sum /mnt/f$n > /mnt/s$n; echo did-$i; done; echo all-done")
        rng = random.Random(6)
        for _ in range(3):
            guest.expect(r"did-\d+\r", 60)
            time.sleep(rng.uniform(0, 0.2))
            guest = self.go_on(guest, engine)
            guest.expect(rf"got-{noise}\r", 60)
        guest.send("touch /tmp/end\r")
        guest.expect(r"(?s)got-all\r.*all-done\r|all-done\r.*got-all\r", 60)
        self.run_command(guest, "echo 3 > /proc/sys/vm/drop_caches; echo is-$?", r"\nis-0\r")
        self.run_command(guest, "cat /mnt/s* | sha256sum -c > /tmp/c; echo is-$?", r"\nis-0\r")
        self.check_cable(guest, engine, f"wget -q -O - http://10.0.2.2:{port}/ | sha256sum", noise)

    def check_cable(self, guest, engine, download, noise):
        """A cable that was pulled out is out in the next run too, until it is plugged in."""
        carrier = "until grep -q {} /sys/class/net/eth0/carrier; do :; done; echo is-$?"
        self.link("net0", "down")
        self.run_command(guest, carrier.format(0), r"\nis-0\r")
        guest = self.go_on(guest, engine)
        self.assertRegex(self.link(), r"net0: .*, down\n")
        self.run_command(guest, "cat /sys/class/net/eth0/carrier", r"\n0\r")
        self.link("net0", "up")
        self.run_command(guest, carrier.format(1), r"\nis-0\r")
        self.run_command(guest, download, rf"\n{noise}  -\r")
        self.assert_no_complaints(guest, "I/O error|BUG:|call trace")
        self.run_command(guest, "umount /mnt; echo is-$?", r"\nis-0\r")
        self.power_off(guest)
        run_tool("qemu-img", "check", "-q", self.image)

    def test_disk_and_network_on_the_translator(self):
        self.check("bt")

    def test_disk_and_network_on_kvm(self):
        probe = json.loads(run_tool(VMM, "probe", "--json"))
        if probe["engine"] != "kvm":
            self.skipTest(f"no good KVM here: {probe['reason']}")
        self.check("kvm")


if __name__ == "__main__":
    unittest.main()
