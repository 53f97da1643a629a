"""Boot of the cloud kernel to init: an engine of vmm against QEMU's TCG, in one run."""

import shutil
from statistics import median

from timed_process import TimedProcess

MARKER = b'vmm-init: up'
APPEND = 'console=ttyS0'
# vmm's time / QEMU TCG's: the translator is three times as fast, the interpreter is not for speed.
MAX_RATIO = {'interpreter': 15.0, 'bt': 1 / 3}
LIMIT_SECONDS = 600
# QEMU by its quickest ways to the same kernel: the PC with its usual and with its smallest firmware,
# and the machine without firmware menus, ACPI and PCI.
QEMU_MACHINES = {
    'pc, SeaBIOS': ['-M', 'pc'],
    'q35, qboot': ['-M', 'q35', '-bios', 'qboot.rom'],
    'microvm': ['-M', 'microvm,acpi=off'],
}


def measure(commands, runs):
    """{name: (median seconds, median CPU seconds)} to the marker, of commands by name. They run in
    turns: a host that changes its speed changes that of all."""
    seconds, cpu = {name: [] for name in commands}, {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            with TimedProcess(command) as process:
                seconds[name].append(process.wait_for(MARKER, LIMIT_SECONDS))
                cpu[name].append(process.cpu_seconds())
    return {name: (median(seconds[name]), median(cpu[name])) for name in commands}


def qemu_command(machine, kernel, initrd, append):
    qemu = shutil.which('qemu-system-x86_64')
    if not qemu:
        raise RuntimeError('qemu-system-x86_64 is missing: run ./ci/deps --bench')
    return [qemu, *QEMU_MACHINES[machine], '-accel', 'tcg', '-cpu', 'max', '-m', '512M', '-smp', '1', '-nographic',
            '-no-reboot', '-kernel', kernel, '-initrd', initrd, '-append', append]


def vmm_command(vmm, engine, kernel, initrd, append):
    return [vmm, 'run', '--accel', engine, '--cpus', '1', '--memory', '512M', '--kernel', kernel, '--initrd', initrd,
            '--append', append]


def bench(vmm, guests, engine, runs):
    """Yields the figures as (name, value, unit, bar or None); the last two are vmm's time and its
    ratio to the quickest of QEMU."""
    guest = (f'{guests}/cloud-vmlinuz', f'{guests}/cloud-initrd', APPEND)
    commands = {f'QEMU TCG, {machine}': qemu_command(machine, *guest) for machine in QEMU_MACHINES}
    vmm_name = f'vmm {engine}'
    commands[vmm_name] = vmm_command(vmm, engine, *guest)
    figures = measure(commands, runs)
    for name, (seconds, cpu) in figures.items():
        yield f'boot to init, {name}', seconds, f's ({cpu:.2f} s of CPU time)', None
    seconds = figures.pop(vmm_name)[0]
    quickest = min(figures.values())[0]
    yield f'vmm {engine} / quickest QEMU TCG', seconds / quickest, 'times', MAX_RATIO.get(engine)
