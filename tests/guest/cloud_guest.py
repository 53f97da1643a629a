"""A test of guests with Debian's cloud kernel and the shell of its initramfs (ci/guests)."""

import re

from guest_contents import write_modules
from vmm_guest import *

# How long a boot may take, by engine; the limits are for slow and busy CI machines.
BOOT_SECONDS = {"interpreter": 400, "bt": 200, "kvm": 120}
COLUMNS = 80  # of the guest's terminal
PROMPT = "guest# "
# The network card with an address by DHCP.
LEASE = """
    ip link set lo up; ip link set eth0 up
    udhcpc -n -q -t 20 -i eth0 2>&1 | grep 'lease of 10.0.2.15 obtained'"""
# What a kernel's log must not have.
COMPLAINTS = "BUG:|call trace|soft lockup|rcu.*stall|I/O error|virtiofs.*error|bad csum|hw csum"


def cloud_config(config, engine, cpus=1, append="", kernel="cloud"):
    """A vm.toml; `config`: more lines of it."""
    return (f'kernel = "{guest_file(kernel + "-vmlinuz")}"\ninitrd = "{guest_file(kernel + "-initrd")}"\n'
            f'append = "console=ttyS0 {append}"\ncpus = {cpus}\nmemory = "256M"\naccel = "{engine}"\n{config}')


class CloudTest(GuestTest):
    """Two ways: `run_in_guest` for what a script can do and judge alone; `boot_cloud` and the shell on the
    console for who must do something outside meanwhile: suspend, reset, kill, look at a message."""

    def start_in_guest(self, script, config="", engine=ENGINES[0], limit=300, modules=True, host=Host(), **keywords):
        """A script by `vmm test`, with the modules that the devices in `config` want. The guest's stream is what it
        writes to stdout. It fails at the first command that fails, and at the end if the kernel complained.
        `limit`: seconds that it may take behind the boot."""
        arguments = ["--timeout", f"{BOOT_SECONDS[engine] + limit}s"]
        if config and modules:
            arguments += ["--modules", self.modules()]
        script = f"set -e -o pipefail\n{script}\n! dmesg | grep -iE '{COMPLAINTS}' >&2\n"
        return self.start(cloud_config(config, engine, **keywords), verb="test", stdin=subprocess.DEVNULL, host=host,
                          arguments=[*arguments, "--", "sh", "-c", script])

    def run_in_guest(self, script, config="", engine=ENGINES[0], **keywords):
        """What the script wrote to stdout, as bytes; it has to end with 0."""
        return self.finish(self.start_in_guest(script, config, engine, **keywords))

    def finish(self, guest):
        self.assert_ends(guest, SUCCESS, 1200)  # it has a limit of its own
        guest.stream.wait_end(10)
        guest.stop()
        return guest.stream.data

    def modules(self):
        folder = os.path.join(self.directory, "modules")
        return folder if os.path.exists(folder) else write_modules(self.directory)

    def boot_cloud(self, config, engine=ENGINES[0], cpus=1, append="", kernel="cloud", **keywords):
        """`config`: more lines of vm.toml."""
        self.limit = BOOT_SECONDS[engine]
        return self.start(cloud_config(config, engine, cpus, append, kernel), **keywords)

    def await_shell(self, guest):
        guest.expect("vmm-init: up", self.limit)
        guest.expect(PROMPT, self.limit)

    def run_command(self, guest, command, answer="", timeout=120):
        """Types a command, waits for what matches `answer` and for the next prompt; the match."""
        self.assertLess(len(PROMPT + command), COLUMNS, "a longer line is shown with breaks")
        guest.send(command + "\r")
        guest.expect(re.escape(command))
        match = guest.expect(answer, timeout)
        guest.expect(PROMPT, timeout)
        return match

    def start_job(self, guest, command):
        """Types a command that runs while others are typed. The shell does not hear of its end: the signal would
        interrupt the shell's write of a typed character if it came then, and busybox forgets that character and
        reports the failure as that of the command."""
        guest.send(f"({{ {command}; }} &)\r")
        guest.expect(PROMPT, 120)

    def assert_no_complaints(self, guest, complaints):
        """Nothing in the kernel's log; else what follows there, too."""
        found = self.run_command(guest, f"dmesg | grep -iE -A40 '{complaints}'; echo \"en\"d", r"(?s)(.*?)end\r").group(1)
        self.assertEqual(found.strip(), b"", found.decode(errors="replace"))

    def type_script(self, guest, script):
        """Types a script line by line; what stood on the console meanwhile, as bytes."""
        before = len(guest.stream.data)
        for line in script.strip().splitlines():
            self.run_command(guest, line.strip())
        return guest.stream.data[before:].replace(b"\r\n", b"\n")

    def lease(self, guest):
        """The network card up, with an address by DHCP."""
        self.await_shell(guest)
        self.run_command(guest, "ip link set lo up; ip link set eth0 up; echo is-$?", r"\nis-0\r")
        self.run_command(guest, "udhcpc -n -q -t 20 -i eth0 2>&1",
                         r"lease of 10\.0\.2\.15 obtained")

    def power_off(self, guest):
        guest.send("poweroff -f\r")
        self.assert_ends(guest, SUCCESS, 60)
