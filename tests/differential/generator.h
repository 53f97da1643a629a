// Random legal instructions with random state, so that memory operands meet the mapped pages, their
// edges and the holes between them.
#pragma once

#include <random>
#include <vector>

#include "bt/isa/insn.h"
#include "native_cpu.h"

namespace difftest {

struct Case {
  std::vector<uint8_t> code;
  bt::Insn insn;
  Registers registers;
};

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}
  Case Next();
  // What a case counts as: mnemonic, operand size, memory or register.
  static uint64_t FormOf(const bt::Insn& insn);

 private:
  bool TryEncode(Case& out);
  void FillRegisters(Registers& registers);
  void FillFpu(Registers& registers);
  void PlaceMemoryOperand(Case& out);
  uint64_t Value();
  uint64_t DataAddress(unsigned size);
  uint64_t Below(uint64_t n) { return random_() % n; }
  bool OneIn(unsigned n) { return Below(n) == 0; }

  std::mt19937_64 random_;
};

}  // namespace difftest
