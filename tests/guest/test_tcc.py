"""A C compiler in the guest makes what it makes outside, byte for byte, and that runs alike."""

import hashlib
import os
import subprocess
import unittest

from cloud_guest import *

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tcc_program.c")
MANY = ("BEGIN { for (i = 0; i < 2000; ++i) "
        'printf("long f%d(long a, double b) { return a * %d + (a ^ %d) / 7 + (long)(b * %d.5); }\\n", '
        "i, i * 37, i, i) }")


class Tcc(CloudTest):
    def compile_outside(self, options):
        root = guest_file("tcc-root")
        libraries = f"{root}/lib/x86_64-linux-gnu"
        subprocess.run([f"{libraries}/ld-linux-x86-64.so.2", "--library-path", libraries,
                        f"{root}/usr/bin/tcc", f"-B{root}/usr/lib/x86_64-linux-gnu/tcc", *options],
                       check=True, timeout=60, cwd=self.directory)

    def digest(self, name):
        with open(os.path.join(self.directory, name), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    def test_a_compiler_in_the_guest_does_as_outside(self):
        guest_file("tcc-initrd")
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
        expected = "".join(f"{self.digest(name)}  {name}\n" for name in ("many.c", "program", "many.o")) + outside
        script = ("cd /tmp\ncat > program.c <<'END OF THE SOURCE'\n" + source.decode() + "END OF THE SOURCE\n"
                  f"awk '{MANY}' > many.c\n"
                  "tcc -nostdlib -static -o program program.c\ntcc -c -o many.o many.c\n"
                  "sha256sum many.c program many.o\n./program")
        for engine in ENGINES:
            with self.subTest(engine=engine):
                self.assertEqual(self.run_in_guest(script, engine=engine, kernel="tcc").decode(), expected)


if __name__ == "__main__":
    unittest.main(verbosity=2)
