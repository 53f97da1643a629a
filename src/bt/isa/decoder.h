// Bytes to Insn. Zydis stands behind it and is seen by decoder.cc only.
#pragma once

#include <cstdint>
#include <span>

#include "bt/isa/insn.h"

namespace bt {

enum class DecodeStatus : uint8_t {
  kOk,
  kNeedMoreBytes,  // the instruction runs past the end of `bytes`
  kInvalid,        // no such encoding, not on our list, or over 15 bytes
};

// `bytes` start at the instruction. Thread-safe: each thread has a DecodeCache.
DecodeStatus Decode(std::span<const uint8_t> bytes, CodeSize code_size, Insn& insn);

// The same without the cache: about 0.5 us.
DecodeStatus DecodeByZydis(std::span<const uint8_t> bytes, CodeSize code_size, Insn& insn);

// The manual's name, for messages.
const char* MnemonicName(Mnemonic mnemonic);

}  // namespace bt
