"""Kernels that are truncated, corrupt or something else altogether: told of, or run to a verdict."""

import os
import random
import struct
import unittest

import bzimage
from bad_input import SEED, BadInputTest
from vmm_guest import *

TINY_GUESTS = os.environ.get("VMM_TINY_GUESTS", os.path.join(ROOT, "build", "tests", "guests"))
WALL = '[limits]\nwall = "1s"\n'

# What a kernel that is wrong within and was started nevertheless may come to.
VERDICTS = (SUCCESS, GUEST_FAILURE, TRIPLE_FAULT, HANG, WALL_TIMEOUT, GUEST_RESET)


class BadKernelTest(BadInputTest):
    def setUp(self):
        super().setUp()
        self.random = random.Random(SEED)

    def config(self, kernel):
        return (f'kernel = "{kernel}"\nmemory = "64M"\naccel = "{ENGINES[0]}"\n'
                f'on_reboot = "exit"\n{WALL}')

    def assert_refuses(self, content, reason):
        kernel = self.write("kernel", content)
        self.assert_refused(CONFIG_INVALID, f"vmm: kernel {kernel}: {reason}\n",
                            self.config(kernel))

    def run_kernel(self, content):
        """It may be refused, with a reason about the kernel, or run to some verdict."""
        kernel = self.write("kernel", content)
        guest, code = self.run_to_verdict(self.config(kernel))
        if code == CONFIG_INVALID:
            self.assertRegex(guest.messages, rf"^vmm: kernel {kernel}: [^\n]+\n$")
            self.assertEqual(guest.stream.data, b"")
        else:
            self.assertIn(code, VERDICTS, guest.messages)
        guest.stop()
        return code


