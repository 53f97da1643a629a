"""VMM memory: PSS less guest RAM, ten seconds after the shell is up."""

import time

from timed_process import TimedProcess

MAX_MIB = {'interpreter': 24.0, 'bt': 48.0}
GUEST_RAM = 'memfd:vmm-ram'
LIMIT_SECONDS = 600


def bench(vmm, guests, engine):
    command = [vmm, 'run', '--accel', engine, '--cpus', '1', '--memory', '512M', '--append', 'console=ttyS0',
               '--kernel', f'{guests}/cloud-vmlinuz', '--initrd', f'{guests}/cloud-initrd']
    with TimedProcess(command) as process:
        process.wait_for(b'guest# ', LIMIT_SECONDS)
        time.sleep(10)
        own, ram = process.memory_kib(GUEST_RAM)
        if ram == 0:
            process.fail(f'no mapping is called {GUEST_RAM}: what is guest RAM?')
    yield f'VMM memory, vmm {engine}', own / 1024, f'MiB (guest RAM {ram / 1024:.0f} MiB)', MAX_MIB.get(engine)
