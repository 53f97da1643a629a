"""What holds however bad the input is: an exit code of the table, a reason, nothing left behind."""

import os
import re
import signal

from vmm_guest import ROOT, GuestTest

SEED = 20250727  # of everything that is random in these tests


def exit_codes():
    """{code: name} of docs/exit-codes.md."""
    with open(os.path.join(ROOT, "docs", "exit-codes.md"), encoding="utf-8") as file:
        return {int(code): name for code, name in
                re.findall(r"^\| (\d+) \| (\w+) \|", file.read(), re.MULTILINE)}


class BadInputTest(GuestTest):
    CODES = exit_codes()

    def setUp(self):
        super().setUp()
        os.environ["TMPDIR"] = self.directory  # whatever a run leaves is found there
        self.addCleanup(os.environ.pop, "TMPDIR")

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)
        return self.path(name)

    def tree(self):
        found = set()
        for folder, folders, files in os.walk(self.directory):
            found |= {os.path.relpath(os.path.join(folder, name), self.directory)
                      for name in folders + files}
        return found

    def start_watched(self, config="", new_files=(), **keywords):
        """Starts vmm in a session of its own; assert_left_nothing() looks what is left of it."""
        self.before = self.tree() | {"vm.toml", "result.json", "stderr", *new_files}
        return self.start(config, new_session=True, **keywords)

    def assert_left_nothing(self, guest):
        self.assertEqual(self.tree() - self.before, set())
        with self.assertRaises(ProcessLookupError, msg="a process is left"):
            os.killpg(guest.process.pid, signal.SIGCONT)
        if guest.terminal is not None:
            self.assert_terminal_restored(guest)

    def run_to_verdict(self, config="", timeout=30, **keywords):
        """Runs to the end; returns the guest and the exit code, which the table has."""
        guest = self.start_watched(config, **keywords)
        code = guest.wait(timeout)
        self.assertIn(code, self.CODES, guest.messages)
        self.assertNotEqual(self.CODES[code], "Internal", guest.messages)
        self.assertEqual(guest.result["exit_code"], code)
        self.assertEqual(guest.result["exit_name"], self.CODES[code])
        if code != 0:
            self.assertTrue(guest.result["reason"])
        self.assert_left_nothing(guest)
        return guest, code

    def assert_refused(self, code, messages, config="", **keywords):
        """Ends before any engine is told of, with just these messages (one line or more)."""
        guest, ended = self.run_to_verdict(config, **keywords)
        self.assertEqual(guest.messages, messages)
        self.assertEqual(ended, code, guest.messages)
        self.assertIsNone(guest.result["engine"])
        guest.stop()
