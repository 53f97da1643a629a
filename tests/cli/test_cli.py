#!/usr/bin/env python3
"""The command line of vmm as a user meets it: exit codes, what is printed where, result files.

Environment: VMM (the program, default build/vmm), VMM_TINY_GUESTS (folder of tests/guests, built). Most
of these tests run no guest.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VMM = os.environ.get('VMM', os.path.join(ROOT, 'build', 'vmm'))
TINY_GUESTS = os.environ.get('VMM_TINY_GUESTS', os.path.join(ROOT, 'build', 'tests', 'guests'))
USAGE, CONFIG_INVALID, FILE_MISSING, CANNOT_CREATE, IO_ERROR, CONSOLE_LOST = 64, 65, 66, 73, 74, 102
FIXTURES = os.path.join(ROOT, 'tests', 'fixtures', 'broken-configs')


def tiny_guest(name):
    path = os.path.join(TINY_GUESTS, name)
    if not os.path.exists(path):
        raise unittest.SkipTest(f'{path} is missing')
    return path


class CliTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix='vmm-cli-')
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    def vmm(self, *arguments, **keywords):
        keywords.setdefault('stdin', subprocess.DEVNULL)
        keywords.setdefault('stdout', subprocess.PIPE)
        return subprocess.run([VMM, *arguments], cwd=self.directory, stderr=subprocess.PIPE, text=True,
                              errors='replace', timeout=60, **keywords)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        return path

    def result(self):
        with open(os.path.join(self.directory, 'result.json'), encoding='utf-8') as file:
            return json.load(file)

    def assert_fails(self, process, code, pattern):
        self.assertEqual(process.returncode, code, process.stderr)
        self.assertRegex(process.stderr, pattern)
        self.assertEqual(process.stdout or '', '')


class TestUsage(CliTest):
    def test_no_argument_is_a_usage_error(self):
        self.assert_fails(self.vmm(), USAGE, r'^vmm: there is nothing to do; fix: ')

    def test_help_goes_to_standard_output(self):
        for arguments in (['--help'], ['help'], ['run', '--help']):
            process = self.vmm(*arguments)
            self.assertEqual((process.returncode, process.stderr), (0, ''))
            self.assertIn('Usage: vmm', process.stdout)

    def test_version_is_one_line(self):
        process = self.vmm('--version')
        self.assertEqual(process.returncode, 0)
        self.assertRegex(process.stdout, r'\Avmm \d+\.\d+\.\d+\n\Z')

    def test_a_wrong_option_names_the_right_one(self):
        self.assert_fails(self.vmm('run', '--memroy', '1G'), USAGE, r'^vmm: .*--memroy; fix: write --memory\n')

    def test_a_wrong_command_names_the_right_one(self):
        self.assert_fails(self.vmm('rnu'), USAGE, r"^vmm: unknown command 'rnu'; fix: write vmm run\n")

    def test_a_run_without_anything_to_boot_is_a_usage_error(self):
        self.assert_fails(self.vmm('run', '--cpus', '2'), USAGE, r'^vmm: there is nothing to boot .*fix: give --kernel')

    def test_a_full_disk_behind_standard_output_is_an_error(self):
        with open('/dev/full', 'w', encoding='utf-8') as full:
            process = self.vmm('--version', stdout=full)
        self.assertEqual(process.returncode, IO_ERROR)
        self.assertIn('standard output', process.stderr)

    def test_closed_standard_descriptors_do_no_harm(self):
        process = subprocess.run(['sh', '-c', '"$0" --version <&- >&- 2>&-', VMM], timeout=60)
        self.assertEqual(process.returncode, IO_ERROR)


class TestConfigErrors(CliTest):
    def test_every_broken_config_gives_its_line_and_exit_code(self):
        names = sorted(name for name in os.listdir(FIXTURES) if name.endswith('.toml'))
        self.assertGreaterEqual(len(names), 30)
        for name in names:
            with self.subTest(name), open(os.path.join(FIXTURES, name), 'rb') as file:
                code, errors = re.match(r'# expect (\d+): (.*)', file.readline().decode()).groups()
                process = subprocess.run([VMM, 'check', name], cwd=FIXTURES, stderr=subprocess.PIPE,
                                         stdin=subprocess.DEVNULL, timeout=60)
                expected = ''.join(f'{name}:{error}\n' for error in errors.split(' | '))
                self.assertEqual(process.stderr.decode(), expected)
                self.assertEqual(process.returncode, int(code))

    def test_run_and_inspect_report_what_check_reports(self):
        self.write('vm.toml', 'kernel = "gone"\n')
        check = self.vmm('check', 'vm.toml')
        for arguments in (['--config', 'vm.toml'], ['run', '.'], ['inspect', '-c', 'vm.toml']):
            process = self.vmm(*arguments)
            self.assertEqual(process.returncode, FILE_MISSING)
            self.assertEqual(process.stderr.replace('./', ''), check.stderr)

    def test_a_missing_config_is_told(self):
        self.assert_fails(self.vmm('--config', 'gone.toml'), FILE_MISSING, r"^vmm: can't read gone\.toml: .*; fix: ")

    def test_a_right_config_is_told(self):
        self.write('k', 'kernel')
        self.write('vm.toml', 'kernel = "k"\nname = "web1"\ncpus = 2\n')
        process = self.vmm('check', 'vm.toml')
        self.assertEqual((process.returncode, process.stderr), (0, ''))
        self.assertEqual(process.stdout, 'vm.toml is right: web1, 2 CPUs, 256M\n')

    def test_an_option_repairs_a_config(self):
        self.write('k', 'kernel')
        self.write('vm.toml', 'kernel = "gone"\n')
        self.assertEqual(self.vmm('check', 'vm.toml', '--kernel', 'k').returncode, 0)

    def test_options_are_checked_like_the_file(self):
        self.write('k', 'kernel')
        self.assert_fails(self.vmm('check', '--kernel', 'k', '--memory', '64'), USAGE,
                          r"^vmm: --memory: '64' is not a size .*; fix: write \"64M\"\n")

    def test_the_keys_are_listed_and_explained(self):
        table = self.vmm('config').stdout
        with open(os.path.join(ROOT, 'docs', 'config.md'), encoding='utf-8') as doc:
            self.assertIn(table, doc.read())
        self.assertIn('default: "256M"', self.vmm('config', '--explain', 'memory').stdout)
        self.assert_fails(self.vmm('config', '--explain', 'ram'), USAGE, r'fix: write memory\n')
        self.assert_fails(self.vmm('config', '--explain', 'vsock'), USAGE, r'not available in this version')


class TestResult(CliTest):
    def test_a_usage_error_is_in_the_result(self):
        self.vmm('run', '--nonsense', '--result', 'result.json')
        self.assertEqual(self.result()['exit_code'], USAGE)
        self.assertEqual(self.result()['exit_name'], 'Usage')

    def test_a_config_error_is_in_the_result(self):
        self.write('vm.toml', 'cpus = 9\n')
        process = self.vmm('--config', 'vm.toml', '--result', 'result.json')
        self.assertEqual(process.returncode, CONFIG_INVALID)
        result = self.result()
        self.assertEqual(result['exit_code'], CONFIG_INVALID)
        self.assertIn("vm.toml:1:8: 'cpus' is 9", result['reason'])
        self.assertIsNone(result['engine'])
        self.assertIsNone(result['guest_value'])
        self.assertEqual(sorted(os.listdir(self.directory)), ['result.json', 'vm.toml'])

    def test_a_result_that_can_not_be_written_stops_the_run(self):
        self.assert_fails(self.vmm('--kernel', 'k', '--result', 'none/result.json'), CANNOT_CREATE,
                          r"can't write the result to none/result\.json")

    def test_an_old_result_does_not_outlive_a_new_run(self):
        self.write('result.json', 'old')
        self.vmm('run', '--kernel', 'gone', '--result', 'result.json')
        self.assertEqual(self.result()['exit_code'], FILE_MISSING)


class TestProbe(CliTest):
    def test_the_probe_says_an_engine_and_a_reason(self):
        result = json.loads(self.vmm('probe', '--json').stdout)
        self.assertIn(result['engine'], ('kvm', 'bt', 'interpreter'))
        self.assertTrue(result['reason'])
        text = self.vmm('probe')
        self.assertEqual(text.returncode, 0)
        self.assertRegex(text.stdout, rf"^engine: +{result['engine']}\n")


class TestInspect(CliTest):
    def inspect(self, *arguments):
        return self.vmm('inspect', '--kernel', tiny_guest('hello-multiboot'), '--cpus', '3', '--memory', '64M',
                        *arguments)

    def test_memory_processors_and_devices_are_shown(self):
        process = self.inspect()
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn('CPUs: 3\n', process.stdout)
        self.assertRegex(process.stdout, r'0x000000000000-0x00000009fbff +639K +RAM\n')
        self.assertRegex(process.stdout, r'serial0 +ports 0x3f8-0x3ff; IRQ 4\n')
        self.assertRegex(process.stdout, r'serial3 +ports 0x2e8-0x2ef; IRQ 3\n')
        self.assertRegex(process.stdout, r'memory 0xfec00000-0xfec00fff')
        self.assertRegex(process.stdout, r'00:00\.0 +8086:1237 +class 060000')

    def test_inspection_touches_no_console(self):
        process = self.inspect('--serial0', 'unix:con.sock', '--serial1', 'file:log')
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(os.listdir(self.directory), [])

    @unittest.skipUnless(shutil.which('dtc'), 'dtc is missing')
    def test_the_device_tree_is_one_that_dtc_reads(self):
        process = self.inspect('--dtb', 'vm.dtb')
        self.assertEqual(process.returncode, 0, process.stderr)
        dtc = subprocess.run(['dtc', '-I', 'dtb', '-O', 'dts', os.path.join(self.directory, 'vm.dtb')],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual((dtc.returncode, dtc.stderr), (0, ''))
        self.assertEqual(len(re.findall(r'\bcpu@\d ', dtc.stdout)), 3)
        self.assertEqual(len(re.findall(r'\bserial@i', dtc.stdout)), 4)
        self.assertRegex(dtc.stdout, r'memory@100000 \{\s+device_type = "memory";\s+'
                                     r'reg = <0x00 0x100000 0x00 0x3f00000>;')

    def test_a_device_tree_that_can_not_be_written_is_an_error(self):
        self.assert_fails(self.inspect('--dtb', 'none/vm.dtb'), CANNOT_CREATE, r"can't write none/vm\.dtb")


class TestRun(CliTest):
    def hello(self, append, *arguments, **keywords):
        return self.vmm('run', '--kernel', tiny_guest('hello-multiboot'), '--append', append, '--memory', '16M',
                        '--accel', 'interpreter', '--result', 'result.json', *arguments, **keywords)

    def test_a_guest_that_powers_off_is_a_success(self):
        process = self.hello('off')
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn('off', process.stdout)
        result = self.result()
        self.assertEqual((result['exit_code'], result['exit_name']), (0, 'Success'))
        self.assertEqual(result['engine'], 'interpreter')
        self.assertTrue(result['engine_reason'])
        self.assertLess(result['uptime_ms'], 60000)

    def test_the_value_of_a_failing_guest_is_in_the_result(self):
        process = self.hello('fail')
        self.assertEqual(process.returncode, 80, process.stderr)
        self.assertEqual(self.result()['exit_name'], 'GuestFailure')
        self.assertNotIn(self.result()['guest_value'], (None, 0))

    def test_the_wall_limit_ends_an_endless_guest(self):
        start = time.monotonic()
        process = self.hello('spin', '--wall-limit', '300ms')
        self.assertEqual(process.returncode, 84, process.stderr)
        self.assertLess(time.monotonic() - start, 10)
        self.assertEqual(self.result()['exit_name'], 'WallTimeout')

    def test_too_much_memory_is_a_clear_error(self):
        process = self.hello('off', '--memory', '1024G')
        if process.returncode != 0:  # hosts that overcommit without end give it
            self.assertEqual(process.returncode, 101, process.stderr)
            self.assertIn('memory', process.stderr)
            self.assertEqual(self.result()['exit_name'], 'HostMemory')

    def test_a_console_that_can_not_be_opened_is_an_error(self):
        process = self.hello('off', '--serial1', 'file:none/log')
        self.assertEqual(process.returncode, CONSOLE_LOST, process.stderr)
        self.assertIn('--serial1: ', process.stderr)
        process = self.hello('off', '--serial0', 'file:/dev/full')
        self.assertEqual(process.returncode, CONSOLE_LOST, process.stderr)
        self.assertIn('serial0: not all that the guest printed is in /dev/full', process.stderr)


class TestNew(CliTest):
    def make(self, *arguments):
        return self.vmm('new', 'machine', '--kernel', tiny_guest('hello-multiboot'), *arguments)

    def left(self):
        """What is there of the machine, and in its directory."""
        path = os.path.join(self.directory, 'machine')
        return sorted(os.listdir(path)) if os.path.isdir(path) else None

    def test_a_machine_of_its_own_files(self):
        initrd = self.write('initrd', 'some bytes')
        made = self.make('--initrd', initrd, '--disk', '64M', '--cpus', '2', '--memory', '64M', '--append',
                         'quote=" back=\\ end')
        self.assertEqual((made.returncode, made.stdout),
                         (0, f'made; it runs with: {shlex.quote(VMM)} run machine\n'), made.stderr)
        self.assertEqual(self.left(), ['disk.qcow2', 'initrd', 'logs', 'vm.toml', 'vmlinuz'])
        with open(os.path.join(self.directory, 'machine', 'vm.toml'), encoding='utf-8') as file:
            self.assertEqual(file.read().splitlines(), [
                'kernel = "vmlinuz"', 'initrd = "initrd"', 'append = "quote=\\" back=\\\\ end"', 'cpus = 2',
                'memory = "64M"', 'disk = ["disk.qcow2"]', 'net = ["user"]', 'logs = "logs"'])
        os.remove(initrd)
        # Nothing but the directory is needed, wherever it goes.
        os.rename(os.path.join(self.directory, 'machine'), os.path.join(self.directory, 'moved'))
        checked = self.vmm('check', 'moved')
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertIn('2 CPUs, 64M', checked.stdout)

    def test_it_runs(self):
        self.assertEqual(self.make('--no-net', '--append', 'off').returncode, 0)
        printed = ''
        for count in (1, 2):
            ran = self.vmm('run', 'machine', '--accel', 'interpreter')
            self.assertEqual(ran.returncode, 0, ran.stderr)
            self.assertIn('off', ran.stdout)
            # Each run is kept behind those before.
            printed += ran.stdout
            self.assertEqual(self.log('console.log'), printed)
            self.assertEqual(len(re.findall(r'(?m)^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d '
                                            r'engine: interpreter: as asked for$', self.log('vmm.log'))), count)

    def test_it_runs_by_the_command_that_it_said(self):
        name, program = "it's a machine", os.path.join(self.directory, 'a vmm')
        os.symlink(os.path.abspath(VMM), program)
        made = subprocess.run(['./a vmm', 'new', name, '--kernel', tiny_guest('hello-multiboot'), '--no-net', '--append',
                               'off'], cwd=self.directory, capture_output=True, text=True, timeout=60, check=True).stdout
        command = made.removeprefix('made; it runs with: ').rstrip('\n') + ' --accel interpreter'
        ran = subprocess.run(['sh', '-c', command], cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True,
                             text=True, timeout=60, check=False)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertIn('off', ran.stdout)

    def test_how_it_ended_is_in_its_log(self):
        self.assertEqual(self.make('--no-net', '--append', 'triple').returncode, 0)
        ran = self.vmm('run', 'machine', '--accel', 'interpreter')
        self.assertNotEqual(ran.returncode, 0)
        reason = ran.stderr.splitlines()[-1].removeprefix('vmm: ')
        self.assertRegex(self.log('vmm.log'), f'\\n20[^ ]* {re.escape(reason)}\\n20[^ ]* ended with 82\\n$')

    def test_that_the_guest_powered_off_is_in_its_log_alone(self):
        self.assertEqual(self.make('--no-net', '--append', 'off').returncode, 0)
        ran = self.vmm('run', 'machine', '--accel', 'interpreter')
        self.assertRegex(self.log('vmm.log'), r'\n20[^ ]* ended with 0: the guest powered off\n$')
        self.assertNotIn('powered off', ran.stderr)

    def test_logs_that_can_not_be_kept_are_an_error(self):
        self.assertEqual(self.make('--no-net').returncode, 0)
        for place in ('/dev/null/logs', '/proc/logs', '/dev/null'):
            with self.subTest(place=place):
                self.assert_fails(self.vmm('run', 'machine', '--logs', place), CANNOT_CREATE,
                                  f'logs: .*{place}.*; fix: name a directory that can be written')

    def log(self, name):
        with open(os.path.join(self.directory, 'machine', 'logs', name), encoding='utf-8', newline='') as file:
            return file.read()

    def test_a_disk_that_begins_as_an_image(self):
        image = self.write('image', 'x' * 4096)
        self.assertEqual(self.make('--image', image, '--quiet').returncode, 0)
        self.assertEqual(self.vmm('disk', 'convert', '--format', 'raw', 'machine/disk.qcow2', 'back').returncode, 0)
        with open(os.path.join(self.directory, 'back'), encoding='utf-8') as file:
            self.assertEqual(file.read(), 'x' * 4096)

    def test_what_is_wrong_leaves_nothing(self):
        for arguments, code, pattern in [
                (('--memory', '1X'), USAGE, '--memory: .*fix: '),
                (('--cpus', '99'), USAGE, '--cpus: .*fix: '),
                (('--disk', '10'), USAGE, "--disk: '10' is no size of a disk.*fix: write 512"),
                (('--initrd', 'missing'), FILE_MISSING, '--initrd: .*missing'),
                (('--image', 'missing'), FILE_MISSING, 'missing'),
                (('--disk', '1M', '--image', 'missing'), USAGE, '--disk excludes --image'),
                (('--size', '1M'), USAGE, 'unknown option --size')]:
            with self.subTest(arguments=arguments):
                self.assert_fails(self.make(*arguments), code, pattern)
                self.assertEqual(self.left(), None)
        self.assert_fails(self.vmm('new', 'machine'), USAGE, '--kernel is required')

    def test_what_is_there_stays(self):
        os.mkdir(os.path.join(self.directory, 'machine'))
        self.write('machine/mine', 'mine')
        self.assert_fails(self.make(), CANNOT_CREATE, 'machine has files in it already; fix: another name')
        self.assertEqual(self.left(), ['mine'])
        os.remove(os.path.join(self.directory, 'machine/mine'))
        self.assert_fails(self.make('--image', 'missing'), FILE_MISSING, 'missing')
        self.assertEqual(self.left(), [])
        self.assertEqual(self.make().returncode, 0)
        self.assert_fails(self.vmm('new', '/proc/none', '--kernel', tiny_guest('hello-multiboot')), CANNOT_CREATE,
                          r"can't make /proc/none \(.*\); fix: ")


class TestTest(CliTest):
    """What `vmm test` refuses before it starts a guest; tests/guest/test_runner.py has the rest."""

    def kernel(self):
        return ('--kernel', tiny_guest('hello-multiboot'))

    def test_what_can_not_work_is_told_with_its_remedy(self):
        compressed = os.path.join(self.directory, 'compressed')
        os.mkdir(compressed)
        self.write('compressed/a.ko.xz', '')
        self.write('script', '#!/bin/sh')
        for arguments, code, pattern in [
                (('--timeout', '5'), USAGE, '--timeout: .*fix: '),
                (('--idle-timeout', 'x', '--', 'true'), USAGE, '--idle-timeout: .*fix: '),
                (('--rootfs', '.'), USAGE, '--rootfs, --modules and --load are for a command to run'),
                (('--rootfs', 'missing', '--', 'true'), FILE_MISSING, '--rootfs missing'),
                (('--load', 'x', '--', 'true'), USAGE, '--load names modules of --modules DIR'),
                (('--busybox', 'script', '--', 'true'), CONFIG_INVALID, 'is no static program'),
                (('--serial1', 'pty', '--', 'true'), USAGE, 'console.serial1 is the line'),
                (('--junit', 'missing/x.xml', '--', 'true'), CANNOT_CREATE, 'missing/x.xml'),
                (('--list', 'missing.toml'), FILE_MISSING, '--list: .*missing.toml'),
                (('--list', 'missing.toml', '--', 'true'), USAGE, '--list names the commands'),
                (('true',), FILE_MISSING, "no vm.toml 'true'; fix: .* behind --: vmm test ... -- true"),
                (('uname', '-r'), USAGE, "unknown option -r; fix: write the guest's command behind --"),
                (('echo', 'hi'), USAGE, "'hi' is one argument too many; fix: write the guest's command behind --"),
                (('--memroy', '1G'), USAGE, 'fix: write --memory'),
                (('--',), USAGE, 'no command stands behind --')]:
            with self.subTest(arguments=arguments):
                self.assert_fails(self.vmm('test', *self.kernel(), *arguments), code, pattern)

    def test_what_the_process_of_the_guest_finds_wrong_is_an_error_and_no_failure(self):
        for arguments, code, pattern in [
                (('--modules', 'missing'), FILE_MISSING, '--modules: missing is no directory'),
                (('--modules', '.', '--load', 'x'), FILE_MISSING, "has no module 'x'")]:
            with self.subTest(arguments=arguments):
                process = self.vmm('test', '--result', 'result.json', *self.kernel(), '--initrd', VMM, *arguments,
                                   '--', 'true')
                self.assert_fails(process, code, pattern)
                self.assertEqual(self.result()['tests'][0]['verdict'], 'error')

    def test_without_busybox_the_way_out_is_told(self):
        folders = ('/bin', '/usr/bin', '/sbin', '/usr/sbin')
        if any(os.path.exists(os.path.join(folder, 'busybox')) for folder in folders):
            self.skipTest('there is a busybox on this host')
        self.assert_fails(self.vmm('test', *self.kernel(), '--', 'true', env={'PATH': '/nonexistent'}), 69,
                          'no static busybox on this host; fix: install busybox-static')

    def test_a_list_is_checked_before_anything_runs(self):
        self.write('tests.toml', '[[test]]\nname = "a"\ncommand = "x"\n[[test]]\nname = "b"\nmemory = "1X"\n')
        self.assert_fails(self.vmm('test', *self.kernel(), '--list', 'tests.toml'), USAGE, 'b: memory: .*fix: ')
        self.write('tests.toml', '[[test]]\nname = "a"\ncommnad = "x"\n')
        self.assert_fails(self.vmm('test', *self.kernel(), '--list', 'tests.toml'), CONFIG_INVALID,
                          "tests.toml:3:1: unknown key 'commnad'.*fix: write 'command'")


if __name__ == '__main__':
    unittest.main()
