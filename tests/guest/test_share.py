"""Directories of the host in Debian's cloud kernel, by virtio-fs."""

import hashlib
import os
import random
import re
import stat
import subprocess
import unittest

from cloud_guest import *

OPERATIONS = os.environ.get("VMM_SHARE_OPERATIONS", "")


def tree(top):
    """What is below a directory: kind, mode, size, links and bytes of each."""
    found = {}
    for place, folders, names in os.walk(os.fsencode(top)):
        for name in folders + names:
            path = os.path.join(place, name)
            status = os.lstat(path)
            content = ""
            if stat.S_ISREG(status.st_mode):
                os.chmod(path, 0o600)  # ours, whatever the guest made of it
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            found[os.path.relpath(path, os.fsencode(top))] = (
                status.st_mode, status.st_uid, status.st_gid, size, status.st_nlink, content)
    return found


class Shares(CloudTest):
    """On the console where the host changes files meanwhile, and where the guest is suspended or reset."""

    def setUp(self):
        super().setUp()
        self.shared = os.path.join(self.directory, "shared")
        os.mkdir(self.shared)
        with open(os.path.join(self.directory, "secret"), "w", encoding="utf-8") as file:
            file.write("outside\n")

    def path(self, *names):
        return os.path.join(self.shared, *names)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def boot(self, share='"shared"', engine=ENGINES[0], append="", **keywords):
        """`share`: the items of the key, as vm.toml has them."""
        return self.boot_cloud(f'share = [{share}]\n', engine, cpus=2, append=f"quiet {append}", **keywords)

    def mount(self, guest, tag="share0", place="/m"):
        self.run_command(guest, f"mkdir {place}; mount -t virtiofs {tag} {place}; echo is-$?",
                         r"\nis-0\r")

    def power_off(self, guest):
        self.assert_no_complaints(guest, "BUG:|call trace|virtiofs.*error")
        super().power_off(guest)

    def check_operations(self, engine, limit=600):
        """The same program does the same in a local directory and in the shared one."""
        local = os.path.join(self.directory, "local")
        os.mkdir(local)
        os.mkdir(self.path("work"))
        with open(OPERATIONS, "rb") as source, open(self.path("operations"), "wb") as copy:
            copy.write(source.read())
        os.chmod(self.path("operations"), 0o755)
        expected = subprocess.run([OPERATIONS, local], capture_output=True, timeout=120,
                                  check=True).stdout.decode()
        self.assertTrue(expected.endswith("\nend\n"), expected)
        done = self.run_in_guest("mkdir /m; mount -t virtiofs share0 /m\n/m/operations /m/work",
                                 'share = [{ path = "shared", setuid = true }]\n', engine, cpus=2, limit=limit)
        self.maxDiff = None
        self.assertEqual(done.decode().splitlines(), expected.splitlines())
        self.assertEqual(tree(self.path("work")), tree(local))

    def test_file_operations_are_those_of_a_local_directory(self):
        self.check_operations(ENGINES[0])

    @full_only
    def test_the_other_engines(self):
        for engine in ENGINES[1:]:
            with self.subTest(engine=engine):
                self.setUp()
                self.check_operations(engine, limit=3000)

    def test_each_side_sees_what_the_other_does(self):
        noise = random.Random(20261122).randbytes(5 << 20)
        with open(self.path("noise"), "wb") as file:
            file.write(noise)
        guest = self.boot('"shared", { path = "shared", tag = "read only", mode = "ro" }')
        self.await_shell(guest)
        self.mount(guest)
        self.mount(guest, "'read only'", "/r")
        digest = hashlib.sha256(noise).hexdigest()
        self.run_command(guest, "sha256sum /m/noise", rf"\n{digest}  /m/noise\r")
        self.run_command(guest, "cp /r/noise /m/copy; sync; echo copied", r"\ncopied\r")
        with open(self.path("copy"), "rb") as file:
            self.assertEqual(file.read(), noise)
        # The host changes what the guest has just looked at; each is seen at the next look.
        for number in range(5):
            self.write("changing", "x" * (number + 1) + f"-{number}\n")
            self.run_command(guest, "cat /m/changing /r/changing",
                             rf"\n(x{{{number + 1}}}-{number}\r\n){{2}}")
            os.rename(self.path("changing"), self.path(f"moved{number}"))
            self.run_command(guest, "ls /m/changing || echo gone", r"\ngone\r")
            self.run_command(guest, f"ls /r/moved{number}", rf"\n/r/moved{number}\r")
        # And the other way.
        self.run_command(guest, "echo from the guest > /m/new; cat /r/new", r"\nfrom the guest\r")
        self.assertEqual(self.read("new"), "from the guest\n")
        self.assertEqual(os.stat(self.path("new")).st_uid, os.geteuid())
        self.run_command(guest, "stat -c is-%u-%g /m/new", r"\nis-0-0\r")
        # What is appended from both sides is all there.
        self.run_command(guest, "exec 3>>/m/log; echo guest 1 >&3; echo is-$?", r"\nis-0\r")
        with open(self.path("log"), "a", encoding="utf-8") as log:
            log.write("host 1\n")
        self.run_command(guest, "echo guest 2 >&3; exec 3>&-; echo is-$?", r"\nis-0\r")
        self.assertEqual(self.read("log"), "guest 1\nhost 1\nguest 2\n")
        # Nothing is changed where it may only be read.
        before = sorted(os.listdir(self.shared))
        for command in ("echo x > /r/new", "echo x > /r/newer", "mkdir /r/d", "rm /r/new",
                        "mv /r/new /r/old", "chmod 777 /r/new", "ln /r/new /r/old",
                        "ln -s x /r/l", "touch /r/new", "mkfifo /r/p"):
            self.run_command(guest, f"{command} || echo refused", r"Read-only file system[^\n]*\n"
                                                                  r"refused\r")
        self.assertEqual(sorted(os.listdir(self.shared)), before)
        self.assertEqual(self.read("new"), "from the guest\n")
        self.power_off(guest)

    def test_nothing_leads_out(self):
        os.symlink("../secret", self.path("file"))
        os.symlink(self.directory, self.path("top"))
        os.mkfifo(self.path("pipe"))
        script = """
            mkdir /m; mount -t virtiofs share0 /m
            # Links mean what they mean in the guest, and above the mount is the guest's own root.
            cat /m/file /m/top/secret || echo nothing
            echo guest > /secret; cat /m/file /m/../secret
            echo x > /m/file; cat /secret
            mknod /m/null c 1 3 || echo no device
            cp /bin/busybox /m/sh; chmod 4755 /m/sh || echo no setuid
            chown 1:1 /m/sh || echo no other owner
            # A pipe of the host's directory is one of the guest's: both its ends are there.
            echo through > /m/pipe & cat /m/pipe"""
        self.assertEqual(self.run_in_guest(script, 'share = ["shared"]\n', cpus=2).decode().splitlines(),
                         ["nothing", "guest", "guest", "x", "no device", "no setuid", "no other owner", "through"])
        self.assertEqual(os.stat(self.path("sh")).st_mode & 0o7777, 0o755)
        self.assertFalse(os.path.lexists(self.path("null")))
        with open(os.path.join(self.directory, "secret"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "outside\n")

    def test_suspended_and_resumed_with_files_open(self):
        os.makedirs(self.path("a", "b"))
        self.write("lines", "".join(f"line {i}\n" for i in range(100)))
        self.write("doomed", "doomed\n")
        guest = self.boot()
        self.await_shell(guest)
        self.mount(guest)
        self.run_command(guest, "cd /m/a/b; exec 3>>/m/log 4</m/lines; echo is-$?", r"\nis-0\r")
        self.run_command(guest, "exec 5</m/doomed; echo is-$?", r"\nis-0\r")
        for number in range(3):
            self.run_command(guest, f"echo round {number} >&3; read x <&4; echo $x",
                             rf"\nline {number}\r")
            guest.signal(signal.SIGUSR1)
            self.assert_ends(guest, SUSPENDED, 60)
            guest.stop()
            if number == 0:
                os.remove(self.path("doomed"))
            self.write(os.path.join("a", "b", f"while-away-{number}"), "seen\n")
            guest = self.boot()
            guest.wait_for_message("resumed from", 30)
            self.run_command(guest, f"cat while-away-{number}", r"\nseen\r")
        self.run_command(guest, "echo last >&3; read x <&4; echo $x; sync", r"\nline 3\r")
        self.assertEqual(self.read("log"), "round 0\nround 1\nround 2\nlast\n")
        # What is gone is an error of that file alone.
        self.run_command(guest, "echo 3 > /proc/sys/vm/drop_caches; cat <&5 || echo stale",
                         r"\nstale\r")
        self.run_command(guest, "cat /m/lines | wc -l", r"\n100\r")
        self.power_off(guest)

    def test_eight_at_once_by_messages_and_on_one_wire(self):
        for append in ("", "pci=nomsi"):
            with self.subTest(append=append):
                script = """
                    for n in 0 1 2 3 4 5 6 7; do
                      mkdir /m$n; mount -t virtiofs share$n /m$n
                      echo $n > /m$n/n; cat /m0/n
                    done"""
                eight = ", ".join(['"shared"'] * 8)
                done = self.run_in_guest(script, f"share = [{eight}]\n", cpus=2, append=append)
                self.assertEqual(done, b"".join(b"%d\n" % n for n in range(8)))

    def test_a_reset_in_the_middle_of_work(self):
        guest = self.boot()
        for number in range(2):
            self.await_shell(guest)
            self.mount(guest)
            self.start_job(guest, f"while :; do cp /m/seed /m/x{number}; ls -l /m; cat /m/*; echo go-on; done"
                           " > /dev/null 2>&1")
            self.run_command(guest, f"until [ -e /m/x{number} ]; do echo a > /m/seed; done; echo on",
                             r"\non\r")
            guest.send("reboot -f\r")
        self.await_shell(guest)
        self.mount(guest)
        self.run_command(guest, "cat /m/seed", r"\na\r")
        self.power_off(guest)


if __name__ == "__main__":
    unittest.main()
