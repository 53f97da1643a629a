#include "bt/translator/verifier_state.h"

#include "vmm/core/base/types.h"

namespace bt {

VerifierState VerifierState::Answered(Mnemonic jump, bool taken) const {
  VerifierState state = *this;
  const bool not_above = jump == Mnemonic::JNBE && !taken;
  const bool not_below = (jump == Mnemonic::JB && !taken) || (jump == Mnemonic::JNB && taken);
  const bool zero = jump == Mnemonic::JNZ && !taken;
  if (state.asked == Asked::kSize && not_above) {
    state.temp0 = Temp0::kInPage;
    state.size = state.value;
  }
  if (state.asked == Asked::kTarget && zero && state.temp1 == Temp1::kEntry)
    state.temp1 = Temp1::kTarget;
  if (state.asked == Asked::kPage && zero && state.temp0 == Temp0::kNear) {
    state.temp0 = Temp0::kFound;
    state.near.page = state.value;
    if (state.running == Place{} && state.near.distance == vmm::kPageSize) state.tail = state.value;
  }
  if (state.asked == Asked::kAlignment && zero) state.alignment = state.value;
  if (not_below && state.asked == Asked::kLoaded && state.value > 0) {
    if (state.temp0 == Temp0::kX87) state.x87 = true;
    state.vectors = std::max(state.permitted, state.value);
  }
  if (not_below && state.asked == Asked::kVectors)
    state.vectors = std::max(state.vectors, state.value);
  if (not_below && state.asked == Asked::kX87 && state.value > 0) {
    state.x87 = true;
    state.vectors = std::max(state.vectors, 1u);
  }
  state.permitted = std::max(state.permitted, state.vectors);
  state.Ask(Asked::kNothing);
  return state;
}

}  // namespace bt
