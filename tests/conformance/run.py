#!/usr/bin/env python3
"""Runs one conformance guest on one engine: run.py --vmm build/vmm --engine kvm GUEST

Exit status as Meson wants it: 0 passed, 77 skipped with the reason printed, else failed. The same
body for every engine; only what the host's KVM is known to lack (by `vmm probe`) excuses a failure,
and only one of the engine itself. --engine tcg runs the guest on QEMU's translator instead, to
check the guest. --host-cpu runs the program itself on an older processor, by QEMU's user-mode
emulator, which dies of an instruction that this one has not.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys

SKIP = 77
USER_EMULATOR = "qemu-x86_64"  # Debian package qemu-user
GUEST_FAILURE, TRIPLE_FAULT, ENGINE_FAILED, ENGINE_UNAVAILABLE = 80, 82, 100, 103  # docs/exit-codes.md


def run(command, limit):
    """(exit status or None at the time limit, output)"""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=limit)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        status = None
    return status, output.decode(errors="replace").replace("\r", "")


def skip(reason):
    print("skipped:", reason)
    sys.exit(SKIP)


def kvm_weakness(vmm):
    """Why failures of this host's KVM are its own fault; None for a KVM without a fault."""
    probe = subprocess.run([vmm, "probe", "--json"], capture_output=True, timeout=30, check=False)
    result = json.loads(probe.stdout)
    if not result["kvm"]["present"]:
        skip(result["reason"])
    return None if result["engine"] == "kvm" else result["reason"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vmm", default="build/vmm")
    parser.add_argument("--engine", default="interpreter")
    parser.add_argument("--cpus", default="1")
    parser.add_argument("--limit", type=float, default=60, help="seconds")
    parser.add_argument("--cpu", default="host")
    parser.add_argument("--expect", default="", help="text that must be in the output")
    parser.add_argument("--host-cpu", help="run the program on this processor, by QEMU's name")
    parser.add_argument("guest")
    args = parser.parse_args()

    weakness = None
    limit = args.limit
    if args.engine == "kvm":
        weakness = kvm_weakness(args.vmm)
        if weakness:
            limit = min(limit, 10)
    if args.engine == "tcg":
        command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "32M", "-net", "none",
                   "-smp", args.cpus, "-kernel", args.guest, "-display", "none", "-no-reboot",
                   "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
    else:
        command = [args.vmm, "run", "--kernel", args.guest, "--accel", args.engine,
                   "--memory", "32M", "--cpus", args.cpus, "--cpu", args.cpu]
    if args.host_cpu:
        if not shutil.which(USER_EMULATOR):
            skip(f"{USER_EMULATOR} is missing (Debian package qemu-user)")
        command = [USER_EMULATOR, "-cpu", args.host_cpu, *command]
    if args.engine == "bt":
        os.environ["VMM_VERIFY_CODE"] = "1"
    status, output = run(command, limit)
    print(output)
    # QEMU's device ends with (value << 1) | 1.
    passed = status == (1 if args.engine == "tcg" else 0) and "PASS\n" in output
    if passed and "FAIL" not in output and args.expect in output:
        return 0
    if status == ENGINE_UNAVAILABLE and args.cpu != "host" and "has no" in output:
        skip(output.strip())
    if status == ENGINE_UNAVAILABLE:
        skip(f"the engine {args.engine} is not available here")
    if weakness and status is None:
        skip(f"still at work after {limit:.0f} s; {weakness}")
    if weakness and status == ENGINE_FAILED:
        skip(weakness)
    if weakness and status == GUEST_FAILURE:
        first = next((line for line in output.splitlines() if line.startswith("FAIL")), "no word")
        skip(f"this KVM answers otherwise than a processor ({first}); {weakness}")
    if weakness and status == TRIPLE_FAULT:
        # A guest says what comes next where its KVM is known to end it so.
        last = [line for line in output.splitlines() if line.startswith("next: ")][-1:]
        skip(f"this KVM answers otherwise than a processor (triple fault{' at ' if last else ''}"
             f"{''.join(last)[6:]}); {weakness}")
    print("failed:", f"no end within {limit:.0f} s" if status is None else f"exit status {status}")
    return 1


sys.exit(main())
