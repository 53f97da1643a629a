#!/usr/bin/env python3
"""Compiles ASL with iasl, every warning an error, into a C++ source that holds the table as bytes.

usage: compile_asl.py IASL ASL SOURCE HEADER FUNCTION

SOURCE defines vmm::FUNCTION(), which HEADER declares.
"""
import os
import subprocess
import sys
import tempfile

BYTES_A_LINE = 16
TEMPLATE = """// Made from {asl} by iasl.
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
    iasl, asl, source, header, function = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        prefix = os.path.join(scratch, "table")
        run = subprocess.run([iasl, "-we", "-I", os.path.dirname(asl), "-p", prefix, asl],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode != 0:
            sys.exit(run.stdout)
        with open(prefix + ".aml", "rb") as table:
            data = table.read()
    rows = ",\n      ".join(", ".join(f"0x{byte:02x}" for byte in data[at:at + BYTES_A_LINE])
                            for at in range(0, len(data), BYTES_A_LINE))
    with open(source, "w", encoding="ascii") as out:
        out.write(TEMPLATE.format(asl=os.path.basename(asl), header=header, function=function, rows=rows))


main()