class BzImages(BadKernelTest):
    def test_the_image_of_these_tests_boots(self):
        for fields in ({}, {"xloadflags": 0}, {"version": 0x0206}, {"relocatable_kernel": 0}):
            with self.subTest(**fields):
                self.assertEqual(self.run_kernel(bzimage.make(**fields)), SUCCESS)

    def test_each_wrong_field_is_named(self):
        size = len(bzimage.make())
        for fields, reason in (
                ({"version": 0x0205}, "speaks boot protocol 2.05; 2.06 (Linux 2.6.22) or newer is "
                                      "needed"),
                ({"loadflags": 0}, "is a zImage, which loads below 1 MiB; a bzImage is needed"),
                ({"jump": 0x00eb}, "malformed: the setup header is too short for its protocol "
                                   "version"),
                ({"syssize": 0}, "malformed: the kernel proper is empty"),
                ({"syssize": 65}, f"truncated: {size} bytes of {size + 16}"),
                ({"syssize": 0xffffffff}, f"truncated: {size} bytes of {1024 + 0xffffffff * 16}"),
                ({"setup_sects": 64}, f"truncated: {size} bytes of {65 * 512 + 1024}"),
                ({"pref_address": 1 << 32}, "malformed: preferred address 0x100000000"),
                ({"pref_address": 4096}, "malformed: preferred address 0x1000"),
                ({"kernel_alignment": 0}, "malformed: alignment 0x0"),
                ({"kernel_alignment": 3}, "malformed: alignment 0x3"),
                ({"init_size": 1 << 30}, "needs at least 1040 MiB of guest memory (it runs at "
                                         "0x1000000 and needs 1024 MiB there); memory is 64 MiB"),
        ):
            with self.subTest(**fields):
                self.assert_refuses(bzimage.make(**fields), reason)

    def test_every_field_may_hold_anything(self):
        codes = {}
        for name, (_, size, right) in bzimage.FIELDS.items():
            top = 1 << 8 * size
            for value in {0, top - 1, top // 2, right ^ 1, self.random.randrange(top)} - {right}:
                with self.subTest(field=name, value=hex(value)):
                    codes[name, value] = self.run_kernel(bzimage.make(**{name: value}))
        # Both ends are seen: this is no test of files that are all refused alike.
        self.assertIn(SUCCESS, codes.values())
        self.assertIn(CONFIG_INVALID, codes.values())

    def test_every_length_is_told(self):
        whole = bzimage.make()
        for size in (1, 2, 15, 511, 512, 0x1f1, 0x202, 0x206, 0x264, 0x290, 0x291, 1023):
            with self.subTest(size=size):
                self.assertEqual(self.run_kernel(whole[:size]), CONFIG_INVALID)
        for size in (1024, 1025, 1024 + 0x200, len(whole) - 16):
            with self.subTest(size=size):
                self.assert_refuses(whole[:size], f"truncated: {size} bytes of {len(whole)}")

    def test_a_kernel_of_random_code_ends_with_a_verdict(self):
        for _ in range(8):
            payload = self.random.randbytes(1024)
            with self.subTest(begins=payload[bzimage.ENTRY64:bzimage.ENTRY64 + 16].hex()):
                self.assertIn(self.run_kernel(bzimage.make(payload)), VERDICTS)


class ElfKernels(BadKernelTest):
    def images(self):
        for name in ("hello-multiboot", "hello-pvh"):
            path = os.path.join(TINY_GUESTS, name)
            if not os.path.exists(path):
                raise unittest.SkipTest(f"{path} is missing: run ninja -C build")
            with open(path, "rb") as file:
                yield name, file.read()

    def test_the_images_of_these_tests_boot(self):
        for name, image in self.images():
            with self.subTest(name=name):
                self.assertEqual(self.run_kernel(image), SUCCESS)

    def test_every_length_ends_well(self):
        for name, image in self.images():
            for size in sorted({1, 4, 16, 51, 52, 53, 84, 4096, len(image) - 1} |
                               {self.random.randrange(1, len(image)) for _ in range(8)}):
                with self.subTest(name=name, size=size):
                    self.run_kernel(image[:size])

    def test_every_header_field_may_hold_anything(self):
        for name, image in self.images():
            # [ELF] 1-4, 2-2: the file's header of 52 bytes, and the program headers behind it.
            headers = 52 + 32 * struct.unpack_from("<H", image, 44)[0]
            for offset in range(4, headers, 4):
                for value in (0, 0xffffffff, 0x80000000, self.random.getrandbits(32)):
                    if self.random.random() < 0.5:
                        continue  # half of them, the same ones each time
                    with self.subTest(name=name, offset=offset, value=hex(value)):
                        changed = bytearray(image)
                        struct.pack_into("<I", changed, offset, value)
                        self.run_kernel(changed)

    def test_random_bytes_anywhere_end_well(self):
        for name, image in self.images():
            for _ in range(20):
                changed = bytearray(image)
                for _ in range(self.random.randrange(1, 16)):
                    changed[self.random.randrange(len(changed))] = self.random.randrange(256)
                with self.subTest(name=name):
                    self.run_kernel(changed)


class NoKernels(BadKernelTest):
    def test_random_files_are_no_kernels(self):
        for size in (1, 100, 512, 8192, 100_000):
            with self.subTest(size=size):
                content = bytearray(self.random.randbytes(size))
                content[:1] = b"x"
                self.assert_refuses(content, "is no kernel: neither a bzImage nor ELF with a PVH "
                                             "note nor Multiboot")

    def test_what_people_take_for_a_kernel_is_named(self):
        for content, reason in (
                (b"\x1f\x8b\x08\0" + bytes(5000), "is compressed by gzip; unpack it first"),
                (b"\x28\xb5\x2f\xfd" + bytes(5000), "is compressed by zstd; unpack it first"),
                (b"070701" + b"0" * 5000, "is a cpio archive: an initrd, not a kernel"),
                (b"QFI\xfb\0\0\0\3" + bytes(5000), "is a qcow2 disk image, not a kernel"),
                (b"#!/bin/sh\n", "is a script, not a kernel"),
        ):
            with self.subTest(reason=reason):
                self.assert_refuses(content, reason)

    def test_a_program_of_this_host_is_no_kernel(self):
        with open(VMM, "rb") as program:
            self.assertEqual(self.run_kernel(program.read()), CONFIG_INVALID)


if __name__ == "__main__":
    unittest.main()
