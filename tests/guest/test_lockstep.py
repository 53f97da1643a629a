"""`vmm run --lockstep`: translated code against the interpreter, over a whole kernel boot."""

import re
import unittest

from vmm_guest import *


class Lockstep(GuestTest):
    def test_it_is_of_deterministic_runs_of_the_translator(self):
        for options in ["--accel bt", "--deterministic --accel interpreter", "--deterministic"]:
            with self.subTest(options=options):
                guest = self.start_script(".o", engine="interpreter",
                                          arguments=("--lockstep", *options.split()))
                self.assert_ends(guest, USAGE)
                self.assertIn("--lockstep is of deterministic runs of the translator; fix: add "
                              "--deterministic --accel bt", guest.messages)

    def test_a_whole_boot_is_alike(self):
        if "bt" not in ENGINES:
            self.skipTest("only the translator makes code")
        guest = self.start(f'kernel = "{guest_file("cloud-vmlinuz")}"\n'
                           f'initrd = "{guest_file("cloud-initrd")}"\n'
                           'append = "console=ttyS0"\ncpus = 2\nmemory = "256M"\n'
                           'accel = "bt"\ndeterministic = true\n',
                           arguments=("--lockstep", "--stats"), console="pipe")
        guest.expect("guest# ", 900)
        # Programs, pipes, strings, floating point.
        guest.send("seq 3000 | sort -r | gzip | gunzip | sha256sum\r")
        guest.expect(r"[0-9a-f]{64}  -", 300)
        guest.send("awk 'BEGIN { for (i = 1; i < 2000; ++i) s += 1 / i; print s }'\r")
        guest.expect(r"8\.177", 300)
        guest.send("poweroff -f\r")
        self.assert_ends(guest, SUCCESS, 200)
        compared = re.search(r"% of translated instructions compared +(?:\S+ +)*([\d.]+)\n",
                             guest.messages)
        self.assertGreater(float(compared[1]), 90)
        print(f"{compared[1]} % of translated instructions were compared", flush=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
