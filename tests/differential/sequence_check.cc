#include "sequence_check.h"

#include <algorithm>

#include "accesses.h"
#include "family.h"
#include "neighbours.h"

namespace difftest {

void SequenceCheck::Keep(const Case& test, const bt::InsnUse& use) {
  // Only what depends on nothing but registers, and what is the same in every engine.
  const bool registers_only = !use.memory_read && !use.memory_written && !use.implicit_memory;
  const Family family = FamilyOf(test.insn);
  if (!registers_only || test.transfers || test.insn.undefined_flags || family == Family::XState)
    return;
  Kept kept{test.code, use.gpr_written, use.flags_read};
  if (kept_.size() < kKept)
    kept_.push_back(std::move(kept));
  else
    kept_[random_() % kKept] = std::move(kept);
}

unsigned SequenceCheck::Pick(uint16_t spared, uint32_t flags, std::vector<uint8_t>& code) {
  unsigned count = 0;
  for (uint64_t tries = random_() % 6; tries > 0 && !kept_.empty(); --tries) {
    const Kept& kept = kept_[random_() % kept_.size()];
    if ((kept.written & spared) || (kept.flags_read & flags) ||
        code.size() + kept.code.size() > kMaxNeighbours)
      continue;
    code.insert(code.end(), kept.code.begin(), kept.code.end());
    ++count;
  }
  return count;
}

unsigned SequenceCheck::Surround(const Case& test, uint16_t spared, std::vector<uint8_t>& code) {
  // What is ignored must not be read.
  if (!test.ignored.empty() || random_() % 2) return 0;
  unsigned count = 0;
  for (uint64_t tries = random_() % 6; tries > 0; --tries) {
    std::vector<uint8_t> access;
    if (!AddAccess(test.insn, spared, random_, access) ||
        code.size() + access.size() > kMaxNeighbours)
      continue;
    code.insert(code.end(), access.begin(), access.end());
    ++count;
  }
  return count;
}

std::string SequenceCheck::Check(const Case& test, bool faulted) {
  if (test.illegal) return "";
  const bt::InsnUse use = bt::UseOf(test.insn);
  std::vector<uint8_t> before, after;
  unsigned steps = 1 + Pick(use.gpr_read, 0, before) + Surround(test, use.gpr_read, before);
  // Flags that are left undefined are another thing in each engine.
  if (!test.transfers)
    steps += Pick(0, test.insn.undefined_flags, after) + Surround(test, 0, after);
  if (!faulted) Keep(test, use);
  Result reference{{}, test.registers, interpreter_.writable()};
  Result result{{}, test.registers, translator_.writable()};
  reference.outcome = interpreter_.RunSteps(test, before, after, steps, reference.registers);
  // A branch back into the sequence ends only the interpreter's run.
  const uint64_t start = kInsn - before.size(), size = before.size() + test.code.size();
  if (test.transfers && reference.outcome.rip - start < size && !reference.outcome.faulted) {
    std::ranges::copy(reference.memory, result.memory.begin());
    return "";
  }
  result.outcome = translator_.RunTranslated(test, before, after, result.registers);
  std::string text = Compare(test, "translator", reference, result);
  if (text.empty()) return text;
  char byte[4];
  std::string code;
  for (const auto* part : {&before, &after}) {
    code += part == &before ? "  among" : " and";
    for (uint8_t value : *part) {
      std::snprintf(byte, sizeof(byte), " %02x", value);
      code += byte;
    }
  }
  return code + "\n" + text;
}

}  // namespace difftest
