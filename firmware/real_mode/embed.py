#!/usr/bin/env python3
"""Assembles a flat binary with nasm into a C++ source that holds it as bytes.

usage: embed.py NASM ASM SOURCE HEADER FUNCTION

SOURCE defines vmm::FUNCTION(), which HEADER declares.
"""
import os
import subprocess
import sys
import tempfile

BYTES_A_LINE = 16
TEMPLATE = """// Made from {asm} by nasm.
#include "{header}"

namespace vmm {{

std::span<const uint8_t> {function}() {{
  static constexpr uint8_t kBytes[] = {{
      {rows}}};
  return kBytes;
}}

}}  // namespace vmm
"""


def main():
    nasm, asm, source, header, function = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        binary = os.path.join(scratch, "binary")
        run = subprocess.run([nasm, "-w+error", "-f", "bin", "-o", binary, asm],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode != 0:
            sys.exit(run.stdout)
        with open(binary, "rb") as file:
            data = file.read()
    rows = ",\n      ".join(", ".join(f"0x{byte:02x}" for byte in data[at:at + BYTES_A_LINE])
                            for at in range(0, len(data), BYTES_A_LINE))
    with open(source, "w", encoding="ascii") as out:
        out.write(TEMPLATE.format(asm=os.path.basename(asm), header=header, function=function, rows=rows))


main()
