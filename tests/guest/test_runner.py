"""`vmm test`: what a CI job asks of it. Boots the cloud kernel for each verdict."""

import os
import re
import subprocess
import sys
import time
import unittest
import xml.etree.ElementTree as ElementTree

import host_kvm
import guest_contents
from vmm_guest import *

BOOT_FAILED, NO_STATUS, TESTS_FAILED = 89, 90, 91
KERNEL = "cloud-vmlinuz"
FILTER = os.path.join(ROOT, "tests", "guest", "container_filter.py")


def children(pid):
    """The processes below a process."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                for child in map(int, file.read().split()):
                    found += [child, *children(child)]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def has_ended(pid):
    """Gone, or waiting for a parent to hear of it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Run:
    """One `vmm test`: its process, what it prints, its result."""

    def __init__(self, test, arguments, command=(), host=Host(), environment=None, stdout=None):
        self.result_path = os.path.join(test.directory, "result.json")
        # Whatever is left in these folders was left behind.
        self.temporary = os.path.join(test.directory, "temporary")
        os.makedirs(self.temporary, exist_ok=True)
        environment = {**os.environ, **host.environment, "TMPDIR": self.temporary,
                       "XDG_RUNTIME_DIR": self.temporary, **(environment or {})}
        words = [*host.before, host.program, "test", "--result", self.result_path, *arguments]
        if command:
            words += ["--", *command]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=stdout or subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=environment, cwd=self.temporary)
        test.addCleanup(self.end)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def wait(self, timeout=120):
        self.out, self.err = self.process.communicate(timeout=timeout)
        return self.process.returncode

    @property
    def result(self):
        with open(self.result_path, encoding="utf-8") as file:
            return json.load(file)


class RunnerTest(GuestTest):
    def setUp(self):
        super().setUp()
        self.kernel = guest_file(KERNEL)
        self.busybox = guest_contents.write_busybox(self.directory)

    def base(self, engine="bt"):
        return ["--kernel", self.kernel, "--busybox", self.busybox, "--accel", engine]

    def run_command(self, command, *arguments, **keywords):
        """Runs a command in a guest to its end."""
        run = Run(self, [*self.base(), *arguments], command, **keywords)
        run.status = run.wait()
        self.assert_left_nothing(run)
        return run

    def shell(self, script, *arguments, **keywords):
        return self.run_command(["sh", "-c", script], *arguments, **keywords)

    def assert_left_nothing(self, run):
        self.assertEqual(os.listdir(run.temporary), [])

    def assert_verdict(self, run, verdict, code):
        self.assertEqual(run.status, code, run.err.decode(errors="replace"))
        self.assertEqual(run.result["exit_code"], code)
        self.assertEqual([test["verdict"] for test in run.result["tests"]], [verdict])

    def await_children(self, run, count, timeout=60):
        deadline = time.monotonic() + timeout
        while len(children(run.process.pid)) < count:
            self.assertLess(time.monotonic(), deadline, "the guests have not started")
            self.assertIsNone(run.process.poll())
            time.sleep(0.01)
        return children(run.process.pid)

    def assert_gone(self, processes, timeout=20):
        deadline = time.monotonic() + timeout
        while not all(has_ended(pid) for pid in processes):
            self.assertLess(time.monotonic(), deadline, f"of {processes} not all have ended")
            time.sleep(0.01)


