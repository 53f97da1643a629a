"""Runs a program under a seccomp filter that denies what containers usually deny.

    python3 container_filter.py PROGRAM ARGUMENT...

EPERM for io_uring, userfaultfd, mounts, new namespaces, bpf, keys, modules, perf, reboot and the
like; ENOSYS for clone3, whose flags a filter can't read, so that clone is used instead.
"""

import ctypes
import errno
import os
import struct
import sys

# Numbers of arch/x86/entry/syscalls/syscall_64.tbl.
DENIED = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "userfaultfd": 323,
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "bpf": 321, "add_key": 248, "request_key": 249, "keyctl": 250, "perf_event_open": 298,
    "init_module": 175, "finit_module": 313, "delete_module": 176, "kexec_load": 246,
    "reboot": 169, "swapon": 167, "swapoff": 168, "acct": 163, "iopl": 172, "ioperm": 173,
    "open_by_handle_at": 304, "settimeofday": 164, "clock_settime": 227, "quotactl": 179,
}
CLONE, CLONE3 = 56, 435
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET of linux/sched.h
NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
AUDIT_ARCH_X86_64 = 0xC000003E
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
LOAD, EQUAL, SET, RETURN = 0x20, 0x15, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, JSET|K, BPF_RET|K
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000


def program():
    code = []

    def add(operation, value, if_true=0, if_false=0):
        code.append(struct.pack("<HBBI", operation, if_true, if_false, value))

    add(LOAD, ARCHITECTURE)
    add(EQUAL, AUDIT_ARCH_X86_64, 1, 0)
    add(RETURN, KILL)
    add(LOAD, NUMBER)
    for number in DENIED.values():
        add(EQUAL, number, 0, 1)
        add(RETURN, ERRNO | errno.EPERM)
    add(EQUAL, CLONE3, 0, 1)
    add(RETURN, ERRNO | errno.ENOSYS)
    add(EQUAL, CLONE, 0, 3)
    add(LOAD, FIRST_ARGUMENT)
    add(SET, NEW_NAMESPACES, 0, 1)
    add(RETURN, ERRNO | errno.EPERM)
    add(RETURN, ALLOW)
    return code


def apply():
    code = program()
    text = ctypes.create_string_buffer(b"".join(code))
    # struct sock_fprog: a count, padding, a pointer.
    filter_program = ctypes.create_string_buffer(
        struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(text)))
    libc = ctypes.CDLL(None, use_errno=True)
    pr_set_no_new_privs, pr_set_seccomp, mode_filter = 38, 22, 2
    for arguments in ((pr_set_no_new_privs, 1, 0, 0, 0),
                      (pr_set_seccomp, mode_filter, ctypes.addressof(filter_program), 0, 0)):
        if libc.prctl(*(ctypes.c_ulong(a) for a in arguments)) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    apply()
    os.execvp(sys.argv[1], sys.argv[1:])
