"""`vmm run --stats`: what each engine tells, and that it counts right; `--perf-map`."""

import os
import re
import unittest

from vmm_guest import *


class Stats(GuestTest):
    def table(self, messages, engine):
        """{name: [values]} of the table of `engine`."""
        text = messages[messages.index(f"statistics of {engine} "):].splitlines()
        self.assertTrue(text[0].rstrip().endswith("total"))
        rows = {}
        for line in text[1:]:
            row = re.fullmatch(r"(\S+(?: \S+)*)  +([\d.]+(?: +[\d.]+)*)", line)
            if row is None:
                break
            rows[row[1]] = row[2].split()
        return rows

    def run_script(self, engine, script, *options, config=""):
        guest = self.start_script(script, config, engine=engine, arguments=options)
        self.assert_ends(guest, SUCCESS)
        return guest.messages

    def test_nothing_is_told_unasked(self):
        for engine in ENGINES:
            self.assertNotIn("statistics", self.run_script(engine, ".o"))

    def test_every_engine_tells(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                rows = self.table(self.run_script(engine, ".o", "--stats"), engine)
                busy = "entries into the guest" if engine == "kvm" else "instructions"
                self.assertGreater(int(rows[busy][0]), 0)
                self.assertEqual(len(rows[busy]), 1)

    def test_processors_have_columns(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                messages = self.run_script(engine, ".o", "--stats", config="cpus = 2\n")
                self.assertRegex(messages, f"statistics of {engine} +CPU 0 +CPU 1 +total")
                for name, values in self.table(messages, engine).items():
                    self.assertEqual(len(values), 3, name)
                    if "." not in values[2]:
                        self.assertEqual(int(values[0]) + int(values[1]), int(values[2]), name)

    def test_translated_code_counts_what_the_interpreter_counts(self):
        if not {"bt", "interpreter"} <= set(ENGINES):
            self.skipTest("needs both software engines")
        counts = {}
        for engine in "bt", "interpreter":
            guest = self.start(f'kernel = "{guest_file("cloud-vmlinuz")}"\nmemory = "128M"\n'
                               'append = "console=ttyS0 panic=-1"\ncpus = 2\non_panic = "exit"\n'
                               f'accel = "{engine}"\ndeterministic = true\n',
                               arguments=("--stats",))
            self.assert_ends(guest, PANIC, 400)
            counts[engine] = self.table(guest.messages, engine)
        self.assertEqual(counts["bt"]["instructions"], counts["interpreter"]["instructions"])
        self.assertGreater(int(counts["bt"]["instructions"][2]), 10**8)
        self.assertLess(float(counts["bt"]["% of instructions interpreted"][2]), 5)

    def test_translated_code_has_names_for_perf(self):
        if "bt" not in ENGINES:
            self.skipTest("only the translator makes code")
        guest = self.start(f'kernel = "{guest_file("cloud-vmlinuz")}"\nmemory = "128M"\n'
                           'append = "console=ttyS0 panic=-1 nokaslr"\naccel = "bt"\n',
                           arguments=("--perf-map",))
        path = f"/tmp/perf-{guest.process.pid}.map"
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        self.assert_ends(guest, PANIC, 100)
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
        names = []
        places = {}
        for line in lines:
            found = re.fullmatch(r"([0-9a-f]+) ([0-9a-f]+) (.+)", line)
            self.assertIsNotNone(found, line)
            names.append(found[3])
            places[int(found[1], 16)] = int(found[2], 16)
        self.assertIn("translator stub indirect", names)
        self.assertTrue(any(re.fullmatch(r"guest 0xffffffff8[0-9a-f]{7} phys 0x[0-9a-f]+", name)
                            for name in names))
        self.assertTrue(any(name.startswith("thunk to guest 0x") for name in names))
        ends = sorted(places)
        for one, other in zip(ends, ends[1:]):
            self.assertLessEqual(one + places[one], other)


if __name__ == "__main__":
    unittest.main(verbosity=2)
