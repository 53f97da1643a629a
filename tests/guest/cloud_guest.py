"""A test of guests with Debian's cloud kernel and the shell of its initramfs (ci/guests)."""

import re

from vmm_guest import *

# How long a boot may take, by engine; the limits are for slow and busy CI machines.
BOOT_SECONDS = {"interpreter": 400, "bt": 200, "kvm": 120}
COLUMNS = 80  # of the guest's terminal
PROMPT = "guest# "


class CloudTest(GuestTest):
    def boot_cloud(self, config, engine=ENGINES[0], cpus=1, append="", kernel="cloud", **keywords):
        """`config`: more lines of vm.toml."""
        self.limit = BOOT_SECONDS[engine]
        return self.start(f'kernel = "{guest_file(kernel + "-vmlinuz")}"\n'
                          f'initrd = "{guest_file(kernel + "-initrd")}"\n'
                          f'append = "console=ttyS0 {append}"\n'
                          f'cpus = {cpus}\nmemory = "256M"\naccel = "{engine}"\n{config}', **keywords)

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

    def lease(self, guest):
        """The network card up, with an address by DHCP."""
        self.await_shell(guest)
        self.run_command(guest, "ip link set lo up; ip link set eth0 up; echo is-$?", r"\nis-0\r")
        self.run_command(guest, "udhcpc -n -q -t 20 -i eth0 2>&1",
                         r"lease of 10\.0\.2\.15 obtained")

    def power_off(self, guest):
        guest.send("poweroff -f\r")
        self.assert_ends(guest, SUCCESS, 60)
