#include "use_check.h"

#include <algorithm>

#include "bt/isa/insn_use.h"
#include "family.h"

namespace difftest {
namespace {

using bt::InsnUse;
using bt::kArithmeticFlags;

struct Range {
  unsigned begin, end;
};
// Of the FXSAVE image: MXCSR and XMM registers, and the control, status and tag words with ST0 to
// ST7. [SDM 1] table 10-2
constexpr Range kVector[] = {{24, 28}, {160, 416}}, kX87[] = {{0, 5}, {32, 160}};

bool Same(std::span<const Range> ranges, const Registers& a, const Registers& b) {
  return std::ranges::all_of(ranges, [&](const Range& range) {
    return std::equal(a.fx.begin() + range.begin, a.fx.begin() + range.end,
                      b.fx.begin() + range.begin);
  });
}

bool SameVector(const Registers& a, const Registers& b) {
  return Same(kVector, a, b) && a.ymm_high == b.ymm_high;
}

uint64_t GprMask(const Case& test) {
  return test.insn.code_size == bt::CodeSize::k64 ? ~0ull : 0xffffffff;
}

// What has changed without being said to.
std::string CheckWrites(const Case& test, const InsnUse& use, std::span<const uint8_t> before,
                        const Result& after) {
  std::string text;
  const Registers &from = test.registers, &to = after.registers;
  for (unsigned reg = 0; reg < 16; ++reg) {
    if (!(use.gpr_written >> reg & 1) && ((from.gpr[reg] ^ to.gpr[reg]) & GprMask(test)))
      text += "  use: register " + std::to_string(reg) + " was written\n";
  }
  if ((from.rflags ^ to.rflags) & kArithmeticFlags & ~use.flags_written)
    text += "  use: more flags were written\n";
  if (!use.vector && !SameVector(from, to)) text += "  use: vector state was written\n";
  if (!use.x87 && !Same(kX87, from, to)) text += "  use: x87 state was written\n";
  if (!use.memory_written && !use.implicit_memory && !std::ranges::equal(before, after.memory))
    text += "  use: memory was written\n";
  return text;
}

// What of two runs differs that should not, where the second began with other values in what is not
// read.
std::string CheckReads(const Case& test, const InsnUse& use, const Registers& from,
                       const Result& first, const Result& second) {
  std::string text;
  const Outcome &a = first.outcome, &b = second.outcome;
  if (a.faulted != b.faulted || a.vector != b.vector || a.error != b.error || a.cr2 != b.cr2 ||
      a.rip != b.rip)
    text += "  use: it read more, for another fault or target came\n";
  for (unsigned reg = 0; reg < 16; ++reg) {
    const bool kept = !(use.gpr_read >> reg & 1) && (!(use.gpr_written >> reg & 1) || a.faulted);
    const uint64_t expected = kept ? from.gpr[reg] : first.registers.gpr[reg];
    if ((second.registers.gpr[reg] ^ expected) & GprMask(test))
      text += "  use: it read more, for register " + std::to_string(reg) + " differs\n";
  }
  const uint32_t flags =
      kArithmeticFlags & (a.faulted ? 0 : use.flags_written & ~test.insn.undefined_flags);
  uint64_t differing = (first.registers.rflags ^ second.registers.rflags) & flags;
  if (use.flags_kept_sometimes) differing &= second.registers.rflags ^ from.rflags;
  if (differing) text += "  use: it read more, for the flags differ\n";
  if (!SameVector(first.registers, second.registers) ||
      !Same(kX87, first.registers, second.registers))
    text += "  use: it read more, for vector or x87 state differs\n";
  if (!std::ranges::equal(first.memory, second.memory))
    text += "  use: it read more, for memory differs\n";
  return text;
}

}  // namespace

std::string UseCheck::Check(const Case& test, std::span<const uint8_t> before,
                            const Result& after) {
  if (test.illegal) return "";
  const InsnUse use = bt::UseOf(test.insn);
  std::string text = CheckWrites(test, use, before, after);
  // What XSAVEOPT and XSAVES leave out depends on what went before.
  if (FamilyOf(test.insn) == Family::XState) return text;
  memory_.assign(after.memory.begin(), after.memory.end());
  std::ranges::copy(before, after.memory.begin());
  Registers from = test.registers;
  for (unsigned reg = 0; reg < 16; ++reg) {
    if (!(use.gpr_read >> reg & 1)) from.gpr[reg] = random_() & GprMask(test);
  }
  from.rflags ^= random_() & kArithmeticFlags & ~use.flags_read;
  Result second{{}, from, after.memory};
  second.outcome = native_.Run(test, second.registers);
  const Result first{after.outcome, after.registers, memory_};
  text += CheckReads(test, use, from, first, second);
  std::ranges::copy(memory_, after.memory.begin());
  return text;
}

}  // namespace difftest
