"""Files that are not there, memory that the host has not, consoles that cannot be written: each is
told of with its place and what to do, ends with the exit code of the table and leaves nothing."""

import os
import socket
import unittest

import host_kvm
from bad_input import BadInputTest
from vmm_guest import *


class BadHostTest(BadInputTest):
    def script(self, script=".o", extra="", memory="16M"):
        """Like start_script()'s; [sections] come last in `extra`. Line 4 is the memory's."""
        return (f'kernel = "{SCRIPT_GUEST}"\nappend = "{script}"\naccel = "{ENGINES[0]}"\n'
                f'memory = "{memory}"\n{extra}')

    def toml(self, line, column):
        return f"{self.path('vm.toml')}:{line}:{column}"


class Files(BadHostTest):
    def refused_file(self, key, path, code, what, why, fix, host=Host()):
        lines = {"kernel": SCRIPT_GUEST, key: path}
        config = "".join(f'{name} = "{value}"\n' for name, value in lines.items())
        line, column = list(lines).index(key) + 1, len(key) + 4
        self.assert_refused(code, f"{self.toml(line, column)}: the {key} {path} {what} ({why}); "
                                  f"fix: {fix}\n", config, host=host)

    def test_a_missing_file(self):
        for key in ("kernel", "initrd"):
            for path in (self.path("none"), self.path("none/none")):
                with self.subTest(key=key, path=path):
                    self.refused_file(key, path, FILE_MISSING, "does not exist",
                                      "relative paths start at the directory of the file",
                                      "correct the path, or put the file there")

    def test_what_is_no_file(self):
        os.mkfifo(self.path("fifo"))
        for key in ("kernel", "initrd"):
            for path in (self.directory, "/dev/zero", self.path("fifo")):
                with self.subTest(key=key, path=path):
                    self.refused_file(key, path, FILE_MISSING, "is no regular file",
                                      "its size must be known before it is read", "name a file")

    def test_an_empty_file(self):
        for key in ("kernel", "initrd"):
            with self.subTest(key=key):
                self.refused_file(key, self.write("empty", b""), CONFIG_INVALID, "is empty",
                                  "there is nothing in it to load", "name the right file")

    def test_an_unreadable_file(self):
        host, (kernel,), why_not = host_kvm.nobody(self.directory, [SCRIPT_GUEST])
        if host is None:
            self.skipTest(why_not)
        path = self.write("unreadable", b"x")
        os.chmod(path, 0)
        for key in ("kernel", "initrd"):
            with self.subTest(key=key):
                lines = {"kernel": kernel, key: path}
                config = "".join(f'{name} = "{value}"\n' for name, value in lines.items())
                place = self.toml(list(lines).index(key) + 1, len(key) + 4)
                self.assert_refused(NO_PERMISSION, f"{place}: the {key} {path} can't be read "
                                    f"(Permission denied); fix: allow it: chmod a+r {path}\n",
                                    config, host=host)

    def test_a_config_that_cannot_be_read(self):
        none = self.path("none.toml")
        self.assert_refused(FILE_MISSING, f"vmm: can't read {none}: No such file or directory; fix: "
                            "name an existing vm.toml, or give --kernel FILE without --config\n",
                            arguments=["--config", none])
        self.assert_refused(FILE_MISSING, f"vmm: can't read {self.directory}/vm.toml: No such file "
                            "or directory; fix: name an existing vm.toml, or give --kernel FILE "
                            "without --config\n", arguments=["--config", self.directory])
        self.assert_refused(CONFIG_INVALID, "/dev/zero:1:1: the file is longer than 1 MiB (it is no "
                            "vm.toml); fix: name the vm.toml of the machine\n",
                            arguments=["--config", "/dev/zero"])

    def test_an_initrd_that_does_not_fit(self):
        initrd = self.path("initrd")
        with open(initrd, "wb") as file:
            file.truncate(20 << 20)
        self.assert_refused(CONFIG_INVALID, f"{self.toml(4, 10)}: kernel, initrd and modules have "
                            "21 MiB, the guest's memory 16 MiB (the guest could not hold them); "
                            "fix: write memory = \"128M\" or more\n",
                            self.script(extra=f'initrd = "{initrd}"\n'))


