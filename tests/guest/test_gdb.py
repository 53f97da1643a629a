#!/usr/bin/env python3
"""Debugs a small guest with the system's GDB, by every means.

Environment as in vmm_guest.py, and VMM_GDB_GUEST (gdb_guest.asm, built).
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

from vmm_guest import ROOT, VMM

GDB = shutil.which('gdb')
GUEST = os.environ.get('VMM_GDB_GUEST', os.path.join(ROOT, 'build', 'tests', 'guest', 'gdb_guest.elf'))
COMMAND_SECONDS = 120


def symbols(path):
    """{name: address} of an ELF file."""
    lines = subprocess.run(['nm', path], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return {line.split()[2]: int(line.split()[0], 16) for line in lines if len(line.split()) == 3}


@unittest.skipUnless(GDB, 'gdb is not installed')
class GdbTest(unittest.TestCase):
    engine = 'interpreter'

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='vmm-gdb-')
        self.addCleanup(folder.cleanup)
        self.socket = os.path.join(folder.name, 'gdb.sock')
        self.at = symbols(GUEST)

    def start(self, *arguments, kernel=GUEST, wait=True):
        command = [VMM, 'run', '--kernel', kernel, '--memory', '64M', '--accel', self.engine,
                   '--gdb', f'unix:{self.socket}', '--stop-timeout', '0s', *arguments]
        self.vmm = subprocess.Popen(command + (['--gdb-wait'] if wait else []), stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(self.vmm.stdout.close)
        self.addCleanup(self.vmm.wait)
        self.addCleanup(self.vmm.kill)
        end = time.monotonic() + 30
        while not os.path.exists(self.socket):
            self.assertIsNone(self.vmm.poll(), 'vmm ended')
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def gdb(self, *commands):
        """What GDB prints for each of the commands, once it is connected."""
        arguments = [GDB, '-nx', '-q', '-batch', '-ex', 'set confirm off', '-ex', 'set pagination off',
                     '-ex', 'set remotetimeout 60', '-ex', f'target remote {self.socket}']
        for number, command in enumerate(commands):
            arguments += ['-ex', f'echo \\n<{number}>\\n', '-ex', command]
        arguments += ['-ex', 'echo \\n<end>\\n']
        process = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, errors='replace', timeout=COMMAND_SECONDS)
        self.output = process.stdout
        texts = re.split(r'^<(?:\d+|end)>\n', process.stdout, flags=re.M)[1:]
        self.assertGreaterEqual(len(texts), len(commands), process.stdout)
        return texts[:len(commands)]

    def assert_exit(self, code):
        self.vmm.wait(timeout=60)
        self.assertEqual(self.vmm.returncode, code, self.vmm.stdout.read())

    def address(self, name):
        return f'*{self.at[name]:#x}'

    def value(self, text):
        match = re.search(r'= (-?(?:0x)?[0-9a-f]+)', text)
        self.assertTrue(match, text)
        return int(match.group(1), 0)


class TestSmallGuest(GdbTest):
    def test_the_first_instruction_waits_and_is_stepped(self):
        self.start()
        pc, step, stack, flags = self.gdb('p/x $pc', 'stepi', 'p/x $esp', 'info registers cr0 eflags cs')
        self.assertEqual(self.value(pc), self.at['_start'])
        self.assertEqual(self.value(stack), self.at['stack_end'])
        self.assertRegex(flags, r'cr0 .*\[ PE')

    def test_a_breakpoint_stops_each_time_and_leaves_no_trace(self):
        self.start()
        bump = self.address('bump')
        texts = self.gdb(f'break {bump}', 'continue', 'p/x $pc', f'x/bx {self.at["bump"]:#x}',
                         f'p *(int*){self.at["counter"]:#x}', 'continue', f'p *(int*){self.at["counter"]:#x}',
                         'delete', f'tbreak {self.address("start_cpu1")}', 'continue',
                         f'p *(int*){self.at["counter"]:#x}')
        self.assertIn('Breakpoint 1', texts[1])
        self.assertEqual(self.value(texts[2]), self.at['bump'])
        self.assertIn('0xff', texts[3])  # INC, not INT3
        self.assertEqual([self.value(texts[n]) for n in (4, 6, 10)], [0x1000, 0x1001, 0x1003])

    def test_watchpoints_tell_writes_and_reads_apart(self):
        self.start('--cpus', '2', '--gdb-arch', 'x86-64')
        watched = f'*(long*){self.at["counter64"]:#x}'
        texts = self.gdb(f'hbreak {self.address("loop64")}', 'continue', 'delete', f'watch {watched}', 'continue',
                         'p/x $rip', 'delete', f'rwatch {watched}', 'continue', 'p/x $rip', 'delete',
                         f'awatch *(long*){self.at["sum"]:#x}', 'continue', 'p/x $rip')
        self.assertRegex(texts[4], r'Old value = 4294967296\s+New value = 4294967297')
        self.assertEqual(self.value(texts[5]), self.at['loop64'] + 7)
        if self.engine == 'interpreter':
            self.assertIn('read watchpoint', texts[8])
            self.assertEqual(self.value(texts[9]), self.at['work64'] + 7)
        self.assertIn('Value', texts[12].replace('Old value', 'Value'))
        self.assertEqual(self.value(texts[13]), self.at['work64'] + 14)

    def test_64_bit_registers_vectors_and_control_registers(self):
        self.start('--cpus', '2', '--gdb-arch', 'x86-64')
        texts = self.gdb(f'hbreak {self.address("loop64")}', 'continue', 'p/x $efer', 'p/x $cr3', 'p $cr4',
                         'p $xmm1.v4_float', 'p $st0', 'p/x $ftag', 'set $r9 = 0x1122334455667788', 'stepi',
                         'p/x $r9', 'set $cr0 = 0', 'p/x $cr0', 'monitor info registers')
        self.assertEqual(self.value(texts[2]), 0x500)
        self.assertEqual(self.value(texts[3]), self.at['pml4'])
        self.assertIn('PAE', texts[4])
        self.assertIn('{1.5, 2.5, -3, 4}', texts[5])
        self.assertIn('3.14159265358979', texts[6])
        self.assertEqual(self.value(texts[7]), 0x3fff)
        self.assertEqual(self.value(texts[10]), 0x1122334455667788)
        self.assertRegex(self.output, r'Could not write register|E01')  # the mode is not the debugger's to choose
        self.assertRegex(texts[13], r'r9 +1122334455667788')

    def test_two_processors_are_two_threads(self):
        self.start('--cpus', '2', '--gdb-arch', 'x86-64')
        count = '*(unsigned short*)0x8f00'
        texts = self.gdb(f'hbreak {self.address("loop64")}', 'continue', 'delete', 'info threads', 'thread 2',
                         'p/x $cs_base', 'set scheduler-locking on', f'p *(long*){self.at["counter64"]:#x}',
                         f'p {count}', 'stepi', 'stepi', 'stepi', 'stepi', f'p {count}',
                         f'p *(long*){self.at["counter64"]:#x}', 'set scheduler-locking off', 'thread 1',
                         f'tbreak {self.address("work64")}', 'continue', f'p *(long*){self.at["counter64"]:#x}')
        self.assertRegex(texts[3], r'Thread 1 \(CPU 0 \[running\]\)')
        self.assertRegex(texts[3], r'Thread 2 \(CPU 1 \[running\]\)')
        self.assertEqual(self.value(texts[5]), 0x8000)
        self.assertEqual((self.value(texts[13]) - self.value(texts[8])) % 65536, 2)
        self.assertEqual(self.value(texts[14]), self.value(texts[7]))
        self.assertEqual(self.value(texts[19]), self.value(texts[7]) + 1)

    def test_real_mode_breakpoints_are_linear(self):
        self.start('--cpus', '2', '--gdb-arch', 'x86-64')
        texts = self.gdb(f'hbreak {self.address("loop64")}', 'continue', 'delete', 'hbreak *0x8004', 'continue',
                         'thread', 'p/x $cs_base + $rip', 'continue', 'p/x $cs_base + $rip')
        self.assertIn('SIGTRAP', texts[4])
        self.assertIn('Thread 2', texts[5])
        self.assertEqual(self.value(texts[6]), 0x8004)
        self.assertEqual(self.value(texts[8]), 0x8004)

    def test_ctrl_c_stops_and_memory_written_changes_the_guest(self):
        self.start('--cpus', '2', '--gdb-arch', 'x86-64', wait=False)
        stop = 'python import threading, os, signal; ' \
               'threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()'
        counter = f'*(long*){self.at["counter64"]:#x}'
        texts = self.gdb(f'p {counter}', stop, 'continue', f'p {counter}', f'p {counter}',
                         f'set var *(char*){self.at["stop"]:#x} = 1', 'continue')
        self.assertIn('SIGINT', texts[2])
        self.assertGreater(self.value(texts[3]), self.value(texts[0]))
        self.assertEqual(self.value(texts[3]), self.value(texts[4]))
        self.assertIn('exited normally', texts[6])
        self.assert_exit(0)

    def test_a_debugger_that_detaches_leaves_the_guest_running(self):
        self.start('--cpus', '2', '--gdb-arch', 'x86-64')
        counter = f'*(long*){self.at["counter64"]:#x}'
        self.gdb(f'hbreak {self.address("loop64")}', 'continue', 'detach')
        time.sleep(0.5)
        first = self.value(self.gdb(f'p {counter}')[0])  # another one comes; the last quit by itself
        time.sleep(0.2)
        self.assertGreater(self.value(self.gdb(f'p {counter}')[0]), first)
        self.assertGreater(first, 0x100000001)

    def test_a_connection_that_breaks_leaves_the_guest_running(self):
        self.start('--cpus', '2', '--gdb-arch', 'x86-64')
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.socket)
            client.sendall(b'+$Z1,%x,1#00' % self.at['loop64'])
        time.sleep(0.5)
        self.assertGreater(self.value(self.gdb(f'p *(long*){self.at["counter64"]:#x}')[0]), 0x100000000)

    def test_kill_ends_the_run(self):
        self.start()
        self.gdb('kill')
        self.assert_exit(87)

    def test_a_reset_starts_anew_and_keeps_breakpoints(self):
        self.start()
        texts = self.gdb(f'hbreak {self.address("start_cpu1")}', 'continue',
                         f'p *(int*){self.at["counter"]:#x}', 'monitor reset',
                         'maintenance flush register-cache', 'p/x $pc', f'p *(int*){self.at["counter"]:#x}', 'continue',
                         f'p *(int*){self.at["counter"]:#x}')
        self.assertEqual(self.value(texts[2]), 0x1003)
        self.assertEqual(self.value(texts[5]), self.at['_start'])
        self.assertEqual(self.value(texts[6]), 0x1000)
        self.assertEqual(self.value(texts[8]), 0x1003)

    def test_a_triple_fault_stops_first(self):
        self.start()
        texts = self.gdb(f'hbreak {self.address("bump")}', 'continue', 'delete', 'set $esp = 0x100', 'stepi',
                         'set var *(short*)$pc = 0x0b0f', 'continue', 'p/x $pc', 'continue')
        self.assertIn('SIGABRT', texts[6])
        self.assert_exit(82)


if __name__ == '__main__':
    unittest.main()