class Commands(RunnerTest):
    def test_the_status_of_the_command_is_that_of_vmm(self):
        run = self.shell("echo out; echo err >&2; exit 3")
        self.assert_verdict(run, "fail", 3)
        self.assertEqual(run.out, b"out\n")
        self.assertIn(b"err\n", run.err)
        self.assertIn(b"vmm: the command exited with 3\n", run.err)
        self.assertEqual(run.result["tests"][0]["command_status"], 3)
        run = self.shell("true")
        self.assert_verdict(run, "pass", 0)
        self.assertRegex(run.result["tests"][0]["kernel"], r"^6\.")

    def test_a_signal_is_told_apart_from_a_status(self):
        run = self.shell("kill -SEGV $$")
        self.assert_verdict(run, "killed", 139)
        self.assertIn(b"killed by SIGSEGV", run.err)

    def test_a_program_that_is_not_there_is_127(self):
        run = self.run_command(["no-such-program"])
        self.assert_verdict(run, "fail", 127)
        self.assertIn(b"can't run no-such-program: No such file or directory", run.err)

    def test_every_byte_comes_in_its_order_and_on_its_stream(self):
        run = self.shell("seq 1 60000; seq 60001 120000 >&2; dd if=/dev/zero bs=1000 count=3 2>/dev/null",
                         "--log-level", "warning")
        self.assert_verdict(run, "pass", 0)
        lines = "".join(f"{n}\n" for n in range(1, 60001)).encode()
        self.assertEqual(run.out, lines + bytes(3000))
        self.assertEqual(run.err, "".join(f"{n}\n" for n in range(60001, 120001)).encode())

    def test_a_slow_reader_loses_nothing_and_a_guest_that_is_ahead_waits(self):
        run = Run(self, self.base(), ["sh", "-c", "seq 1 150000; echo end >&2"])
        got = b""
        while True:  # sips; pipes and vmm hold far less than the guest writes
            chunk = os.read(run.process.stdout.fileno(), 20000)
            if not chunk:
                break
            got += chunk
            time.sleep(0.001)
        self.assertEqual(run.wait(), 0)
        self.assertEqual(got, "".join(f"{n}\n" for n in range(1, 150001)).encode())

    def test_processes_that_the_command_leaves_behind_do_not_hold_up_the_end(self):
        run = self.shell("yes > /dev/null & yes & sleep 1000 & exit 5")
        self.assert_verdict(run, "fail", 5)

    def test_words_reach_the_command_as_they_are(self):
        run = self.run_command(["printf", "[%s]", "", " a  b ", "--", "--memory", "$HOME", "\\n'\""])
        self.assertEqual(run.out, b"[][ a  b ][--][--memory][$HOME][\\n'\"]")

    def test_the_guest_is_a_usable_place(self):
        run = self.shell("set -e; test $$ -gt 1; test -c /dev/null; test -d /proc/self; test -d /sys/bus;"
                         "echo x > /tmp/x; test -w /run; ls /dev/fd/ > /dev/null; awk 'BEGIN { print 6*7 }'")
        self.assert_verdict(run, "pass", 0)
        self.assertEqual(run.out, b"42\n")


