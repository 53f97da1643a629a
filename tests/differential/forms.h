// Every form of every instruction that the guest may use, found by decoding all there is to decode.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bt/interp/feature_set.h"
#include "bt/isa/insn.h"

namespace difftest {

// A form: mnemonic, opcode, operand size, register or memory, prefixes, VEX.L and W. The rest is
// how to encode it.
struct Form {
  uint64_t key = 0;
  bt::Mnemonic mnemonic = bt::Mnemonic::INVALID;
  std::vector<uint8_t> prefixes;
  bool rex_w = false, vex = false, vex_256 = false, vvvv = false;
  uint8_t pp = 0, map = 0, opcode = 0;
  bool modrm = false, memory = false, sib = false;
  uint8_t reg = 0, rm = 0;  // as first found; in groups `reg` is part of the opcode
};

struct Forms {
  std::vector<Form> list;
  std::vector<std::string> excluded;  // "MNEMONIC: reason", of rows of which nothing is in `list`
  std::vector<std::string> missing;   // rows that are neither generated nor excluded: must be empty
  unsigned advertised_rows = 0, generated_rows = 0;
};

uint64_t FormKey(const bt::Insn& insn);
// `features`: of the guest.
Forms FindForms(bt::CodeSize code_size, const bt::FeatureSet& features);

}  // namespace difftest