class Wires(BadHostTest):
    def refused_wire(self, path, code, why):
        self.assert_refused(code, f"vmm: net0: can't connect to {path}: {why}\n",
                            self.script(extra=f'net = [{{ path = "{path}" }}]\n'))

    def test_a_socket_that_nobody_serves(self):
        path = self.path("none.sock")
        self.refused_wire(path, FILE_MISSING, "No such file or directory; fix: start passt "
                          f"--socket {path} first")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
        self.refused_wire(path, UNAVAILABLE, "Connection refused; fix: start passt "
                          f"--socket {path} first")

    def test_a_program_that_takes_no_connections(self):
        path = self.path("stuck.sock")
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as other:
            server.bind(path)
            server.listen(0)
            other.connect(path)
            self.refused_wire(path, UNAVAILABLE, "Resource temporarily unavailable; fix: start the "
                              "program there again, it takes no connections")


class Memory(BadHostTest):
    def refused_memory(self, memory, what, why, fix):
        self.assert_refused(CONFIG_INVALID, f"{self.toml(4, 10)}: {what} ({why}); fix: {fix}\n",
                            self.script(memory=memory))

    def test_no_amount_of_memory(self):
        sizes = "a size is a whole number followed by K, M or G"
        for memory, fix in (("0", "512M"), ("1", "1M"), ("", "512M"), ("1.5G", "512M"),
                            ("-16M", "512M"), ("16M1", "16M"), ("1T", "512M")):
            with self.subTest(memory=memory):
                self.refused_memory(memory, f"'{memory}' is not a size", sizes,
                                    f'write "{fix}"')

    def test_too_little_odd_and_too_much_memory(self):
        bounds = "it must be from 2M to 1024G"
        self.refused_memory("0M", "'memory' is 0K", bounds, 'write "2M"')
        self.refused_memory("4K", "'memory' is 4K", bounds, 'write "2M"')
        self.refused_memory("2044K", "'memory' is 2044K", bounds, 'write "2M"')
        self.refused_memory("16385K", "'memory' is 16385K",
                            "it must be a multiple of 4K, the size of a page", 'write "16388K"')
        self.refused_memory("99999999999999999999G", "the size '99999999999999999999G' is too large",
                            "it is beyond what any computer can address", "write a smaller one")
        self.refused_memory("1025G", "'memory' is 1025G", bounds, 'write "1024G"')

    def test_more_than_the_host_has(self):
        with open("/proc/meminfo", encoding="ascii") as file:
            kib = {line.split(":")[0]: int(line.split()[1]) for line in file}
        mib = (kib["MemTotal"] + kib["SwapTotal"]) // 1024
        memory = (mib // 1024 + 1) * 1024
        self.assert_refused(HOST_MEMORY, f"vmm: guest memory of {memory} MiB is more than this "
                            f"host's memory and swap ({mib} MiB); lower `memory`\n",
                            self.script(memory=f"{memory}M"))

    def refused_under(self, limit, memory, message):
        host = Host(before=["prlimit", limit, "--"])
        self.assert_refused(HOST_MEMORY, f"vmm: guest memory of {message}\n",
                            self.script(memory=memory), host=host)

    def test_more_than_the_limits_of_the_process_allow(self):
        self.refused_under(f"--fsize={64 << 20}", "128M", "128 MiB is over the file size limit of 64 "
                           "MiB; raise `ulimit -f` or lower `memory`")
        with open(VMM, "rb") as program:
            if b"__asan_init" in program.read():
                self.skipTest("AddressSanitizer needs all the address space for itself")
        self.refused_under(f"--as={1 << 30}", "1G", "1024 MiB: reserving address space (see `ulimit "
                           "-v`): Cannot allocate memory")

    def test_the_smallest_memory_is_enough_for_a_small_guest(self):
        guest, code = self.run_to_verdict(self.script(memory="2M"))
        self.assertEqual(code, SUCCESS, guest.messages)


class Consoles(BadHostTest):
    def console(self, spec):
        return self.script(extra=f'[console]\nserial1 = "{spec}"\n')

    def refused_console(self, spec, code, message):
        """`message`: behind the place."""
        self.assert_refused(code, f"{self.toml(6, 11)}: {message}\n", self.console(spec))

    def lost_console(self, spec, message):
        self.assert_refused(CONSOLE_LOST, f"vmm: serial1: {message}\n", self.console(spec))

    def test_a_missing_directory(self):
        for kind in ("file", "unix"):
            for folder in (self.path("none"), self.write("plain", b"")):
                with self.subTest(kind=kind, folder=folder):
                    self.refused_console(f"{kind}:{folder}/serial", CONSOLE_LOST,
                                         f"serial1 can't be made in {folder} (there is no such "
                                         f"directory); fix: mkdir -p {folder}")

    def test_no_path_at_all(self):
        self.refused_console("file:", CONFIG_INVALID, "'file:' lacks its path (a file needs a "
                             "place); fix: write \"file:console.log\"")
        self.refused_console("unix:", CONFIG_INVALID, "'unix:' lacks its path (a socket needs a "
                             "place); fix: write \"unix:console.sock\"")

    def test_a_directory_or_a_socket_for_a_file(self):
        self.refused_console(f"file:{self.directory}", CONSOLE_LOST,
                             f"{self.directory} is a directory (a console can't be written to it); "
                             "fix: name a file in it")
        path = self.path("taken.sock")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            self.refused_console(f"file:{path}", CONSOLE_LOST,
                                 f"{path} is a socket (a console can't be written to it); fix: "
                                 "write \"unix:PATH\", or name another path")

    def test_a_directory_where_nobody_may_write(self):
        host, (kernel,), why_not = host_kvm.nobody(self.directory, [SCRIPT_GUEST])
        if host is None:
            self.skipTest(why_not)
        folder = self.path("folder")
        os.mkdir(folder, 0o755)
        for kind, message in (
                ("file", f"can't write to {folder}/x: Permission denied; give this user the right "
                         "to write there, or name another file"),
                ("unix", f"can't listen on {folder}/x: Permission denied; name a path where this "
                         "user may make a socket")):
            with self.subTest(kind=kind):
                config = self.console(f"{kind}:{folder}/x").replace(SCRIPT_GUEST, kernel)
                self.assert_refused(CONSOLE_LOST, f"vmm: serial1: {message}\n", config, host=host)

    def test_a_file_system_that_takes_no_files(self):
        self.lost_console("file:/proc/x", "can't write to /proc/x: No such file or directory; make "
                          "the directory first, or name another file")
        self.lost_console("unix:/proc/x", "can't listen on /proc/x: No such file or directory; "
                          "make the directory first, or name another path")

    def test_the_path_of_a_socket_that_is_too_long(self):
        path = self.path("s" * 107)
        self.refused_console(f"unix:{path}", CONFIG_INVALID,
                             f"the path of the socket has {len(path)} bytes (Linux takes at most "
                             "107); fix: move the socket to a shorter path, for example under /run")

    def test_a_socket_that_another_program_serves(self):
        path = self.path("live.sock")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            self.lost_console(f"unix:{path}", f"can't listen on {path}: another program serves it; "
                              "stop that one or name another path")
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)  # it is still served

    def test_a_file_where_the_socket_should_be_is_kept(self):
        path = self.write("precious", b"data")
        self.refused_console(f"unix:{path}", CONSOLE_LOST, f"{path} is there already and is no "
                             "socket (it would have to be deleted); fix: name another path")
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"data")

    def test_a_socket_that_nobody_serves_any_more_is_replaced(self):
        path = self.path("stale.sock")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
        guest, code = self.run_to_verdict(self.console(f"unix:{path}"))
        self.assertEqual(code, SUCCESS, guest.messages)
        self.assertFalse(os.path.exists(path))

    def test_a_full_disk_is_told_of_and_ends_with_102(self):
        full = "No space left on device"
        guest, code = self.run_to_verdict(self.script("1234.o", '[console]\n'
                                                      'serial1 = "file:/dev/full"\n'))
        self.assertEqual(code, CONSOLE_LOST, guest.messages)
        self.assertEqual(guest.messages, (
            f"vmm: engine: {ENGINES[0]}: as asked for\n"
            f"vmm: serial1: writing to /dev/full failed ({full}); its output is dropped from now "
            "on\n"
            f"vmm: serial1: not all that the guest printed is in /dev/full ({full}); make room "
            "there, or name another place\n"))
        self.assertIn("hello from the guest", guest.stream.data.decode())  # the others go on

    def test_a_guest_that_failed_keeps_its_verdict_on_a_full_disk(self):
        guest, code = self.run_to_verdict(self.script("2x3", '[console]\n'
                                                      'serial1 = "file:/dev/full"\n'))
        self.assertEqual(code, GUEST_FAILURE, guest.messages)

    def test_standard_output_that_is_full(self):
        with open("/dev/full", "wb") as full:
            guest, code = self.run_to_verdict(self.script(), console=None, stdout=full)
        self.assertEqual(code, CONSOLE_LOST, guest.messages)
        self.assertIn("serial0: not all that the guest printed is in standard output (No space "
                      "left on device)", guest.messages)

    def test_standard_output_that_is_closed(self):
        remedy = ("vmm: serial0: standard output is closed or can only be read; redirect it to a "
                  "file or to /dev/null, or use \"null\"\n")
        for redirection in (">&-", "1</dev/null", "<&- >&-"):
            with self.subTest(redirection=redirection):
                shell = Host(before=["sh", "-c", f'exec "$@" {redirection}', "sh"])
                self.assert_refused(CONSOLE_LOST, remedy, self.script(), host=shell)

    def test_standard_input_and_error_that_are_closed_are_no_trouble(self):
        for redirection in ("<&-", "2>&-", "<&- 2>&-"):
            with self.subTest(redirection=redirection):
                shell = Host(before=["sh", "-c", f'exec "$@" {redirection}', "sh"])
                guest, code = self.run_to_verdict(self.script(), host=shell)
                self.assertEqual(code, SUCCESS)
                guest.expect("hello from the guest")


class OnATerminal(BadHostTest):
    """Whatever goes wrong once the terminal is raw, it is given back."""

    def test_it_is_restored(self):
        with open(SCRIPT_GUEST, "rb") as file:
            truncated = self.write("truncated", file.read()[:100])
        for what, code, config, host in (
                ("kernel", CONFIG_INVALID, self.script().replace(SCRIPT_GUEST, truncated), Host()),
                ("console", CONSOLE_LOST, self.console("unix:/proc/x"), Host()),
                ("memory", HOST_MEMORY, self.script(memory="1024G"), Host()),
                ("engine", ENGINE_UNAVAILABLE, self.script().replace(ENGINES[0], "kvm"),
                 host_kvm.fake("missing")),
                ("engine", ENGINE_FAILED, self.script().replace(ENGINES[0], "kvm"),
                 host_kvm.fake("turns-bad"))):
            with self.subTest(what=what):
                guest, ended = self.run_to_verdict(config, console="pty", host=host)
                self.assertEqual(ended, code, guest.messages)
                guest.stop()

    def console(self, spec):
        return self.script(extra=f'[console]\nserial1 = "{spec}"\n')


if __name__ == "__main__":
    unittest.main()
