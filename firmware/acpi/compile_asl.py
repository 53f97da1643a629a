#!/usr/bin/env python3
"""Compiles ASL with iasl, every warning an error, into a C++ header that holds the table as bytes.

usage: compile_asl.py IASL SOURCE HEADER CONSTANT
"""
import os
import subprocess
import sys
import tempfile

BYTES_A_LINE = 16


def main():
    iasl, source, header, constant = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        prefix = os.path.join(scratch, "table")
        run = subprocess.run(
            [iasl, "-we", "-I", os.path.dirname(source), "-p", prefix, source],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode != 0:
            sys.exit(run.stdout)
        with open(prefix + ".aml", "rb") as table:
            data = table.read()
    lines = [", ".join(f"0x{byte:02x}" for byte in data[at:at + BYTES_A_LINE])
             for at in range(0, len(data), BYTES_A_LINE)]
    with open(header, "w", encoding="ascii") as out:
        out.write(f"// Made from {os.path.basename(source)} by iasl.\n#pragma once\n\n"
                  "#include <cstdint>\n\nnamespace vmm {\n\n"
                  f"inline constexpr uint8_t {constant}[] = {{\n    "
                  + ",\n    ".join(lines) + "};\n\n}  // namespace vmm\n")


main()
