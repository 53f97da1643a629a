"""The programs of the translator's bench on this host: they build, and do the work they name."""

import os
import subprocess
import tempfile
import unittest

import bars
import bench_programs
import devices

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INITRD = os.path.join(os.environ.get('VMM_GUESTS', f'{ROOT}/build/guests'), 'cloud-initrd')
SCALE = 0.02


class BenchProgramsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.place.cleanup)
        cls.paths = bench_programs.build(cls.place.name)

    def run_rows(self, rows, busybox):
        return bench_programs.run_native(self.paths, busybox, rows, 2, SCALE)

    def test_each_row_repeats_its_checksum(self):
        rows = [row for row in bars.ALL_ROWS if row not in [*bars.PROGRAMS['applets'], bars.BOOT]]
        results = self.run_rows(rows, '/nonexistent')
        self.assertEqual(list(results.seconds), rows)
        self.assertGreater(min(min(seconds) for seconds in results.seconds.values()), 0)
        self.assertEqual(int(results.checksums['getppid'], 16), int(bars.GETPPID_CALLS * SCALE))
        # A child that can't be executed would return 1 instead of 7.
        self.assertEqual(int(results.checksums['fork-exec'], 16) % 7, 0)
        distinct = {results.checksums[row] for row in rows if row not in ('fork', 'fork-exec')}
        self.assertGreaterEqual(len(distinct), len(rows) - 2)

    def test_the_rows_of_busybox_make_what_it_prints(self):
        if not os.path.exists(INITRD):
            self.skipTest(f'{INITRD} is missing: run ci/guests')
        busybox = bench_programs.extract_busybox(INITRD, self.place.name)
        results = self.run_rows(bars.PROGRAMS['applets'], busybox)
        self.assertEqual(list(results.seconds), bars.PROGRAMS['applets'])

    def test_a_busybox_that_fails_fails_the_bench(self):
        with self.assertRaisesRegex(RuntimeError, 'bench: failed'):
            self.run_rows(['shell-loop'], '/bin/false')

    def test_an_unknown_row_fails(self):
        ran = subprocess.run([self.paths['calls'], 'nothing'], text=True, capture_output=True, check=False)
        self.assertEqual(ran.returncode, 1)
        self.assertIn('bench: failed nothing', ran.stdout)

    def test_the_devices_of_this_host_carry_what_they_are_given(self):
        path = bench_programs.build_one(self.place.name, devices.PROGRAM, devices.ROWS)
        disk = f'{self.place.name}/disk'
        devices.make_image(disk)
        with devices.server() as port:
            results, latencies = devices.run_native(path, disk, port, f'--runs 2 --scale {SCALE}', devices.ROWS, 2)
        self.assertEqual(list(results.seconds), list(devices.ROWS))
        self.assertEqual(len(latencies), 2)
        self.assertEqual(int(results.checksums['host-to-guest'], 16), int(devices.ROWS['host-to-guest'] * SCALE))
        # Sums of the words that the image is filled with.
        words = int(devices.ROWS['random-4k-32'] * SCALE) * 0x5a5a5a5a5a5a5a5a
        self.assertEqual(int(results.checksums['random-4k-32'], 16), words % (1 << 64))

    def test_an_initramfs_with_a_program_more_has_both(self):
        target = f'{self.place.name}/more'
        with open(f'{self.place.name}/first', 'wb') as file:
            file.write(b'first')
        bench_programs.add_program(f'{self.place.name}/first', '/bin/true', target)
        with open(target, 'rb', buffering=0) as file:
            self.assertEqual(file.read(512), b'first' + b'\0' * 507)
            names = subprocess.run(['cpio', '--list', '--quiet'], stdin=file, check=True, text=True,
                                   capture_output=True).stdout.split()
        self.assertEqual(names, ['bin', 'bin/true'])

    def test_the_initramfs_holds_the_programs(self):
        target = f'{self.place.name}/initrd'
        bench_programs.make_initramfs(self.paths, '/bin/true', ['fib'], 3, 1.0, target)
        with open(target, 'rb') as file:
            names = subprocess.run(['cpio', '--list', '--quiet'], stdin=file, check=True, text=True,
                                   capture_output=True).stdout.split()
        self.assertLessEqual({'init', 'tmp', 'bin/busybox', *(f'bin/{name}' for name in self.paths)}, set(names))


if __name__ == '__main__':
    unittest.main()
