"""Random instructions, thousands of short episodes a run (storm_guest.asm): whatever a guest executes,
the machine goes on or ends with a verdict on the guest."""

import os
import random
import unittest

import bzimage
from bad_input import SEED, BadInputTest
from vmm_guest import *

STORM_GUEST = os.environ.get("VMM_STORM_GUEST",
                             os.path.join(ROOT, "build", "tests", "guest", "storm_guest.bin"))
SIZE = 0x10000  # of the random bytes, as in storm_guest.asm
SEED_SIZE = 8   # what it ends with
RUNS = 200 if FULL else 12
VERDICTS = (SUCCESS, GUEST_FAILURE, TRIPLE_FAULT, HANG, WALL_TIMEOUT, GUEST_RESET)
# HLT and CLI, and OUT, which would soon reset or end the machine by one of its ports.
UNWANTED = bytes((0xf4, 0xfa, 0xe6, 0xe7, 0xee, 0xef, 0x6e, 0x6f))


def instructions(chance):
    """Bytes that mostly begin as instructions do: prefixes, opcode maps, ModRM, immediates."""
    code = bytearray()
    while len(code) < SIZE:
        if chance.random() < 0.25:
            code.append(chance.choice((0x66, 0xf2, 0xf3, 0xf0, 0x67, 0x64, 0x65)))
        if chance.random() < 0.4:
            code.append(0x40 | chance.randrange(16))
        opcode_map = chance.choices((b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a", b"x87", b"\xc5",
                                     b"\xc4"), (30, 40, 8, 6, 6, 5, 5))[0]
        if opcode_map == b"x87":
            code.append(0xd8 | chance.randrange(8))
        else:
            code += opcode_map
            if opcode_map == b"\xc4":
                code.append(chance.randrange(1, 4) | chance.randrange(8) << 5)
            if opcode_map in (b"\xc4", b"\xc5"):
                code.append(chance.randrange(256))
            code.append(chance.randrange(256))
        code.append(chance.choice((0xc0, 0xc0, 0x00, 0x40, 0x80)) | chance.randrange(64))
        code += chance.choice((b"", chance.randbytes(1), chance.randbytes(4),
                               chance.choice((0, 1, 8, 255)).to_bytes(4, "little")))
    return bytes(code[:SIZE])


def storm(seed):
    """A bzImage of the guest; each fourth is made of random bytes alone."""
    chance = random.Random(seed)
    code = instructions(chance) if seed % 4 else chance.randbytes(SIZE)
    code = code.translate(bytes(0x90 if byte in UNWANTED else byte for byte in range(256)))
    with open(STORM_GUEST, "rb") as file:
        guest = file.read()
    payload = guest[:-SEED_SIZE] + chance.randbytes(SEED_SIZE) + code
    payload += bytes(-len(payload) % 16)
    return bzimage.make(payload, syssize=len(payload) // 16, init_size=0x1000000)


class Storm(BadInputTest):
    def test_random_instructions_end_with_a_verdict(self):
        codes = []
        for seed in range(SEED, SEED + RUNS):
            with self.subTest(seed=seed):
                kernel = self.write("kernel", storm(seed))
                guest, code = self.run_to_verdict(
                    f'kernel = "{kernel}"\nmemory = "64M"\naccel = "interpreter"\n'
                    'on_reboot = "exit"\n[limits]\nwall = "4s"\n')
                self.assertIn(code, VERDICTS, guest.messages)
                codes.append(code)
                guest.stop()
        # Some get through all their episodes: the guest itself is right.
        self.assertIn(SUCCESS, codes)


if __name__ == "__main__":
    unittest.main()
