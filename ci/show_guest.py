#!/usr/bin/env python3
"""Boots a guest for the reader to watch: waits for its shell, types a few commands, powers it off.

    ci/show_guest.py VMM ARGUMENT...

Ends with 0 if the guest answered and powered off, with 1 otherwise. Reads nothing from stdin.
"""

import os
import re
import select
import subprocess
import sys
import time

PROMPT = b'guest# '
COMMANDS = ('uname -srm', 'nproc', 'echo $((6 * 7))', 'poweroff')
LIMIT_SECONDS = 300  # to the next sign of life, on a slow host without KVM
# What a shell asks of a terminal (the place of the cursor) is nothing for a reader of a log.
CURSOR_QUERY = re.compile(rb'\x1b\[6n')
PART_OF_QUERY = re.compile(rb'\x1b(\[6?)?$')


class Guest:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.unread = b''
        self.unshown = b''

    def show(self):
        """Shows what comes next; False at the end, or when nothing comes."""
        ready, _, _ = select.select([self.process.stdout], [], [], LIMIT_SECONDS)
        data = os.read(self.process.stdout.fileno(), 65536) if ready else b''
        self.unread += data
        self.unshown = CURSOR_QUERY.sub(b'', self.unshown + data)
        if not data or not PART_OF_QUERY.search(self.unshown):
            sys.stdout.buffer.write(self.unshown)
            sys.stdout.flush()
            self.unshown = b''
        return bool(data)

    def wait_for(self, text):
        while text not in self.unread:
            if not self.show():
                return False
        self.unread = self.unread.split(text, 1)[1]
        return True

    def type_line(self, line):
        try:
            self.process.stdin.write(line.encode() + b'\n')
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; the exit status says why


def run(command):
    guest = Guest(command)
    start = time.monotonic()
    try:
        for line in COMMANDS:
            if not guest.wait_for(PROMPT):
                break
            if line == COMMANDS[0]:
                ready = time.monotonic() - start
            guest.type_line(line)
            if '6 * 7' in line and not guest.wait_for(b'\n42'):
                break
        else:
            while guest.show():
                pass
            status = guest.process.wait(LIMIT_SECONDS)
            print(f'\n== the shell was there after {ready:.1f} s; vmm ended with {status}')
            return 0 if status == 0 else 1
    finally:
        if guest.process.poll() is None:
            guest.process.terminate()
            try:
                guest.process.wait(40)
            except subprocess.TimeoutExpired:
                guest.process.kill()
    print(f'\n== the guest did not answer; vmm ended with {guest.process.poll()}')
    return 1


if __name__ == '__main__':
    sys.exit(run(sys.argv[1:]))
