"""Debian's cloud kernel with an ext4 file system on a virtio disk: raw, qcow2, thrown away."""

import hashlib
import os
import random
import re
import subprocess
import time
import unittest

from cloud_guest import *

IMAGE_LOCKED = 104
SIZE = 64 << 20  # bytes of a disk
# Reads what the host wrote and writes something itself, which then comes from the disk.
USE = """
    mount -t ext4 /dev/vda /tmp
    sha256sum /tmp/noise
    dd if=/dev/urandom of=/tmp/new bs=64k count=50
    sha256sum /tmp/new
    sync; echo 3 > /proc/sys/vm/drop_caches
    sha256sum /tmp/new /tmp/noise
    rm /tmp/noise
    umount /tmp"""


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Disks(CloudTest):
    """On the console where the guest is suspended, reset or killed, and where it is an i386 one."""

    def make_image(self, name="disk.raw", form="raw"):
        """An ext4 with a file of noise, whose SHA-256 is self.noise."""
        files = os.path.join(self.directory, "files")
        os.makedirs(files, exist_ok=True)
        data = random.Random(20261121).randbytes(3 << 20)
        self.noise = digest(data)
        with open(os.path.join(files, "noise"), "wb") as file:
            file.write(data)
        raw = self.path("made.raw")
        run_tool("/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-d", files, raw, f"{SIZE >> 10}k")
        path = self.path(name)
        run_tool(VMM, "disk", "convert", "--force", "--format", form, raw, path)
        os.remove(raw)
        return path

    def path(self, name):
        return os.path.join(self.directory, name)

    def boot(self, disk, engine=ENGINES[0], **keywords):
        """`disk`: the value of the key, as vm.toml has it."""
        return self.boot_cloud(f'disk = [{disk}]\n', engine, **keywords)

    def mount(self, guest, device="vda"):
        self.run_command(guest, f"mount -t ext4 /dev/{device} /tmp && echo mounted", r"\nmounted\r")

    def judge(self, output):
        """What USE printed; the SHA-256 of what it wrote."""
        sums = re.findall(rb"^([0-9a-f]{64})  /tmp/(\w+)$", output, re.M)
        self.assertEqual([name for _, name in sums], [b"noise", b"new", b"new", b"noise"], output)
        noise, new, new_of_disk, noise_of_disk = (value.decode() for value, _ in sums)
        self.assertEqual([noise, noise_of_disk], [self.noise] * 2)
        self.assertEqual(new, new_of_disk)
        return new

    def use(self, guest):
        """USE on the console."""
        self.await_shell(guest)
        written = self.judge(self.type_script(guest, USE))
        self.assert_no_complaints(guest, "I/O error|BUG:|call trace")
        return written

    def use_in_guest(self, form="raw", engine=ENGINES[0], more="", **keywords):
        """USE and `more` on an image of its own; what was printed."""
        image = self.make_image(f"disk.{form}", form)
        output = self.run_in_guest(f"{USE}\n{more}", f'disk = ["{image}"]\n', engine, **keywords)
        self.assert_holds(image, form, self.judge(output))
        return output

    def assert_holds(self, path, form, expected):
        """The image is whole and has the guest's file, and not the one that it deleted."""
        run_tool(VMM, "disk", "check", path)
        if form == "qcow2":
            run_tool("qemu-img", "check", "-q", path)
        raw = self.path("judged.raw")
        run_tool("qemu-img", "convert", "-f", form, "-O", "raw", path, raw)
        run_tool("/sbin/e2fsck", "-fn", raw)
        self.assertEqual(digest(run_tool("/sbin/debugfs", "-R", "cat /new", raw)), expected)
        self.assertNotIn(b"noise", run_tool("/sbin/debugfs", "-R", "ls /", raw))
        os.remove(raw)

    def test_raw_and_qcow2_keep_what_the_guest_writes(self):
        for form, cpus in (("raw", 1), ("qcow2", 4)):
            with self.subTest(form=form):
                self.use_in_guest(form, cpus=cpus)

    @full_only
    def test_the_other_engines(self):
        for engine in ENGINES[1:]:
            with self.subTest(engine=engine):
                self.use_in_guest(engine=engine)

    def use_from_an_i386_kernel(self, kernel, form, cpus=1):
        """32-bit code is the interpreter's, whatever the engine is called. `vmm test` has no 32-bit init."""
        image = self.make_image(f"disk.{form}", form)
        guest = self.boot(f'"{image}"', "interpreter", cpus=cpus, append="quiet", kernel=kernel)
        written = self.use(guest)
        self.power_off(guest)
        guest.stop()
        self.assert_holds(image, form, written)

    def test_the_i386_kernel_with_pae_by_the_interpreter(self):
        self.use_from_an_i386_kernel("i686pae", "qcow2")

    @full_only
    def test_both_i386_kernels_by_the_interpreter(self):
        self.use_from_an_i386_kernel("i686pae", "raw", cpus=2)
        for form in ("raw", "qcow2"):
            self.use_from_an_i386_kernel("i686", form)

    def test_what_is_thrown_away_leaves_no_trace(self):
        image = self.make_image("disk.qcow2", "qcow2")
        with open(image, "rb") as file:
            before = digest(file.read())
        guest = self.boot(f'{{ path = "{image}", mode = "snapshot" }}')
        self.use(guest)
        # What was thrown away could not be found again.
        guest.signal(signal.SIGUSR1)
        guest.wait_for_message("is not suspended and goes on: .*snapshot", 30)
        self.power_off(guest)
        with open(image, "rb") as file:
            self.assertEqual(digest(file.read()), before)

    def test_several_disks_each_with_its_own_nature(self):
        image = self.make_image()
        second = self.path("second.qcow2")
        run_tool(VMM, "disk", "create", second, "100M")
        script = """
            cat /sys/block/vda/serial; echo; cat /sys/block/vda/ro
            cat /sys/block/vdb/size /sys/block/vdb/ro
            mount -t ext4 /dev/vda /tmp  # read-only, as the kernel finds out
            sha256sum /tmp/noise
            touch /tmp/x 2>&1 || echo refused
            dd if=/tmp/noise of=/dev/vdb conv=fsync
            # Discarded sectors read as zero.
            blkdiscard -l 1048576 /dev/vdb"""
        done = self.run_in_guest(script, f'disk = [{{ path = "{image}", mode = "ro", serial = "the-root" }}, '
                                 f'{{ path = "{second}", queues = 1, cache = "writethrough" }}]\n')
        self.assertEqual(done.decode().splitlines(),
                         ["the-root", "1", "204800", "0", f"{self.noise}  /tmp/noise",
                          "touch: /tmp/x: Read-only file system", "refused"])
        raw = self.path("second.raw")
        run_tool("qemu-img", "convert", "-O", "raw", second, raw)
        with open(self.path("files/noise"), "rb") as expected, open(raw, "rb") as found:
            noise, there = expected.read(), found.read(3 << 20)
        self.assertEqual(there[:1 << 20], bytes(1 << 20))
        self.assertEqual(there[1 << 20:], noise[1 << 20:])

    def test_interrupts_by_the_pin(self):
        for append, where in (("pci=nomsi", "IO-APIC"), ("pci=nomsi noapic", "XT-PIC")):
            with self.subTest(append=append):
                output = self.use_in_guest(append=append, more="grep virtio0 /proc/interrupts")
                self.assertRegex(output.decode(), rf"{where}.*virtio0")

    def test_suspended_while_it_writes(self):
        """The guest writes all the while, and is suspended five times with requests under way."""
        image = self.make_image("disk.qcow2", "qcow2")
        guest = self.boot(f'"{image}"', cpus=2)
        self.await_shell(guest)
        self.mount(guest)
        # Numbers in files, each flushed; a line on the console for each.
        guest.send("i=0; while [ $i -lt 300 ]; do i=$((i+1)); "
                   "dd if=/dev/urandom of=/tmp/f$i bs=32k count=4 conv=fsync 2>/dev/null; "
                   "sha256sum /tmp/f$i >> /tmp/sums; echo did-$i; done; echo all-done\r")
        rng = random.Random(5)
        for _ in range(5):
            guest.expect(r"did-\d+\r", 60)
            time.sleep(rng.uniform(0, 0.2))
            guest.signal(signal.SIGUSR1)
            self.assert_ends(guest, SUSPENDED, 60)
            run_tool(VMM, "disk", "check", image)
            guest.stop()
            guest = self.boot(f'"{image}"', cpus=2)
            guest.wait_for_message("resumed from", 30)
        guest.expect(r"all-done\r", 120)
        guest.expect("guest# ")
        self.run_command(guest, "echo 3 > /proc/sys/vm/drop_caches; echo dropped", r"\ndropped\r")
        self.run_command(guest, "sha256sum -c /tmp/sums | grep -c OK", r"\n300\r")
        self.assert_no_complaints(guest, "I/O error|BUG:|call trace")
        self.run_command(guest, "umount /tmp; echo gone", r"\ngone\r")
        self.power_off(guest)
        run_tool("qemu-img", "check", "-q", image)

    def test_killed_while_it_writes(self):
        """What was flushed is there at once for the next one, whatever the kernel still cleans up."""
        image = self.make_image("disk.qcow2", "qcow2")
        done = 0
        for _ in range(3):
            guest = self.boot(f'"{image}"')
            self.await_shell(guest)
            self.mount(guest)
            guest.send(f"i={done}; while :; do i=$((i+1)); echo $i > /tmp/number; "
                       "dd if=/dev/urandom of=/tmp/f bs=256k count=4 2>/dev/null; sync; "
                       "echo did-$i; done\r")
            for _ in range(5):
                done = int(guest.expect(r"did-(\d+)\r", 60).group(1))
            guest.signal(signal.SIGKILL)
            guest.process.wait(30)
            run_tool(VMM, "disk", "check", image)
            guest.stop()
            raw = self.path("killed.raw")
            run_tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw)
            # Its journal is played back, and then there is nothing left to mend.
            subprocess.run(["/sbin/e2fsck", "-fp", raw], capture_output=True, check=False)
            run_tool("/sbin/e2fsck", "-fn", raw)
            self.assertGreaterEqual(int(run_tool("/sbin/debugfs", "-R", "cat /number", raw)), done)

    def test_a_reset_while_it_writes(self):
        image = self.make_image()
        guest = self.boot(f'"{image}"')
        self.await_shell(guest)
        self.mount(guest)
        guest.send("dd if=/dev/urandom of=/tmp/new bs=64k count=400 conv=fsync & "
                   "sleep 0.3; reboot -f\r")
        self.await_shell(guest)
        self.mount(guest)  # with its journal
        self.run_command(guest, "sha256sum /tmp/noise", rf"\n{self.noise}  /tmp/noise\r")
        self.run_command(guest, "umount /tmp; echo gone", r"\ngone\r")
        self.power_off(guest)
        run_tool("/sbin/e2fsck", "-fn", image)

    def test_another_disk_than_the_suspended_one_is_refused(self):
        image = self.make_image()
        guest = self.boot(f'"{image}"')
        self.await_shell(guest)
        guest.signal(signal.SIGUSR1)
        self.assert_ends(guest, SUSPENDED, 60)
        guest.stop()
        run_tool(VMM, "disk", "resize", image, "+1M")
        refused = self.boot(f'"{image}"')
        self.assert_ends(refused, CONFIG_INVALID, 60)
        self.assertIn("disk0: the disk had 131072 sectors, now it has 133120", refused.messages)
        refused.stop()
        none = self.boot("")
        self.assert_ends(none, CONFIG_INVALID, 60)
        self.assertIn("it is another machine", none.messages)

    def test_an_image_that_is_in_use_is_refused(self):
        image = self.make_image()
        guest = self.boot(f'"{image}"')
        guest.expect("Linux version", self.limit)
        other = self.path("other")
        os.mkdir(other)
        second = Guest(other, arguments=["--kernel", guest_file("cloud-vmlinuz"), "--disk", image])
        self.addCleanup(second.stop)
        self.assert_ends(second, IMAGE_LOCKED, 30)
        self.assertIn("disk0: ", second.messages)


if __name__ == "__main__":
    unittest.main()
