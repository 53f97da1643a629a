// What each instruction changes of what the verifier knows.
#include "bt/translator/code_walk.h"

#include <fmt/format.h>

#include <utility>

#include "bt/translator/block_translator.h"

namespace bt {

using State = VerifierState;

std::string CodeWalk::Run() {
  for (const CodeVerifier::Entry& entry : code_.entries) {
    State state;
    (entry.flags == FlagHome::kHost ? state.in_host : state.in_memory) = true;
    if (context_.direct) {
      state.vectors = static_cast<uint32_t>(VectorUse::kAvx);
      state.x87 = true;
    }
    Reach(entry.at, state);
  }
  while (!open_.empty() && fault_.empty()) {
    at_ = open_.back();
    open_.pop_back();
    Node& node = nodes_.at(at_);
    node.open = false;
    state_ = node.before;
    insn_ = node.insn;
    use_ = node.use;
    Step();
  }
  if (fault_.empty()) return {};
  return fmt::format("{} at {:#x}: {:02x}", fault_, at_,
                     fmt::join(insn_.bytes.begin(), insn_.bytes.begin() + insn_.length, " "));
}

void CodeWalk::FollowPointers() {
  const CodeState& state = context_.state;
  if (const int slot = OverlapsSlots() ? SlotNamed() : -1; slot >= 0 && use_.memory_written) {
    state_.slots[slot] = Named(kTemp0) ? state_.pointer0() : state_.pointer1;
    return;
  }
  if (!use_.memory_written || insn_.mem.base != MemoryOperand::kRip) return;
  if (Within(context_.r, kSlots) || Within(&context_.flags, 1) || Within(&state, 1) ||
      (context_.direct && Is(*context_.bell)) || Within(context_.fpu + FpuState::kFip, 16))
    return;
  const uint64_t changed = insn_.mnemonic == Mnemonic::AND ? ~operand(1).imm : operand(1).imm;
  if (Within(&context_.rflags, 1) && IsImm(1) &&
      (static_cast<uint32_t>(changed) & ~static_cast<uint32_t>(eflags::IF)) == 0)
    return;
  state_.ForgetPointers();
}

// To and from the slots of the guest's registers: a register is borrowed once its own value is in
// its slot, and is given back its own only then. Temps have none: they are the guest's from where
// its value comes to where that goes home.
void CodeWalk::FollowLoans() {
  const uint16_t saved = state_.saved;
  state_.saved &= static_cast<uint16_t>(~use_.gpr_written);
  if (insn_.mnemonic != Mnemonic::MOV || !HasMemory(insn_) ||
      insn_.mem.base != MemoryOperand::kRip || !Within(context_.r, 16))
    return;
  const Operand& reg = operand(IsMem(0) ? 1 : 0);
  if (reg.kind != OperandKind::kReg || reg.bits != 64 || reg.reg == kGuestRsp) return;
  const auto bit = static_cast<uint16_t>(1 << reg.reg);
  const bool lent = (state_.lent & bit) != 0;
  if (reg.reg == kTemp0 || reg.reg == kTemp1) {
    if (!Is(context_.r[reg.reg])) return Require(!lent, "a lent register is another one's value");
    Require(lent == IsMem(0), "a register that was not lent goes home, or is lent twice");
    state_.lent ^= bit;
    return;
  }
  const bool own = Is(context_.r[host_.SlotOf(reg.reg)]);
  if (own && IsMem(0)) {
    Require(!lent, "a borrowed register's value in a slot that is not its own");
    state_.saved |= bit;
  } else if (own) {
    Require(lent, "a register that was not borrowed is given back");
    state_.lent &= static_cast<uint16_t>(~bit);
  } else if (IsMem(0)) {
    Require(lent, "a register that was not borrowed is another one's value");
  } else {
    Require(!lent && (saved & bit), "a register is borrowed that was not saved");
    state_.lent |= bit;
  }
}

void CodeWalk::FollowFlags() {
  const State::Restoring restoring = std::exchange(state_.restoring, State::Restoring::kNo);
  if (Is(context_.flags) && use_.memory_written) {
    Require(state_.in_host, "flags that are not there are saved");
    Require(IsTemp(kTemp1), "a lent register was needed");
    state_.in_memory = true;
    return;
  }
  if (Is(context_.flags) && insn_.mnemonic == Mnemonic::BT) {
    Require(state_.in_memory && operand(0).bits == 16 && IsImm(1) && operand(1).imm == 8,
            "no carry flag is brought back");
    state_.Ask(State::Asked::kNothing);
    state_.in_host = false;
    state_.carry = true;
    return;
  }
  if (Is(context_.flags)) {
    Require(state_.in_memory, "flags that are not there are brought back");
    Require(IsTemp(kTemp1), "a lent register is needed");
    state_.restoring = State::Restoring::kRead;
    return;
  }
  if (restoring == State::Restoring::kOverflow && insn_.mnemonic == Mnemonic::SAHF) {
    state_.in_host = state_.in_memory;
    return;
  }
  // Strings look at DF alone.
  if (context_.direct && TreatmentOf(insn_, use_) == Treatment::kRepeat) return;
  if (use_.flags_read == 0 && use_.flags_written == 0) return;
  state_.asked = State::Asked::kNothing;
  if (restoring == State::Restoring::kRead && insn_.mnemonic == Mnemonic::ADD &&
      IsGpr(operand(0), 0) && IsImm(1) && (operand(1).imm & 0xff) == 0x7f)
    state_.restoring = State::Restoring::kOverflow;
  if (IsGpr(operand(0), kTemp1) && IsTemp(kTemp1)) {
    if (const State::FlagRecipe recipe = state_.RecipeOnTemp1(insn_))
      return state_.MakeFlags(recipe);
  }
  if (IsOurs() || restoring == State::Restoring::kRead) {
    Require(state_.in_memory || state_.recipe, "the guest's flags are lost");
    state_.in_host = state_.carry = false;
    return;
  }
  const bool there =
      state_.in_host || OverwritesFlags(insn_, use_) || (state_.carry && NeedsOnlyCarry(insn_));
  if (!there && use_.flags_written != 0 && use_.flags_read == 0) return state_.LoseFlags();
  Require(there, "flags that are not there");
  if (use_.flags_written == 0) return;
  state_.MakeFlags(state_.RecipeOf(insn_, use_));
}

void CodeWalk::FollowMxcsr() {
  using Mxcsr = State::Mxcsr;
  const Mxcsr before = std::exchange(state_.mxcsr, Mxcsr::kNo);
  const uint8_t in = std::exchange(state_.mxcsr_in, 0);
  const auto step = [&](Mxcsr to, unsigned reg) {
    state_.mxcsr = to;
    state_.mxcsr_in = static_cast<uint8_t>(reg);
  };
  const auto on = [&](Mnemonic what, uint64_t with) {
    return insn_.mnemonic == what && IsGpr(operand(0), in) && operand(0).bits == 32 && IsImm(1) &&
           static_cast<uint32_t>(operand(1).imm) == static_cast<uint32_t>(with);
  };
  if (insn_.mnemonic == Mnemonic::MOV && Is(context_.state.scratch) && use_.memory_written &&
      operand(1).kind == OperandKind::kReg && operand(1).bits == 32)
    step(Mxcsr::kStored, operand(1).reg);
  if (before == Mxcsr::kStored &&
      on(Mnemonic::AND, kMxcsrMasks | kMxcsrMisaligned | ~TheHostFpu().mxcsr_mask))
    step(Mxcsr::kMasked, in);
  if (before == Mxcsr::kMasked && on(Mnemonic::CMP, kMxcsrMasks)) step(Mxcsr::kCompared, in);
}

// What was an operand of a flag-making instruction comes to kTemp1, and from a register to
// CodeState::kept.
void CodeWalk::FollowOperand(const State& before) {
  using T1 = State::Temp1;
  const CodeState& state = context_.state;
  if (Is(state.kept) && IsMem(0)) {
    if (state_.recipe.to == State::FlagRecipe::kKept) state_.SetRecipe({});
    state_.kept = static_cast<uint8_t>(operand(1).reg);
    return;
  }
  if (!IsGpr(operand(0), kTemp1) || !IsTemp(kTemp1)) return;
  const uint16_t bits = operand(0).bits;
  const auto becomes = [&](T1 what, Mnemonic mnemonic, uint8_t to, uint8_t from,
                           uint64_t constant) {
    if (bits < 32 || IsTemp(to) || IsTemp(from)) return;
    state_.temp1 = what;
    const auto bit = [](uint8_t reg) { return reg < 16 ? 1u << reg : 0; };
    state_.operand = {mnemonic, static_cast<uint16_t>(bit(to) | bit(from)), bits, to, from,
                      constant};
  };
  constexpr uint8_t kConstant = State::FlagRecipe::kConstant, kKept = State::FlagRecipe::kKept;
  const bool reg = operand(1).kind == OperandKind::kReg;
  const MemoryOperand& mem = insn_.mem;
  switch (insn_.mnemonic) {
    case Mnemonic::MOV:
      if (reg) becomes(T1::kResult, Mnemonic::ADD, operand(1).reg, kConstant, 0);
      if (Is(state.kept) && state_.kept == State::kKeptOperand)
        becomes(T1::kOperand, Mnemonic::INVALID, kKept, kConstant, 0);
      return;
    case Mnemonic::SUB:
      if (reg && before.temp1 == T1::kResult && before.operand.bits == bits)
        becomes(T1::kOperand, Mnemonic::ADD, before.operand.to, operand(1).reg, 0);
      return;
    case Mnemonic::LEA:
      if (insn_.address_bits != 64 || mem.base > 15) return;
      if (mem.index == MemoryOperand::kNoReg)
        becomes(T1::kOperand, Mnemonic::INVALID, mem.base, kConstant,
                static_cast<uint64_t>(mem.disp));
      else if (mem.shift == 0 && mem.disp == 0)
        becomes(T1::kOperand, Mnemonic::SUB, mem.base, mem.index, 0);
      return;
    default:
      return;
  }
}

void CodeWalk::FollowTemps() {
  using T0 = State::Temp0;
  using T1 = State::Temp1;
  using Asked = State::Asked;
  const State before = state_;
  if (use_.gpr_written >> kTemp1 & 1) state_.ForgetTemp1();
  if (use_.gpr_written >> kTemp0 & 1) state_.ForgetTemp0();
  FollowOperand(before);
  const bool wide = operand(0).bits == 64;
  const bool on_temp0 = IsGpr(operand(0), kTemp0), on_temp1 = IsGpr(operand(0), kTemp1);
  const auto disp = static_cast<uint64_t>(insn_.mem.disp);
  const bool of_bank = HasMemory(insn_) && insn_.mem.base == kTemp1;
  switch (insn_.mnemonic) {
    case Mnemonic::AND:
      if (on_temp0 && wide && before.temp1 == T1::kTarget && IsImm(1) &&
          operand(1).imm == ~(vmm::kPageSize - 1)) {
        state_.temp1 = T1::kTarget;
        state_.temp0 = T0::kPage;
      }
      if (!on_temp1 || operand(0).bits < 32 || !IsImm(1) || operand(1).imm >> 31) break;
      state_.temp1 = operand(1).imm % sizeof(TlbEntry) == 0 ? T1::kIndex : T1::kBit;
      state_.index = static_cast<uint32_t>(operand(1).imm);
      break;
    case Mnemonic::ADD:
      if (on_temp1 && wide && before.temp1 == T1::kIndex && Is(context_.tlb)) {
        state_.temp1 = T1::kBank;
        state_.index = before.index;
      }
      if (on_temp1 && wide && before.temp1 == T1::kIndex && before.index <= JumpTable::kIndexMask &&
          Is(context_.jumps))
        state_.temp1 = T1::kEntry;
      if (on_temp0 && wide && of_bank && before.temp0 == T0::kInPage &&
          disp == Bank(before.write_bank) + offsetof(TlbEntry, page)) {
        state_ = before;
        state_.temp0 = T0::kHost;
      }
      if (on_temp0 && wide && of_bank && before.temp1 == T1::kTlb) {
        const bool back = before.OfRange() && IsOfRange(before.range, offsetof(LinearRange, begin));
        if (back) state_.alignment = before.alignment;
        if (before.temp0 != T0::kInRange || !IsOfRange(before.range, offsetof(LinearRange, host)))
          break;
        state_.SetPointer0({LinearRange::kWidest, before.alignment, false});
      }
      if (on_temp0 && wide && before.temp0 == T0::kNear && IsImm(1)) {
        state_.temp0 = T0::kNear;
        state_.near.distance = before.near.distance + static_cast<int64_t>(operand(1).imm);
      }
      break;
    case Mnemonic::SUB:
      if (!on_temp0 || !wide || !of_bank || before.temp1 != T1::kTlb) break;
      for (uint8_t i = 0; i < TlbBank::kRanges; ++i) {
        if (!IsOfRange(i, offsetof(LinearRange, begin))) continue;
        state_.temp0 = T0::kOffset;
        state_.range = i;
        state_.alignment = before.alignment;
      }
      break;
    case Mnemonic::XOR:
      if (!on_temp0 || !wide || !of_bank || before.temp1 != T1::kBank) break;
      if (disp != Bank(false) && disp != Bank(true)) break;
      state_.temp0 = T0::kTag;
      state_.write_bank = disp == Bank(true);
      state_.alignment = before.alignment;
      break;
    case Mnemonic::MOV:
      if (on_temp0 && wide && Is(context_.state.apic)) state_.temp0 = T0::kApic;
      if (OverlapsSlots() && IsMem(1)) state_.LoadSlot(SlotNamed(), on_temp1);
      if (on_temp1 && wide && Is(context_.tlb)) state_.temp1 = T1::kTlb;
      if (on_temp1 && wide && Is(context_.jumps)) state_.temp1 = T1::kTable;
      if (on_temp0 && wide && Is(context_.state.page)) {
        state_.temp0 = T0::kNear;
        state_.near = state_.running;
      }
      if (!Is(context_.state.page) || !use_.memory_written) break;
      state_.running = {0, State::kUnknownPage};
      if (state_.temp0 == T0::kFound && IsGpr(operand(1), kTemp0)) state_.running = state_.near;
      if (state_.temp1 == T1::kPaged) state_.ForgetTemp1();
      if (state_.temp1 == T1::kTarget && state_.temp0 == T0::kPage && IsGpr(operand(1), kTemp0))
        state_.temp1 = T1::kPaged;
      break;
    case Mnemonic::TEST:
      if (on_temp0 && operand(0).bits == 8 && IsImm(1)) {
        const uint64_t alignment = (operand(1).imm & 0xff) + 1;
        state_.Ask(std::has_single_bit(alignment) ? Asked::kAlignment : Asked::kOther, alignment);
      } else {
        state_.Ask(Asked::kOther);
      }
      break;
    case Mnemonic::CMP:
      state_.Ask(Asked::kOther);
      if (on_temp0 && wide && of_bank && before.temp1 == T1::kEntry) state_.Ask(Asked::kTarget);
      if (on_temp0 && wide && of_bank && before.temp1 == T1::kTable && before.temp0 == T0::kNear)
        state_.Ask(Asked::kPage, PageNamed());
      if (on_temp0 && wide && of_bank && before.temp1 == T1::kTlb && before.temp0 == T0::kOffset &&
          IsOfRange(before.range, offsetof(LinearRange, size)))
        state_.Ask(Asked::kRange);
      if (!IsImm(1)) break;
      if (on_temp0 && wide && before.temp0 == T0::kTag && operand(1).imm <= vmm::kPageSize)
        state_.Ask(Asked::kSize, vmm::kPageSize - operand(1).imm);
      if (on_temp0 && (before.temp0 == T0::kVectors || before.temp0 == T0::kX87))
        state_.Ask(Asked::kLoaded, operand(1).imm);
      if (Is(context_.state.vector)) state_.Ask(Asked::kVectors, operand(1).imm);
      if (Is(context_.state.x87)) state_.Ask(Asked::kX87, operand(1).imm);
      break;
    default:
      break;
  }
}

}  // namespace bt
