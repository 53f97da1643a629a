"""A machine whose disk and network card are at work is suspended and goes on, on every engine and from one to
another: transfers.cc, a small guest for any KVM. docs/suspend.md."""

import itertools
import json
import os
import random
import re
import socket
import struct
import threading
import time
import unittest

from vmm_guest import *

TRANSFERS = os.environ.get("VMM_TRANSFERS", os.path.join(ROOT, "build", "tests", "conformance", "transfers"))
SUSPENDS = 10  # of one guest
SECTOR = 512
GROUPS, GROUP = 32, 64  # of blocks that a round writes; sectors of each
AT_ONCE = 4             # frames that the guest sends before it wants an answer
FRAME = struct.Struct("<6s6s2sQQ960s")


class Peer:
    """The other end of the wire, in each run anew. It answers each frame by the same one with a number of its own."""

    def __init__(self, path):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        self.seen = self.answers = 0
        self.problems = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self):
        while True:
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return
            with wire, wire.makefile("rb") as stream:
                try:
                    while len(prefix := stream.read(4)) == 4:
                        self._answer(wire, prefix, stream.read(int.from_bytes(prefix, "big")))
                except ConnectionResetError:
                    pass  # that run has ended with an answer unread, and we have read all it sent

    def _answer(self, wire, prefix, frame):
        try:
            to, sender, kind, number, answer, filler = FRAME.unpack(frame)
        except struct.error:
            self.problems.append(f"a frame of {len(frame)} bytes")
            return
        self.seen += 1
        if number != self.seen or kind != b"\x88\xb5" or answer != 0 or filler != struct.pack("<Q", number) * 120:
            self.problems.append(f"frame {self.seen} is {frame}")
        self.answers += 1
        try:
            wire.sendall(prefix + FRAME.pack(sender, to, kind, number, self.answers, filler))
        except OSError:
            pass  # that run has ended; what else it sent is still to be read


class Transfers(GuestTest):
    def start_transfers(self, engine):
        if not os.path.exists(TRANSFERS):
            raise unittest.SkipTest(f"{TRANSFERS} is missing: build it")
        # A processor that any KVM has, so that it may go from one engine to another; and a limit, so that there are
        # always requests on their way.
        return self.start(f'kernel = "{TRANSFERS}"\nmemory = "16M"\naccel = "{engine}"\n'
                          f'cpu = "x86-64"\nmitigations = "host"\n'
                          f'disk = [{{ path = "{self.image}", iops = 400 }}]\nnet = [{{ path = "{self.wire}" }}]\n')

    def check_image(self, rounds):
        """All that was written until round `rounds` was over is there, and each block whole."""
        run_tool(VMM, "disk", "check", self.image)
        raw = os.path.join(self.directory, "copy.raw")
        run_tool(VMM, "disk", "convert", "--force", "--format", "raw", self.image, raw)
        with open(raw, "rb") as file:
            words = struct.unpack(f"<{GROUPS * GROUP * SECTOR // 8}Q", file.read())
        for block in range(0, GROUPS * GROUP, 8):
            group = block // GROUP
            newest = max(0, rounds - (rounds - group) % GROUPS)
            # The next round may be under way.
            may_be = {newest, rounds + 1} if (rounds + 1) % GROUPS == group else {newest}
            there = words[block * SECTOR // 8] >> 32
            self.assertIn(there, may_be, f"block {block // 8}")
            sectors = range(block, block + 8) if there else [0] * 8
            wanted = [there << 32 | sector for sector in sectors for _ in range(SECTOR // 8)]
            self.assertEqual(list(words[block * SECTOR // 8:(block + 8) * SECTOR // 8]), wanted)

    def check(self, engines):
        self.image = os.path.join(self.directory, f"{'-'.join(engines)}.qcow2")
        self.wire = os.path.join(self.directory, f"{'-'.join(engines)}.socket")
        run_tool(VMM, "disk", "create", self.image, str(GROUPS * GROUP * SECTOR))
        peer = Peer(self.wire)
        self.addCleanup(peer.close)
        rng = random.Random(20261122)
        said = b""
        engines = itertools.cycle(engines)
        guest = self.start_transfers(next(engines))
        for _ in range(SUSPENDS):
            guest.expect(r"wrote 0x\w+\n", 60)
            time.sleep(rng.uniform(0, 0.2))
            run_tool(VMM, "ctl", "--config", self.directory, "suspend")
            self.assert_ends(guest, SUSPENDED, 60)
            guest.stream.wait_end(10)
            guest.stop()
            said += guest.stream.data
            self.check_image(said.count(b"\n"))
            guest = self.start_transfers(next(engines))
        guest.expect(r"wrote 0x\w+\n", 60)
        guest.send("q")
        self.assert_ends(guest, SUCCESS, 60)
        guest.stream.wait_end(10)
        said += guest.stream.data
        # The console, too, has lost nothing.
        rounds = said.count(b"wrote")
        log = "".join(f"wrote {i:#x}\n" for i in range(1, rounds + 1))
        match = re.fullmatch(log + r"sent (0x\w+), answered (0x\w+)\nPASS\n", said.decode())
        self.assertTrue(match, said[-3000:])
        self.check_image(rounds)
        sent, answered = (int(number, 16) for number in match.groups())
        self.assertEqual(peer.problems, [])
        self.assertEqual(peer.seen, sent)
        # An answer that was still in the socket when a run ended is lost, as on any network.
        self.assertLessEqual(answered, sent)
        self.assertLessEqual(sent - answered, AT_ONCE * SUSPENDS)

    def has_kvm(self):
        """Slow or not. Else says why there is none."""
        probe = json.loads(run_tool(VMM, "probe", "--json"))
        if not probe["kvm"]["present"]:
            print(f"not tried with KVM: {probe['reason']}")
        return probe["kvm"]["present"]

    def test_on_the_software_engines(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                self.check([engine])

    def test_on_kvm(self):
        if not self.has_kvm():
            self.skipTest("no KVM on this host")
        self.check(["kvm"])

    def test_from_one_engine_to_another(self):
        self.check([*ENGINES, *["kvm"] * self.has_kvm()])


if __name__ == "__main__":
    unittest.main()
