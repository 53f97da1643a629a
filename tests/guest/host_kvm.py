"""Puts vmm on a host with another KVM than this one's: by a fake inside the program (vmm_fakekvm),
or by a /dev of its own in a mount namespace, which needs root.

Each `Host` is what Guest(host=...) takes: a command in front, the program, its environment.
"""

import grp
import json
import os
import pwd
import shutil
import subprocess

from vmm_guest import ROOT, VMM, Host

FAKE = os.environ.get("VMM_FAKEKVM", os.path.join(ROOT, "build", "tests", "guest", "vmm_fakekvm"))

# $1: an empty folder; $2: what /dev/kvm shall be, or nothing. The rest is the command.
OWN_DEV = r"""
set -e
dev=$1 kvm=$2
shift 2
mount -t tmpfs -o mode=755 none "$dev"
for node in null zero full random urandom tty ptmx; do
  [ -e /dev/$node ] || continue
  : > "$dev/$node"
  mount --bind /dev/$node "$dev/$node"
done
mkdir "$dev/pts" "$dev/shm"
mount --bind /dev/pts "$dev/pts"
mount --bind /dev/shm "$dev/shm"
ln -s /proc/self/fd "$dev/fd"
if [ -n "$kvm" ]; then
  : > "$dev/kvm"
  mount --bind "$kvm" "$dev/kvm"
fi
mount --rbind "$dev" /dev
exec "$@"
"""


def fake(*conditions):
    """A host whose KVM has the conditions of vmm_fakekvm.cc."""
    return Host(program=FAKE, environment={"VMM_FAKE_KVM": ",".join(conditions)})


def real():
    return Host()


def _works(command):
    try:
        return subprocess.run(command + ["true"], stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=30, check=False).returncode == 0
    except OSError:
        return False


def _own_dev(directory, stand_in=""):
    dev = os.path.join(directory, "dev")
    os.makedirs(dev, exist_ok=True)
    return ["unshare", "-m", "sh", "-c", OWN_DEV, "sh", dev, stand_in]


def without_device(directory):
    """(host, None), or (None, why not): no /dev/kvm at all."""
    if not os.path.exists("/dev/kvm"):
        return real(), None
    command = _own_dev(directory)
    if _works(command):
        return Host(before=command), None
    return None, "/dev/kvm is there and can't be hidden (unshare -m needs root)"


def nobody(directory, files, before=()):
    """(host, paths, None), or (None, None, why not): vmm as user nobody, behind the command `before`
    of root. `paths` are copies of `files` in `directory` that he can read."""
    try:
        user = pwd.getpwnam("nobody")
    except KeyError:
        return None, [None] * len(files), "this host has no user nobody"
    command = [*before, "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}",
               "--clear-groups", "--"]
    if not _works(command):
        return None, [None] * len(files), "becoming another user does not work here: it needs root"
    os.chmod(directory, 0o777)  # --result is written there
    copies = []
    for file in [VMM, *files]:
        copy = os.path.join(directory, "copy-" + os.path.basename(file))
        shutil.copyfile(file, copy)
        os.chmod(copy, 0o755)
        copies.append(copy)
    return Host(program=copies[0], before=command), copies[1:], None


def ordinary_user(directory, files):
    """Like nobody(), and /dev/kvm may only be opened by a group that he is not in."""
    stand_in = os.path.join(directory, "kvm")
    with open(stand_in, "wb"):
        pass
    os.chmod(stand_in, 0o660)
    group = next((group for group in ("kvm", "disk", "daemon") if _has_group(group)), "")
    try:
        os.chown(stand_in, 0, grp.getgrnam(group).gr_gid)
    except (KeyError, PermissionError):
        return None, [None] * len(files), "no group here that a device can be given to"
    host, copies, why_not = nobody(directory, files, _own_dev(directory, stand_in))
    return host and host._replace(group=group), copies, why_not


def forbidden_text(host, start):
    """All that vmm says as the user of ordinary_user()."""
    return (f"vmm: {start}: no access to /dev/kvm: nobody is not in group {host.group} (to change "
            f"that: sudo usermod -aG {host.group} nobody, then log in again)\n")


def _has_group(name):
    try:
        grp.getgrnam(name)
        return True
    except KeyError:
        return False


def probe(host):
    """What `vmm probe --json` says there."""
    output = subprocess.run([*host.before, host.program, "probe", "--json"], check=True, timeout=60,
                            env={**os.environ, **host.environment}, stdout=subprocess.PIPE).stdout
    return json.loads(output)
