// Random legal instructions with random state, so that memory operands meet the mapped pages, their
// edges and the holes between them.
#pragma once

#include <span>

#include "case.h"
#include "forms.h"
#include "random.h"

namespace difftest {

class Generator {
 public:
  // The same seed gives the same cases.
  Generator(bt::CodeSize code_size, const Forms& forms, const bt::FeatureSet& features,
            uint64_t seed)
      : code_size_(code_size), forms_(forms), features_(features), random_(seed) {}
  // A case of forms.list[form].
  Case OfForm(size_t form);
  // A case of that very instruction.
  Case OfBytes(std::span<const uint8_t> bytes);
  // Any case: random bytes with odd prefixes, or an encoding that must be #UD.
  Case Any();

 private:
  bool Is64() const { return code_size_ == bt::CodeSize::k64; }
  void EncodeForm(const Form& form, bool stored_reg, std::vector<uint8_t>& code);
  void EncodeRandom(std::vector<uint8_t>& code);
  bool BreakEncoding(Case& out);
  bool Decodes(Case& out);
  void Finish(Case& out);
  void FillRegisters(Registers& registers);
  void FillRandom(std::span<uint8_t> bytes);
  void FillFpu(Registers& registers);
  void FillVectors(Registers& registers);
  uint64_t PlaceMemoryOperand(Case& out);
  void PlaceVectorIndex(Case& out, uint64_t target);
  void PatchDisplacement(Case& out, uint64_t target);
  void PrepareBranch(Case& out, uint64_t memory);
  void PrepareState(Case& out, uint64_t memory);
  void Poke(Case& out, uint64_t address, const void* bytes, size_t size);
  uint64_t BranchTarget(const Case& out);
  uint64_t Value();
  uint64_t DataAddress(unsigned size);
  // n < 2^32. Without a division, which is slow.
  uint64_t Below(uint64_t n) { return (random_() >> 32) * n >> 32; }
  bool OneIn(unsigned n) { return Below(n) == 0; }

  const bt::CodeSize code_size_;
  const Forms& forms_;
  const bt::FeatureSet& features_;
  Random random_;
};

}  // namespace difftest
