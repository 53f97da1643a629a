"""vmm as an ordinary user without any capability, also where the tests run as root."""

import os
import shutil
import subprocess
import unittest

from vmm_guest import VMM, Host

NOBODY = 65534
SETPRIV = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
           "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")


def plain_user(directory):
    """The host as such a user finds it. As root, the program moves to `directory`, which becomes
    that user's: the tree of the build may be out of his reach."""
    if os.getuid() != 0:
        return Host()
    if subprocess.run([*SETPRIV, "true"], capture_output=True, check=False).returncode != 0:
        raise unittest.SkipTest("root can't become another user here")
    programs = os.path.join(directory, "bin")
    os.mkdir(programs)
    for name in ("vmm", "vmm-nat"):
        shutil.copy(os.path.join(os.path.dirname(VMM), name), programs)
    os.chown(directory, NOBODY, NOBODY)
    return Host(program=os.path.join(programs, "vmm"), before=SETPRIV)


def give(path):
    """The file belongs to that user from now on."""
    if os.getuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def rights(pid):
    """(user, capabilities as a number) of a process."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        fields = dict(line.split(":", 1) for line in file)
    return (int(fields["Uid"].split()[0]), int(fields["CapPrm"], 16) | int(fields["CapEff"], 16))
