// Bytes that are likely to be instructions.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>

#include "bt/isa/insn.h"

namespace bt::test {

using Bytes = std::array<uint8_t, 15>;

inline std::string Text(const Bytes& bytes) {
  std::string text;
  for (uint8_t byte : bytes)
    text += "0123456789abcdef"[byte >> 4], text += "0123456789abcdef"[byte & 15];
  return text;
}

// Prefixes in front, and opcodes of every map.
inline Bytes RandomBytes(std::mt19937& random, CodeSize size) {
  constexpr uint8_t kPrefixes[] = {0x66, 0x67, 0x64, 0x65, 0x2e, 0xf0, 0xf2, 0xf3};
  Bytes bytes;
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  unsigned at = 0;
  while (random() % 3 == 0 && at < 3) bytes[at++] = kPrefixes[random() % 8];
  if (size == CodeSize::k64 && random() % 2) bytes[at++] = 0x40 | (random() & 15);
  if (random() % 3 == 0) {
    bytes[at++] = 0x0f;
    if (random() % 4 == 0) bytes[at++] = random() % 2 ? 0x38 : 0x3a;
  } else if (random() % 6 == 0) {
    bytes[at++] = random() % 2 ? 0xc4 : 0xc5;
  }
  return bytes;
}

}  // namespace bt::test
