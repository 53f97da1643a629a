"""Start-up: from exec to the first port write of a Multiboot guest."""

import os
import struct
import tempfile
from statistics import median

from timed_process import TimedProcess

MAX_INTERPRETER_MS = 20.0
MAX_PROBE_MS = 30.0  # what "auto" may take more, until it has decided
RUNS = 20
ENGINE_UNAVAILABLE = 103  # docs/exit-codes.md
LOAD_ADDRESS = 0x100000

# mov dx, 0x3F8; mov al, '!'; out dx, al; stop: cli; hlt; jmp stop
CODE = bytes.fromhex('66baf803' 'b021' 'ee' 'fa' 'f4' 'ebfc')


def multiboot_guest():
    """An ELF of one segment: a Multiboot header ([MULTIBOOT] 3.1.1), then CODE."""
    magic, flags = 0x1BADB002, 0
    payload = struct.pack('<III', magic, flags, -(magic + flags) & 0xFFFFFFFF) + CODE
    entry, offset = LOAD_ADDRESS + 12, 0x1000
    header = struct.pack('<4sBBBB8xHHIIIIIHHHHHH', b'\x7fELF', 1, 1, 1, 0, 2, 3, 1, entry, 52, 0, 0,
                         52, 32, 1, 0, 0, 0)
    segment = struct.pack('<IIIIIIII', 1, offset, LOAD_ADDRESS, LOAD_ADDRESS, len(payload),
                          len(payload), 5, 0x1000)
    return (header + segment).ljust(offset, b'\0') + payload


def measure(vmm, kernel, engine):
    """Median of RUNS in milliseconds."""
    times = []
    for _ in range(RUNS):
        with TimedProcess([vmm, 'run', '--accel', engine, '--memory', '64M', '--kernel', kernel]) as process:
            times.append(process.wait_for(b'!', 30) * 1000)
    return median(times)


def write_guest(place):
    kernel = os.path.join(place, 'guest.elf')
    with open(kernel, 'wb') as file:
        file.write(multiboot_guest())
    return kernel


def has_engine(vmm, engine):
    """Does this build of vmm run a guest on that engine?"""
    with tempfile.TemporaryDirectory() as place:
        command = [vmm, 'run', '--accel', engine, '--memory', '64M', '--kernel', write_guest(place)]
        with TimedProcess(command) as process:
            try:
                process.wait_for(b'!', 30)
                return True
            except RuntimeError:
                if process.process.wait(30) == ENGINE_UNAVAILABLE:
                    return False
                raise


def bench(vmm):
    with tempfile.TemporaryDirectory() as place:
        kernel = write_guest(place)
        plain = measure(vmm, kernel, 'interpreter')
        yield 'exec to first port write, vmm interpreter', plain, 'ms', MAX_INTERPRETER_MS
        auto = measure(vmm, kernel, 'auto')
        yield 'exec to first port write, vmm auto', auto, 'ms', None
        yield 'what the probe of auto adds', max(auto - plain, 0), 'ms', MAX_PROBE_MS