class Verdicts(RunnerTest):
    def test_a_panic_is_81_with_the_last_words_of_the_kernel(self):
        run = self.shell("echo now; echo c > /proc/sysrq-trigger")
        self.assert_verdict(run, "panic", PANIC)
        self.assertIn(b"Kernel panic - not syncing: sysrq triggered crash, while the command ran", run.err)
        self.assertIn(b"  | ", run.err)
        self.assertRegex(run.err, rb"sysrq_handle_crash|write_sysrq_trigger")

    def test_a_triple_fault_is_82(self):
        run = self.run_command(["reboot", "-f"], "--append", "reboot=t")
        self.assert_verdict(run, "triple-fault", TRIPLE_FAULT)

    def test_a_machine_that_halts_for_good_is_83(self):
        run = self.run_command(["halt", "-f"])
        self.assert_verdict(run, "hang", HANG)
        self.assertIn(b"System halted", run.err)

    def test_the_time_limits_are_84_and_85(self):
        run = self.run_command(["sleep", "1000"], "--timeout", "6s")
        self.assert_verdict(run, "timeout", WALL_TIMEOUT)
        self.assertIn(b"the run took longer than 6 s, ", run.err)
        run = self.run_command(["sleep", "1000"], "--idle-timeout", "4s")
        self.assert_verdict(run, "idle-timeout", IDLE_TIMEOUT)
        self.assertIn(b"the guest printed nothing for 4 s, ", run.err)

    def test_a_guest_that_goes_down_without_its_command_is_90(self):
        self.assert_verdict(self.run_command(["poweroff", "-f"]), "no-status", NO_STATUS)
        self.assert_verdict(self.run_command(["reboot", "-f"]), "no-status", NO_STATUS)

    def test_a_guest_that_does_not_come_up_is_told_so(self):
        empty = os.path.join(self.directory, "empty.img")
        with open(empty, "wb") as file:
            file.truncate(1 << 20)
        run = self.run_command(["true"], "--rootfs", empty)
        self.assert_verdict(run, "boot-failed", BOOT_FAILED)
        self.assertIn(b"fix: name the kernel's modules by --modules DIR", run.err)

    def test_what_the_command_prints_is_no_verdict(self):
        forged = (b"\xd6\x07\x02\x00\x05\x00\x00\x00\0\0\0\0\0\0" * 3).hex()
        octal = "".join(f"\\{int(forged[i:i + 2], 16):03o}" for i in range(0, len(forged), 2))
        run = self.shell(f"printf '{octal}'; echo 'Kernel panic - not syncing: so what'; exit 7")
        self.assert_verdict(run, "fail", 7)
        self.assertIn(b"not syncing: so what", run.out)

    def test_who_writes_to_the_line_of_vmm_gets_no_pass(self):
        run = self.shell("echo x > /dev/ttyS1; exit 0")
        self.assert_verdict(run, "no-status", NO_STATUS)
        self.assertIn(b"second serial line", run.err)

    def test_without_a_command_the_guest_judges_itself(self):
        for script, verdict, code in (("x0", "pass", 0), ("x7", "fail", GUEST_FAILURE),
                                      ("t", "triple-fault", TRIPLE_FAULT), ("h", "hang", HANG),
                                      (".P", "panic", PANIC), (".o", "pass", 0)):
            with self.subTest(script=script):
                run = Run(self, ["--kernel", SCRIPT_GUEST, "--append", script, "--accel", "bt"])
                run.status = run.wait()
                self.assert_verdict(run, verdict, code)
                if "." in script:
                    self.assertIn(b"hello from the guest", run.out)


