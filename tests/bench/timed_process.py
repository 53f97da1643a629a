"""A program under measurement: when its console shows a text, what it costs, how big it is."""

import glob
import os
import re
import select
import subprocess
import time


class TimedProcess:
    """Starts a program with a pipe at stdin and stdout; times count from just before exec."""

    def __init__(self, command):
        self.command = command
        self.start = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.pipes = [self.process.stdout, self.process.stderr]
        self.console = b''
        self.messages = b''
        self.cpu = {}  # seconds by PID
        self.arrival = self.start  # of what stands last in console

    def wait_for(self, text, limit):
        """Seconds from the start until the console has shown text; RuntimeError if it never does."""
        while text not in self.console:
            self.receive(self.start + limit, repr(text))
        return time.monotonic() - self.start

    def lines(self, limit):
        """(seconds from the start, line) of the console as they come; RuntimeError if none comes within
        limit seconds, or the program ends."""
        read = 0
        while True:
            end = self.console.find(b'\n', read)
            if end < 0:
                self.receive(time.monotonic() + limit, 'next line')
                continue
            yield self.arrival - self.start, self.console[read:end].decode(errors='replace')
            read = end + 1

    def receive(self, deadline, awaited):
        """Waits for output of the program and keeps it; RuntimeError if its console brings none more."""
        ready, _, _ = select.select(self.pipes, [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            self.fail(f'no {awaited} in time')
        for pipe in ready:
            data = os.read(pipe.fileno(), 65536)
            if not data:
                self.pipes.remove(pipe)
            elif pipe is self.process.stdout:
                self.arrival = time.monotonic()
                self.console += data
            else:
                self.messages += data
        if self.process.stdout not in self.pipes:
            self.fail(f'ended without {awaited}')

    def fail(self, why):
        tail = (self.console[-600:] + b'\n' + self.messages[-600:]).decode(errors='replace')
        raise RuntimeError(f'{" ".join(self.command)}: {why}\n{tail}')

    def processes(self):
        """Its PID, and those of the processes that it has started."""
        pids = [self.process.pid]
        for pid in pids:
            for thread in glob.glob(f'/proc/{pid}/task/*/children'):
                try:
                    with open(thread, encoding='ascii') as file:
                        pids += map(int, file.read().split())
                except OSError:  # the thread has ended
                    pass
        return pids

    def cpu_seconds(self):
        """What all threads of its processes have used, by the processes' CPU clocks
        (clock_getcpuclockid(3))."""
        for pid in self.processes():
            try:
                self.cpu[pid] = time.clock_gettime(~pid << 3 | 2)
            except OSError:  # it has ended
                pass
        return sum(self.cpu.values())

    def memory_kib(self, guest_ram):
        """(PSS without the guest's RAM, PSS of the guest's RAM) of all its processes, the latter being
        the mappings of files whose name contains guest_ram."""
        own = ram = 0
        is_ram = False
        for pid in self.processes():
            with open(f'/proc/{pid}/smaps', encoding='utf-8') as file:
                for line in file:
                    if re.match(r'[0-9a-f]+-[0-9a-f]+ ', line):
                        is_ram = guest_ram in line
                    elif line.startswith('Pss:'):
                        if is_ram:
                            ram += int(line.split()[1])
                        else:
                            own += int(line.split()[1])
        return own, ram

    def stop(self):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
