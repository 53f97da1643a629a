// How the guest's flags are made once more from what is left of the instruction that made them.
#pragma once

#include <array>
#include <cstdint>

#include "bt/translator/block_step.h"
#include "bt/translator/patcher.h"

namespace bt {

// Instructions that give the guest's flags, for as long as no register that they read has changed.
// Empty: there are none.
struct FlagRecipe {
  std::array<uint8_t, 16> bytes = {};
  uint8_t length = 0;
  uint16_t registers = 0;  // the guest's
  bool temp1 = false;      // they change kTemp1
  bool kept = false;       // and expect CodeState::kept there
  explicit operator bool() const { return length != 0; }
};

// Of a step that is copied, with its registers as `plan` has them; `kept`: what its first operand
// was before is in CodeState::kept.
FlagRecipe RecipeOf(const BlockStep& step, const PatchPlan& plan, bool kept);

// Whether there is a recipe only if the operand was kept: of a shift by a constant nothing else
// tells the carry.
bool WantsOperandKept(const BlockStep& step, const PatchPlan& plan);

}  // namespace bt
