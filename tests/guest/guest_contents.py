"""What is in the initramfs of a prepared Linux guest, put into files that `vmm test` takes."""

import gzip
import os
import stat

from vmm_guest import guest_file


def unpack_newc(data):
    """{name: (mode, content)} of an archive in cpio's newc form."""
    files, at = {}, 0
    while data[at:at + 6] == b"070701":
        fields = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110:at + 110 + name_size - 1].decode()
        at = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            break
        files[name.removeprefix("./")] = (mode, data[at:at + size])
        at = (at + size + 3) & ~3
    return files


_unpacked = {}


def guest_files(name="cloud"):
    if name not in _unpacked:
        with gzip.open(guest_file(f"{name}-initrd"), "rb") as file:
            _unpacked[name] = unpack_newc(file.read())
    return _unpacked[name]


def write_busybox(directory):
    path = os.path.join(directory, "busybox")
    with open(path, "wb") as file:
        file.write(guest_files()["bin/busybox"][1])
    os.chmod(path, 0o755)
    return path


def write_modules(directory):
    """A folder of all modules of the cloud guest; returns it."""
    folder = os.path.join(directory, "modules")
    os.makedirs(folder)
    for name, (mode, content) in guest_files().items():
        if stat.S_ISREG(mode) and name.endswith(".ko"):
            with open(os.path.join(folder, os.path.basename(name)), "wb") as file:
                file.write(content)
    return folder


def write_modules_dep(folder):
    """What depmod would write: each module with all that it depends on, as its .modinfo tells."""
    depends = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            info = file.read()
        at = info.find(b"\0depends=") + 9
        depends[name[:-3].replace("-", "_")] = (name, info[at:info.index(b"\0", at)].decode().split(","))
    with open(os.path.join(folder, "modules.dep"), "w", encoding="utf-8") as file:
        for name, others in depends.values():
            known = [depends[other][0] for other in others if other in depends]
            file.write(f"{name}: {' '.join(known)}\n")
