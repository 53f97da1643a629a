"""A C compiler in the guest makes what it makes outside, byte for byte, and that runs alike."""

import base64
import hashlib
import os
import re
import subprocess
import unittest

from vmm_guest import *

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tcc_program.c")
MANY = ("BEGIN { for (i = 0; i < 2000; ++i) "
        'printf("long f%d(long a, double b) { return a * %d + (a ^ %d) / 7 + (long)(b * %d.5); }\\n", '
        "i, i * 37, i, i) }")


class Tcc(GuestTest):
    def compile_outside(self, options):
        root = guest_file("tcc-root")
        libraries = f"{root}/lib/x86_64-linux-gnu"
        subprocess.run([f"{libraries}/ld-linux-x86-64.so.2", "--library-path", libraries,
                        f"{root}/usr/bin/tcc", f"-B{root}/usr/lib/x86_64-linux-gnu/tcc", *options],
                       check=True, timeout=60, cwd=self.directory)

    def digest(self, name):
        with open(os.path.join(self.directory, name), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    def run_command(self, guest, command, answer, timeout=120):
        guest.send(command + "\r")
        match = guest.expect(answer, timeout)
        guest.expect(r"guest# ", timeout)
        return match

    def test_a_compiler_in_the_guest_does_as_outside(self):
        initrd, kernel = guest_file("tcc-initrd"), guest_file("cloud-vmlinuz")
        with open(SOURCE, "rb") as file:
            source = file.read()
        with open(os.path.join(self.directory, "program.c"), "wb") as file:
            file.write(source)
        many = subprocess.run(["awk", MANY], check=True, capture_output=True, timeout=60).stdout
        with open(os.path.join(self.directory, "many.c"), "wb") as file:
            file.write(many)
        self.compile_outside(["-nostdlib", "-static", "-o", "program", "program.c"])
        self.compile_outside(["-c", "-o", "many.o", "many.c"])
        outside = subprocess.run([os.path.join(self.directory, "program")], check=True,
                                 capture_output=True, timeout=60).stdout.decode()
        self.assertEqual(len(outside.splitlines()), 6)
        for engine in ENGINES:
            with self.subTest(engine=engine):
                guest = self.start(f'kernel = "{kernel}"\ninitrd = "{initrd}"\nmemory = "256M"\n'
                                   f'append = "console=ttyS0"\naccel = "{engine}"\n')
                guest.expect("guest# ", 400)
                self.run_command(guest, "cd /tmp; stty -echo", "")
                text = base64.b64encode(source).decode()
                for at in range(0, len(text), 512):  # a line of a terminal holds no more than 4095
                    self.run_command(guest, f"echo {text[at:at + 512]} >> program.b64", "")
                self.run_command(guest, "base64 -d program.b64 > program.c; awk '" + MANY +
                                 "' > many.c; sha256sum many.c", hashlib.sha256(many).hexdigest())
                self.run_command(guest, "tcc -nostdlib -static -o program program.c; "
                                 "sha256sum program", self.digest("program"))
                self.run_command(guest, "tcc -c -o many.o many.c; sha256sum many.o",
                                 self.digest("many.o"), 300)
                self.run_command(guest, "./program", re.escape(outside.replace("\n", "\r\n")), 300)
                guest.send("poweroff -f\r")
                self.assert_ends(guest, SUCCESS, 60)
                guest.stop()


if __name__ == "__main__":
    unittest.main(verbosity=2)
