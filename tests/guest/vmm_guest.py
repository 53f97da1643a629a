"""Starts vmm as a user would and talks to its guest: what every end-to-end test stands on.

A test says which config it wants, gets a `Guest`, and says what it expects to read within which
time. Every wait has a limit; a guest that is still there when its test ends is killed.

Environment: VMM (the program, default build/vmm), VMM_GUESTS (folder of the prepared Linux guests,
default build/guests), VMM_SCRIPT_GUEST (script_guest.asm, built), VMM_ENGINES (engines to test,
default "bt interpreter"), VMM_FULL=1 (the long tests too).
"""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import tempfile
import termios
import threading
import time
import unittest
from typing import Mapping, NamedTuple, Sequence

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VMM = os.environ.get("VMM", os.path.join(ROOT, "build", "vmm"))
GUESTS = os.environ.get("VMM_GUESTS", os.path.join(ROOT, "build", "guests"))
SCRIPT_GUEST = os.environ.get("VMM_SCRIPT_GUEST",
                              os.path.join(ROOT, "build", "tests", "guest", "script_guest.elf"))
ENGINES = os.environ.get("VMM_ENGINES", "bt interpreter").split()
FULL = os.environ.get("VMM_FULL") == "1"

# The exit codes that tests ask for; docs/exit-codes.md has them all.
SUCCESS, GUEST_FAILURE, PANIC, TRIPLE_FAULT, HANG = 0, 80, 81, 82, 83
WALL_TIMEOUT, IDLE_TIMEOUT, GUEST_RESET, STOPPED = 84, 85, 86, 87
USAGE, CONFIG_INVALID, FILE_MISSING, UNAVAILABLE, NO_PERMISSION = 64, 65, 66, 69, 77
ENGINE_FAILED, HOST_MEMORY, CONSOLE_LOST, ENGINE_UNAVAILABLE = 100, 101, 102, 103
SUSPENDED = 88


def guest_file(name):
    """A file of a prepared Linux guest ("cloud-vmlinuz"); skips the test where it is missing."""
    path = os.path.join(GUESTS, name)
    if not os.path.exists(path):
        raise unittest.SkipTest(f"{path} is missing: run ci/guests")
    return path


def full_only(test):
    return unittest.skipUnless(FULL, "a long test: set VMM_FULL=1")(test)


class Stream:
    """Bytes from the guest, collected by a thread so that nobody has to read for them to flow."""

    def __init__(self, fd):
        # Its own until the end: a number that somebody else closes may soon be another guest's.
        self._fd = os.dup(fd)
        self._condition = threading.Condition()
        self._data = bytearray()
        self._seen = 0
        self._ended = False
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self):
        while True:
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                data = b""
            with self._condition:
                if data:
                    self._data += data
                else:
                    self._ended = True
                self._condition.notify_all()
            if not data:
                os.close(self._fd)
                return

    def expect(self, pattern, timeout):
        """Waits for a regular expression in what has not been matched yet; returns the match."""
        if isinstance(pattern, str):
            pattern = pattern.encode()
        expression = re.compile(pattern)
        deadline = time.monotonic() + timeout
        with self._condition:
            while True:
                match = expression.search(self._data, self._seen)
                if match:
                    self._seen = match.end()
                    return match
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "ended" if self._ended else f"has not shown it in {timeout} s"
                    tail = bytes(self._data[self._seen:])[-3000:]
                    raise AssertionError(
                        f"waited for {pattern!r}, but the console {why}; unmatched: "
                        f"{tail.decode(errors='replace')}")
                self._condition.wait(left)

    def wait_end(self, timeout):
        deadline = time.monotonic() + timeout
        with self._condition:
            while not self._ended and time.monotonic() < deadline:
                self._condition.wait(deadline - time.monotonic())
            return self._ended

    @property
    def data(self):
        with self._condition:
            return bytes(self._data)


class Host(NamedTuple):
    """What a run of vmm finds: the program itself, a command in front of it, more environment."""
    program: str = VMM
    before: Sequence[str] = ()
    environment: Mapping[str, str] = {}
    group: str = ""  # that /dev/kvm belongs to, where host_kvm.py has made it


