// Machine code as text, for people.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace bt {

// 64-bit `code` that runs at `address`: a line for each instruction, its address before it, in the
// syntax of the manuals. What is no instruction is one byte a line.
std::string Disassemble(std::span<const uint8_t> code, uint64_t address);

}  // namespace bt
