#!/usr/bin/env python3
"""qemu-img and `vmm disk` must agree on random images, whoever made them; each refuses what the other has open.

Environment: VMM (the program, default build/vmm), VMM_DISK_IMAGES (how many random images, default 100),
VMM_DISK_SEED (default 1).
"""

import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VMM = os.environ.get('VMM', os.path.join(ROOT, 'build', 'vmm'))
IMAGES = int(os.environ.get('VMM_DISK_IMAGES', '100'))
SEED = int(os.environ.get('VMM_DISK_SEED', '1'))
MEMORY = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None  # thousands of syncs
USAGE, FILE_MISSING, UNAVAILABLE, CANNOT_CREATE, LOCKED, CORRUPT = 64, 66, 69, 73, 104, 105


@unittest.skipUnless(shutil.which('qemu-img') and shutil.which('qemu-io'), 'qemu-img is not installed')
class DiskTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix='vmm-disk-', dir=MEMORY)
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    def run_tool(self, *command):
        process = subprocess.run(command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, errors='replace', timeout=120, check=False)
        self.assertEqual(process.returncode, 0, f'{command}: {process.stdout}')
        return process.stdout

    def qemu_img(self, *arguments):
        return self.run_tool('qemu-img', *arguments)

    def disk(self, *arguments):
        return self.run_tool(VMM, 'disk', *arguments)

    def disk_fails(self, code, pattern, *arguments):
        process = subprocess.run([VMM, 'disk', *arguments], cwd=self.directory, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        self.assertEqual(process.returncode, code, process.stderr)
        self.assertRegex(process.stderr, pattern)

    def empty(self):
        for name in os.listdir(self.directory):
            os.remove(self.path(name))

    def path(self, name):
        return os.path.join(self.directory, name)


class TestAgreement(DiskTest):
    """Random images in both directions."""

    def fill(self, rng, name, size):
        """Random writes, zeroes and discards by qemu-io."""
        commands = []
        for _ in range(rng.randint(0, 25)):
            offset = rng.randrange(0, size, 512)
            length = min(rng.choice([512, 4096, 65536, 200 * 512, 1 << 20]), size - offset)
            kind = rng.choice(['write', 'write', 'write', 'zero', 'unmap', 'discard'])
            if kind == 'write':
                commands.append(f'write -P {rng.randint(1, 255)} {offset} {length}')
            elif kind == 'zero':
                commands.append(f'write -z {offset} {length}')
            elif kind == 'unmap':
                commands.append(f'write -z -u {offset} {length}')
            else:
                commands.append(f'discard {offset} {length}')
        arguments = [part for command in commands for part in ('-c', command)]
        self.run_tool('qemu-io', '-f', 'qcow2', '-d', 'unmap', *arguments, name)

    def random_image(self, rng, number):
        """A qcow2 image made by QEMU, maybe on a backing file; its name."""
        size = rng.choice([512, 65536, 1 << 20, 3 * 1024 * 1024 + 512, 20 << 20, rng.randrange(1, 1 << 15) * 512])
        compat = rng.choice(['0.10', '1.1', '1.1', '1.1'])
        options = [f'compat={compat}', f'cluster_size={rng.choice([512, 4096, 65536, 65536, 2 << 20])}']
        if compat == '1.1':
            options.append(f'refcount_bits={rng.choice([1, 2, 8, 16, 16, 32, 64])}')
            options.append(f'compression_type={rng.choice(["zlib", "zstd"])}')
        options.append(f'preallocation={rng.choice(["off", "off", "metadata", "falloc"])}')
        name = f'{number}.qcow2'
        backing = rng.random() < 0.4
        if backing:
            options[-1] = 'preallocation=off'
            base_format = rng.choice(['raw', 'qcow2'])
            base_size = rng.choice([size, max(512, size // 1024 * 512), size + 65536])
            self.qemu_img('create', '-q', '-f', base_format, f'{number}.base', str(base_size))
            writes = [part for _ in range(5) for part in (
                '-c', f'write -P {rng.randint(1, 255)} {rng.randrange(0, base_size, 512)} 512')]
            self.run_tool('qemu-io', '-f', base_format, *writes, f'{number}.base')
            self.qemu_img('create', '-q', '-f', 'qcow2', '-o', ','.join(options), '-b', f'{number}.base', '-F',
                          base_format, name, str(size))
        else:
            self.qemu_img('create', '-q', '-f', 'qcow2', '-o', ','.join(options), name, str(size))
        self.fill(rng, name, size)
        if not backing and rng.random() < 0.3:
            packed = f'{number}.packed.qcow2'
            self.qemu_img('convert', '-c', '-O', 'qcow2', '-o', ','.join(options[:-1]), name, packed)
            os.replace(self.path(packed), self.path(name))
            if rng.random() < 0.5:
                self.fill(rng, name, size)
        return name

    def test_on_images_that_qemu_made(self):
        for number in range(IMAGES):
            with self.subTest(seed=SEED, number=number):
                self.empty()
                rng = random.Random(f'{SEED}/{number}')
                name = self.random_image(rng, number)
                facts = json.loads(self.qemu_img('info', '--output=json', name))
                ours = json.loads(self.disk('info', '--json', name))
                self.assertEqual(ours['size'], facts['virtual-size'])
                self.assertEqual(ours['cluster_size'], facts['cluster-size'])
                self.assertEqual(ours.get('backing_file'), facts.get('backing-filename'))
                check = json.loads(self.qemu_img('check', '--output=json', name))
                ours = json.loads(self.disk('check', '--json', name))
                self.assertEqual((ours['corruptions'], ours['leaks']),
                                 (check.get('corruptions', 0), check.get('leaks', 0)), ours['messages'])
                self.assertEqual(ours['allocated'], check.get('allocated-clusters', 0))
                self.assertEqual(ours['compressed'], check.get('compressed-clusters', 0))
                self.assertEqual(ours['end'], check['image-end-offset'])
                self.disk('convert', '-f', 'raw', name, 'out.raw')
                self.qemu_img('compare', '-f', 'qcow2', '-F', 'raw', name, 'out.raw')

    def test_on_images_that_vmm_made(self):
        for number in range(IMAGES):
            with self.subTest(seed=SEED, number=number):
                self.empty()
                rng = random.Random(f'{SEED}/made/{number}')
                name = self.random_image(rng, number)
                options = ['--cluster-size', str(rng.choice([512, 4096, 65536, 2 << 20])),
                           '--compression', rng.choice(['zlib', 'zstd'])]
                if rng.random() < 0.5:
                    options.append('--compress')
                self.disk('convert', *options, name, 'made.qcow2')
                self.assertNotIn('leaked', self.qemu_img('check', 'made.qcow2'))
                self.qemu_img('compare', '-f', 'qcow2', '-F', 'qcow2', name, 'made.qcow2')
                self.disk('check', 'made.qcow2')
                size = json.loads(self.qemu_img('info', '--output=json', 'made.qcow2'))['virtual-size']
                larger = size + rng.choice([512, 1 << 20, 200 << 20])
                self.disk('resize', 'made.qcow2', str(larger))
                self.qemu_img('check', 'made.qcow2')
                self.qemu_img('compare', name, 'made.qcow2')
                self.disk('resize', '--shrink', 'made.qcow2', str(size // 1024 * 512))
                self.qemu_img('check', 'made.qcow2')
                self.disk('resize', 'made.qcow2', str(size))
                self.fill(rng, 'made.qcow2', size)
                self.qemu_img('check', 'made.qcow2')
                self.disk('check', 'made.qcow2')

    def test_create_makes_what_qemu_img_calls_empty(self):
        for options in ([], ['--preallocate', 'metadata'], ['--preallocate', 'full'], ['--cluster-size', '512'],
                        ['--compression', 'zstd'], ['--format', 'raw'], ['--format', 'raw', '--preallocate', 'full']):
            with self.subTest(options=options):
                self.disk('create', '--force', *options, 'new', '33M')
                self.qemu_img('create', '-q', '-f', 'raw', 'empty', '33M')
                kind = 'raw' if 'raw' in options else 'qcow2'
                self.qemu_img('compare', '-f', kind, '-F', 'raw', 'new', 'empty')
                if kind == 'qcow2':
                    self.assertIn('No errors', self.qemu_img('check', 'new'))

    def test_an_overlay_shows_its_backing_file(self):
        self.disk('create', 'base.qcow2', '8M')
        self.run_tool('qemu-io', '-c', 'write -P 7 1M 1M', 'base.qcow2')
        self.disk('create', '-b', 'base.qcow2', 'top.qcow2')
        self.qemu_img('compare', 'base.qcow2', 'top.qcow2')
        self.assertEqual(len(json.loads(self.disk('info', '--chain', '--json', 'top.qcow2'))), 2)

    def test_growing_does_not_show_more_of_a_larger_backing_file(self):
        self.qemu_img('create', '-q', '-f', 'raw', 'base', '4M')
        self.run_tool('qemu-io', '-f', 'raw', '-c', 'write -P 9 0 4M', 'base')
        self.disk('create', '-b', 'base', 'top.qcow2', '1M')
        self.disk('resize', 'top.qcow2', '4M')
        self.run_tool('qemu-io', '-c', 'read -P 9 0 1M', '-c', 'read -P 0 1M 3M', 'top.qcow2')


class TestRepair(DiskTest):
    def make(self):
        self.qemu_img('create', '-q', '-f', 'qcow2', 'a.qcow2', '8M')
        self.run_tool('qemu-io', '-c', 'write -P 1 0 4M', 'a.qcow2')
        self.qemu_img('convert', '-O', 'raw', 'a.qcow2', 'expected')

    def patch(self, offset, data):
        with open(self.path('a.qcow2'), 'r+b') as file:
            file.seek(offset)
            file.write(data)

    def test_lost_refcounts_are_made_anew(self):
        self.make()
        self.patch(0x20000, bytes(200))  # the first refcount block
        self.disk_fails(CORRUPT, 'vmm disk check --repair', 'check', 'a.qcow2')
        self.disk_fails(CORRUPT, 'counted as free', 'resize', 'a.qcow2', '9M')
        self.disk('check', '--repair', 'a.qcow2')
        self.assertIn('No errors', self.qemu_img('check', 'a.qcow2'))
        self.qemu_img('compare', '-f', 'qcow2', '-F', 'raw', 'a.qcow2', 'expected')

    def test_a_dirty_image_is_repaired_before_it_is_written(self):
        self.make()
        self.patch(0x20000, bytes(200))
        self.patch(72, struct.pack('>Q', 1))
        self.disk('resize', 'a.qcow2', '9M')
        self.assertIn('No errors', self.qemu_img('check', 'a.qcow2'))

    def test_a_corrupt_mark_forbids_writing_and_not_reading(self):
        self.make()
        self.patch(72, struct.pack('>Q', 2))
        self.disk_fails(CORRUPT, 'marked as corrupt', 'resize', 'a.qcow2', '9M')
        self.disk('convert', '-f', 'raw', 'a.qcow2', 'out')
        self.qemu_img('compare', '-f', 'raw', '-F', 'raw', 'out', 'expected')

    def test_snapshots_are_kept_and_forbid_writing(self):
        self.make()
        self.qemu_img('snapshot', '-c', 'one', 'a.qcow2')
        self.run_tool('qemu-io', '-c', 'write -P 2 0 1M', 'a.qcow2')
        self.disk('check', 'a.qcow2')
        self.disk('convert', '-f', 'raw', 'a.qcow2', 'out')
        self.qemu_img('compare', '-f', 'qcow2', '-F', 'raw', 'a.qcow2', 'out')
        self.disk_fails(UNAVAILABLE, 'internal snapshots', 'resize', 'a.qcow2', '9M')
        self.disk('check', '--repair', 'a.qcow2')
        self.assertIn('No errors', self.qemu_img('check', 'a.qcow2'))


class TestRefusals(DiskTest):
    def test_features_that_vmm_does_not_know_are_named(self):
        self.qemu_img('create', '-q', '-f', 'qcow2', '-o', 'extended_l2=on', 'a', '1M')
        self.disk_fails(UNAVAILABLE, 'extended L2', 'convert', 'a', 'b')
        self.qemu_img('create', '-q', '-f', 'qcow2', '-o', 'data_file=d', 'c', '1M')
        self.disk_fails(UNAVAILABLE, 'second file', 'convert', 'c', 'b')
        self.assertFalse(os.path.exists(self.path('b')))

    def test_loops_of_backing_files(self):
        self.disk('create', 'a', '1M')
        self.disk('create', '-b', 'a', '-F', 'qcow2', 'b')
        self.qemu_img('rebase', '-u', '-b', 'b', '-F', 'qcow2', 'a')
        self.disk_fails(CORRUPT, 'its own backing file', 'convert', 'b', 'c')
        self.disk_fails(CORRUPT, 'does not end', 'info', '--chain', 'b')

    def test_missing_and_existing_files(self):
        self.disk_fails(FILE_MISSING, 'none', 'info', 'none')
        self.disk('create', 'a', '1M')
        self.disk_fails(CANNOT_CREATE, '--force', 'create', 'a', '1M')
        self.qemu_img('rebase', '-u', '-b', 'gone', '-F', 'raw', 'a')
        self.disk_fails(FILE_MISSING, 'a: its backing file: can.t open .*gone', 'convert', 'a', 'b')
        self.disk_fails(USAGE, 'into itself', 'convert', '--source-format', 'raw', '--force', 'a', 'a')
        self.disk_fails(USAGE, '--shrink', 'resize', '--source-format', 'raw', 'a', '512')
        self.disk_fails(USAGE, 'no size', 'create', 'x', '1X')
        self.disk_fails(USAGE, 'write 1024', 'create', 'x', '1000')
        self.disk_fails(USAGE, 'write --compress', 'convert', '--compres', 'a', 'b')

    def test_each_refuses_what_the_other_writes(self):
        self.disk('create', 'a', '1M')
        writer = subprocess.Popen(['qemu-io', 'a'], cwd=self.directory, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        writer.stdin.write('read 0 512\n')
        writer.stdin.flush()
        writer.stdout.readline()
        try:
            self.disk_fails(LOCKED, 'in use', 'resize', 'a', '2M')
            self.disk_fails(LOCKED, 'in use', 'convert', 'a', 'b')
            self.disk('info', 'a')
        finally:
            writer.communicate('quit\n', timeout=30)
        # What vmm does to a file that it writes, as QEMU sees it.
        with open(self.path('a'), 'r+b') as file:
            for byte in (100, 101, 103, 201, 203):
                lock = struct.pack('hhqqi4x', fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0)
                fcntl.fcntl(file, 37, lock)  # F_OFD_SETLK
            process = subprocess.run(['qemu-io', '-c', 'read 0 512', 'a'], cwd=self.directory, text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False)
            self.assertIn('lock', process.stdout)


if __name__ == '__main__':
    if not os.path.exists(VMM):
        sys.exit(f'{VMM} is not built')
    unittest.main()