class Guest:
    """One run of vmm. `console`: "pipe" (stdin and stdout are pipes), "pty" (vmm runs on a terminal
    of its own), or None (stdin is /dev/null, stdout what the test says). `new_session`: it leads a
    session, as on a terminal it always does. `verb`: "run", or "test" with the command's words in
    `arguments`; then the stream is the command's stdout."""

    def __init__(self, directory, config="", arguments=(), console="pipe", stdin=None,
                 stdout=subprocess.DEVNULL, host=Host(), new_session=False, verb="run"):
        self.directory = directory
        self.result_path = os.path.join(directory, "result.json")
        command = [*host.before, host.program, verb, "--result", self.result_path]
        environment = {**os.environ, **host.environment}
        if config:
            path = os.path.join(directory, "vm.toml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(config)
            command += ["--config", path]
        command += list(arguments)
        self._stderr_path = os.path.join(directory, "stderr")
        self.stream = None
        self.terminal = None  # the slave side of the pty, to look at its settings
        with open(self._stderr_path, "wb") as stderr:
            self.started = time.monotonic()
            if console == "pty":
                self._in, self.terminal = pty.openpty()
                self.terminal_before = termios.tcgetattr(self.terminal)
                self.process = subprocess.Popen(command, stdin=self.terminal, stdout=self.terminal,
                                                stderr=stderr, start_new_session=True,
                                                env=environment)
                self.stream = Stream(self._in)
            elif console == "pipe":
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE if stdin is None else stdin,
                    stdout=subprocess.PIPE, stderr=stderr, env=environment,
                    start_new_session=new_session)
                self._in = self.process.stdin.fileno() if stdin is None else -1
                self.stream = Stream(self.process.stdout.fileno())
            else:
                self._in = -1
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                                stdout=stdout, stderr=stderr, env=environment,
                                                start_new_session=new_session)

    def expect(self, pattern, timeout=10):
        try:
            return self.stream.expect(pattern, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\nvmm's messages:\n{self.messages}") from None

    def send(self, text):
        if isinstance(text, str):
            text = text.encode()
        while text:
            text = text[os.write(self._in, text):]

    def close_input(self):
        self.process.stdin.close()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=10):
        """Waits for the end of vmm and returns its exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"vmm has not ended in {timeout} s; its messages:\n"
                                 f"{self.messages}") from None

    def wait_for_message(self, pattern, timeout=5):
        """Waits until vmm has said something on stderr; returns the match."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.search(pattern, self.messages)
            if match:
                return match
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"vmm has not said {pattern!r}, but: {self.messages}")
            time.sleep(0.005)

    def forwarded(self, port, protocol="tcp", address="127.0.0.1"):
        """The host's port that leads to `port` of the guest."""
        return int(self.wait_for_message(
            rf"{protocol} {re.escape(address)}:(\d+) leads to port {port} of the guest", 30).group(1))

    @property
    def messages(self):
        with open(self._stderr_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    @property
    def result(self):
        with open(self.result_path, encoding="utf-8") as file:
            return json.load(file)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe and not pipe.closed:
                pipe.close()
        if self.terminal is not None:
            os.close(self.terminal)
            os.close(self._in)
            self.terminal = None


class GuestTest(unittest.TestCase):
    """Gives each test a folder of its own and ends what it started."""

    longMessage = True

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="vmm-test-")
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    def start(self, config="", **keywords):
        guest = Guest(self.directory, config, **keywords)
        self.addCleanup(guest.stop)
        return guest

    def start_script(self, script, config="", engine=None, **keywords):
        """Starts the guest of script_guest.asm, which does what the letters of `script` say."""
        return self.start(f'kernel = "{SCRIPT_GUEST}"\nappend = "{script}"\nmemory = "16M"\n'
                          f'accel = "{engine or ENGINES[0]}"\n{config}', **keywords)

    def assert_ends(self, guest, code, timeout=10):
        ended = guest.wait(timeout)
        self.assertEqual(ended, code, guest.messages)

    def assert_terminal_restored(self, guest):
        self.assertEqual(termios.tcgetattr(guest.terminal), guest.terminal_before)

    def await_file(self, path, content, timeout=10):
        deadline = time.monotonic() + timeout
        while True:
            if os.path.exists(path):
                with open(path, "rb") as file:
                    if file.read() == content:
                        return
            self.assertLess(time.monotonic(), deadline, f"{path} has not got {content}")
            time.sleep(0.01)

    def connect(self, path, timeout=5):
        """Connects to a console socket as soon as it is there."""
        deadline = time.monotonic() + timeout
        while True:
            client = socket.socket(socket.AF_UNIX)
            try:
                client.connect(path)
                self.addCleanup(client.close)
                return client
            except OSError:
                client.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)


def run_tool(*command, timeout=300):
    """Runs a program of the host; what it wrote to stdout. A failure shows what it said."""
    done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stdout!r} {done.stderr!r}")
    return done.stdout


def read_for(sock, seconds):
    """All that a socket gives within a time."""
    data = bytearray()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ready, _, _ = select.select([sock], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            break
        chunk = sock.recv(65536)
        if not chunk:
            break
        data += chunk
    return bytes(data)


def process_is_gone(pid):
    try:
        os.kill(pid, 0)
        return False
    except ProcessLookupError:
        return True


__all__ = [name for name in dir() if not name.startswith("_")] + ["signal"]