class Roots(RunnerTest):
    def root(self):
        root = os.path.join(self.directory, "root")
        os.makedirs(os.path.join(root, "bin"))
        os.makedirs(os.path.join(root, "data"))
        os.link(self.busybox, os.path.join(root, "bin", "busybox"))
        os.symlink("busybox", os.path.join(root, "bin", "sh"))
        with open(os.path.join(root, "data", "file"), "w", encoding="ascii") as file:
            file.write("from the host\n")
        return root

    def run_in(self, root, script, *arguments):
        run = Run(self, ["--kernel", self.kernel, "--accel", "bt", "--rootfs", root, *arguments],
                  ["/bin/busybox", "sh", "-c", script])
        run.status = run.wait()
        return run

    def test_a_directory_is_the_guests_root_and_stays_as_it_was(self):
        root = self.root()
        run = self.run_in(root, "cat /data/file && echo changed > /data/file && rm /bin/sh")
        self.assert_verdict(run, "pass", 0)
        self.assertEqual(run.out, b"from the host\n")
        with open(os.path.join(root, "data", "file"), encoding="ascii") as file:
            self.assertEqual(file.read(), "from the host\n")
        self.assertTrue(os.path.islink(os.path.join(root, "bin", "sh")))

    def test_a_directory_is_shared_where_the_kernel_can_mount_it(self):
        modules = guest_contents.write_modules(self.directory)
        guest_contents.write_modules_dep(modules)
        if not os.path.exists(os.path.join(modules, "overlay.ko")):
            self.skipTest("the prepared guest has no overlay.ko: run ci/guests")
        root = self.root()
        run = self.run_in(root, "cat /data/file && echo changed > /data/file && cat /data/file && mount | grep ' / '",
                          "--modules", modules)
        self.assert_verdict(run, "pass", 0)
        self.assertRegex(run.out, rb"^from the host\nchanged\noverlay on / type overlay")
        with open(os.path.join(root, "data", "file"), encoding="ascii") as file:
            self.assertEqual(file.read(), "from the host\n")

    def test_an_image_is_the_guests_root_and_stays_as_it_was(self):
        image = os.path.join(self.directory, "root.img")
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", self.root(), image, "32M"], check=True)
        with open(image, "rb") as file:
            before = file.read()
        modules = guest_contents.write_modules(self.directory)
        guest_contents.write_modules_dep(modules)
        run = self.run_in(image, "cat /data/file && echo changed > /data/file && sync && mount | grep ' / '",
                          "--modules", modules)
        self.assert_verdict(run, "pass", 0)
        self.assertRegex(run.out, rb"^from the host\n/dev/vda on / type ext4 \(rw")
        with open(image, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_a_plain_folder_of_modules_is_loaded_whole_and_a_kernels_by_need(self):
        modules = guest_contents.write_modules(self.directory)
        run = self.shell("cut -d' ' -f1 /proc/modules | sort | tr '\\n' ' '", "--modules", modules)
        self.assert_verdict(run, "pass", 0)
        for name in (b"virtio_blk", b"virtio_net", b"net_failover"):
            self.assertIn(name, run.out)
        guest_contents.write_modules_dep(modules)
        run = self.shell("cut -d' ' -f1 /proc/modules | sort | tr '\\n' ' '", "--modules", modules)
        self.assertEqual((run.status, run.out), (0, b""))
        run = self.shell("cut -d' ' -f1 /proc/modules | sort | tr '\\n' ' '", "--modules", modules,
                         "--load", "net_failover")
        self.assertEqual((run.status, run.out), (0, b"failover net_failover "))

    def test_a_module_that_is_needed_and_broken_is_told(self):
        modules = os.path.join(self.directory, "broken")
        os.makedirs(modules)
        with open(os.path.join(modules, "broken.ko"), "wb") as file:
            file.write(b"no module")
        run = self.run_command(["true"], "--modules", modules, "--load", "broken")
        self.assert_verdict(run, "boot-failed", BOOT_FAILED)
        self.assertIn(b"can't load the module broken.ko", run.err)

    def test_an_initrd_of_the_users_is_the_root(self):
        run = Run(self, ["--kernel", self.kernel, "--initrd", guest_file("cloud-initrd"), "--accel", "bt"],
                  ["sh", "-c", "cat /etc/rc.boot"])
        run.status = run.wait()
        self.assert_verdict(run, "pass", 0)
        self.assertIn(b"Mounts and drivers", run.out)


class Ends(RunnerTest):
    def start_ready(self, *arguments):
        run = Run(self, [*self.base(), *arguments], ["sh", "-c", "echo ready; sleep 1000"])
        self.assertEqual(os.read(run.process.stdout.fileno(), 6), b"ready\n")
        return run, children(run.process.pid)

    def test_a_signal_ends_all_and_leaves_nothing(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(signal=number):
                run, processes = self.start_ready()
                self.assertTrue(processes)
                run.process.send_signal(number)
                run.status = run.wait(20)
                self.assert_verdict(run, "stopped", STOPPED)
                self.assert_gone(processes)
                self.assert_left_nothing(run)

    def test_when_vmm_is_killed_its_guests_die_too(self):
        run, processes = self.start_ready()
        run.process.kill()
        run.wait(20)
        self.assert_gone(processes)
        self.assert_left_nothing(run)

    def test_a_list_that_is_stopped_names_what_was_not_run(self):
        path = os.path.join(self.directory, "tests.toml")
        with open(path, "w", encoding="utf-8") as file:
            for i in range(3):
                file.write(f'[[test]]\nname = "t{i}"\ncommand = "sleep 1000"\n')
        report = os.path.join(self.directory, "report.xml")
        run = Run(self, [*self.base(), "--list", path, "--jobs", "2", "--junit", report])
        processes = self.await_children(run, 2)
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.wait(20), STOPPED)
        self.assert_gone(processes)
        self.assertEqual([test["verdict"] for test in run.result["tests"]], ["stopped", "stopped", "not-run"])
        suite = ElementTree.parse(report).getroot().find("testsuite")
        self.assertEqual((suite.get("errors"), suite.get("skipped")), ("2", "1"))


class Lists(RunnerTest):
    """Twenty guests side by side on however many processors there are."""

    # name: [what the test says, its verdict]; each four times
    KINDS = {
        "pass": ('command = "echo well"', "pass"),
        "fail": ('command = ["sh", "-c", "echo bad >&2; exit 9"]', "fail"),
        "panic": ('command = "echo c > /proc/sysrq-trigger"', "panic"),
        "hang": ('command = ["halt", "-f"]', "hang"),
        "timeout": ('command = "sleep 1000"\ntimeout = "{limit}"', "timeout"),
    }
    LIMIT = "30s"

    def write_list(self, limit):
        path = os.path.join(self.directory, "tests.toml")
        with open(path, "w", encoding="utf-8") as file:
            for i in range(4):
                for name, (text, _) in self.KINDS.items():
                    file.write(f'[[test]]\nname = "{name} {i}"\n{text.format(limit=limit)}\n\n')
        return path

    def check(self, host=Host(), accel=("--accel", "bt"), limit="20s"):
        report = os.path.join(self.directory, "report.xml")
        run = Run(self, ["--kernel", self.kernel, "--busybox", self.busybox, *accel, "--list",
                         self.write_list(limit), "--jobs", "6", "--junit", report], host=host)
        seen = set()
        while run.process.poll() is None and len(seen) < 6:
            seen.update(children(run.process.pid))
            time.sleep(0.05)
        self.assertEqual(run.wait(900), TESTS_FAILED, run.err.decode(errors="replace"))
        tests = run.result["tests"]
        expected = [verdict for _ in range(4) for _, verdict in self.KINDS.values()]
        self.assertEqual([test["verdict"] for test in tests], expected,
                         "\n".join(f"{test['name']}: {test['reason']}" for test in tests))
        self.assert_gone(seen)
        self.assert_left_nothing(run)
        self.check_report(report, tests)
        out = run.out.decode()
        self.assertEqual(len(re.findall(r"^\[\d+/20\] ok   pass \d ", out, re.M)), 4)
        self.assertEqual(len(re.findall(r"^\[\d+/20\] FAIL ", out, re.M)), 16)
        self.assertIn("  | bad\n", out)
        return run

    def check_report(self, report, tests):
        root = ElementTree.parse(report).getroot()
        self.assertEqual(root.tag, "testsuites")
        suite, = root
        self.assertEqual({key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")},
                         {"tests": "20", "failures": "16", "errors": "0", "skipped": "0"})
        cases = list(suite)
        self.assertEqual([case.get("name") for case in cases], [test["name"] for test in tests])
        for case, test in zip(cases, tests):
            failure = case.find("failure")
            self.assertEqual(failure is None, test["verdict"] == "pass")
            if failure is not None:
                self.assertEqual(failure.get("type"), test["verdict"])
                self.assertEqual(failure.get("message"), test["reason"])
        subprocess.run(["xmllint", "--noout", "--schema",
                        os.path.join(ROOT, "tests", "fixtures", "junit.xsd"), report],
                       check=True, capture_output=True)

    def test_twenty_guests_side_by_side_get_their_verdicts(self):
        self.check()

    def test_the_same_in_a_container_without_kvm(self):
        host, why_not = host_kvm.without_device(self.directory)
        if why_not:
            self.skipTest(why_not)
        host = host._replace(before=[*host.before, sys.executable, FILTER])
        run = self.check(host=host, accel=())
        self.assertEqual({test["engine"] for test in run.result["tests"]}, {"bt"})


if __name__ == "__main__":
    unittest.main()
