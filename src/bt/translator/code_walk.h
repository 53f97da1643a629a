// One run of the verifier over one piece of code.
#pragma once

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "bt/interp/fpu.h"
#include "bt/interp/tlb.h"
#include "bt/isa/decoder.h"
#include "bt/translator/code_verifier.h"
#include "bt/translator/host_registers.h"
#include "bt/translator/jump_tables.h"
#include "bt/translator/treatment.h"
#include "bt/translator/verifier_state.h"

namespace bt {

class CodeWalk {
 public:
  CodeWalk(const CodeSpace& space, const CodeContext& context, const Stubs& stubs,
           const CodeVerifier::Code& code)
      : space_(space), context_(context), host_(context.direct), stubs_(stubs), code_(code) {}

  std::string Run();

 private:
  using State = VerifierState;
  struct Node {
    State before;
    Insn insn;
    InsnUse use;
    bool open = true;
  };

  void Fault(const char* what) {
    if (fault_.empty()) fault_ = what;
  }
  void Require(bool holds, const char* what) {
    if (!holds) Fault(what);
  }

  void Reach(CodeSpace::Offset at, const State& state) {
    const CodeVerifier::Range& range = code_.hot.Contains(at) ? code_.hot : code_.cold;
    if (!range.Contains(at)) return Fault("leads out of the code");
    if (const auto found = nodes_.find(at); found != nodes_.end()) {
      Node& node = found->second;
      const State before = node.before;
      node.before.Meet(state);
      if (node.before == before || node.open) return;
      node.open = true;
      return open_.push_back(at);
    }
    Node node{state, {}, {}};
    const size_t most = std::min<size_t>(15, range.end - at);
    if (Decode({space_.seen(at), most}, CodeSize::k64, node.insn) != DecodeStatus::kOk)
      return Fault("leads to no instruction");
    node.use = UseOf(node.insn);
    nodes_.emplace(at, node);
    open_.push_back(at);
  }

  const Operand& operand(unsigned i) const { return insn_.operand[i]; }
  bool Named(unsigned reg) const {
    for (unsigned i = 0; i < insn_.operand_count; ++i) {
      if (IsGpr(operand(i), reg)) return true;
    }
    return false;
  }
  bool IsImm(unsigned i) const { return operand(i).kind == OperandKind::kImm; }
  bool IsMem(unsigned i) const { return operand(i).kind == OperandKind::kMem; }

  uint64_t RipTarget() const {
    return reinterpret_cast<uint64_t>(space_.seen(at_)) + insn_.length +
           static_cast<uint64_t>(insn_.mem.disp);
  }
  template <class T>
  bool Is(const T& variable) const {
    return insn_.mem.base == MemoryOperand::kRip &&
           RipTarget() == reinterpret_cast<uint64_t>(&variable);
  }
  template <class T>
  bool Within(const T* begin, size_t count) const {
    const auto first = reinterpret_cast<uint64_t>(begin);
    return RipTarget() >= first && RipTarget() + MemoryBytes(insn_) <= first + count * sizeof(T);
  }

  // Relative to RIP: what of the vCPU is ours to read or write.
  bool OfVcpu() const {
    const CodeState& state = context_.state;
    const bool pointers = Within(&state.host_rsp, 7);
    if (OverlapsSlots()) return SlotNamed() >= 0;
    if (Is(state.kept)) return insn_.mnemonic == Mnemonic::MOV && MemoryBytes(insn_) == 8;
    if (Within(&context_.instructions, 1)) return true;
    if (Within(context_.r, kSlots) || Within(&context_.flags, 1)) return true;
    if (Within(&state, 1) && !pointers) return true;
    if (Within(context_.fpu + FpuState::kFip, 16)) return true;
    if (Within(&context_.rflags, 1))
      return !use_.memory_written ||
             (IsImm(1) && (insn_.mnemonic == Mnemonic::AND || insn_.mnemonic == Mnemonic::OR));
    if (use_.memory_written) return false;
    return pointers || Within(&context_.jumps, 1) || Within(&context_.cpl, 1) ||
           Within(&context_.turn_end, 1) || Within(&context_.tlb, 1) ||
           Within(context_.seg_base, 6) || IsSelector() || Within(&context_.lookup_key, 1) ||
           Within(&context_.attention, 1);
  }

  bool IsSelector() const {
    for (unsigned i = 0; i < 6; ++i) {
      if (Within(&context_.seg[i].selector, 1)) return true;
    }
    return false;
  }

  bool OverlapsSlots() const {
    const auto first = reinterpret_cast<uint64_t>(&context_.state.span);
    return insn_.mem.base == MemoryOperand::kRip &&
           RipTarget() < first + sizeof(context_.state.span) &&
           RipTarget() + MemoryBytes(insn_) > first;
  }
  // The slot that the instruction moves to or from kTemp0 or kTemp1; negative: none.
  int SlotNamed() const {
    if (insn_.mnemonic != Mnemonic::MOV || MemoryBytes(insn_) != 8) return -1;
    if (!Named(kTemp0) && !Named(kTemp1)) return -1;
    for (unsigned i = 0; i < kSpanSlots; ++i) {
      if (Is(context_.state.span[i])) return static_cast<int>(i);
    }
    return -1;
  }

  // [a JumpTable + disp]: where the page of a number is; kUnknownPage: it is something else.
  uint32_t PageNamed() const {
    const uint64_t at = static_cast<uint64_t>(insn_.mem.disp) - offsetof(JumpTable, pages);
    if (at >= sizeof(JumpTable::pages) || at % sizeof(uint64_t) != 0) return State::kUnknownPage;
    return static_cast<uint32_t>(at / sizeof(uint64_t));
  }

  // [kTemp1 + disp]: a tag or a page of a bank, or the address of an indirect target.
  bool OfBank() const {
    if (state_.temp1 == State::Temp1::kTable)
      return insn_.mnemonic == Mnemonic::CMP && IsGpr(operand(0), kTemp0) &&
             MemoryBytes(insn_) == 8 && PageNamed() != State::kUnknownPage;
    if (state_.temp1 == State::Temp1::kEntry)
      return insn_.mnemonic == Mnemonic::CMP && IsGpr(operand(0), kTemp0) &&
             MemoryBytes(insn_) == 8 && insn_.mem.disp == offsetof(JumpTarget, linear);
    if (state_.temp1 == State::Temp1::kTlb)
      return (insn_.mnemonic == Mnemonic::SUB || insn_.mnemonic == Mnemonic::CMP ||
              insn_.mnemonic == Mnemonic::ADD) &&
             IsGpr(operand(0), kTemp0) && MemoryBytes(insn_) == 8 &&
             static_cast<uint64_t>(insn_.mem.disp) - offsetof(TlbBank, ranges) <
                 sizeof(TlbBank::ranges);
    if (state_.temp1 != State::Temp1::kBank || use_.memory_written || MemoryBytes(insn_) != 8)
      return false;
    const auto in = [&](size_t entries, size_t bytes) {
      const auto disp = static_cast<uint64_t>(insn_.mem.disp);
      return (disp == entries || disp == entries + offsetof(TlbEntry, page)) &&
             state_.index < bytes;
    };
    return in(offsetof(TlbBank, read.entries), sizeof(TlbBank::read.entries)) ||
           in(offsetof(TlbBank, write.entries), sizeof(TlbBank::write.entries));
  }

  // Whether the register is ours at present, and no home of the guest's.
  bool IsTemp(unsigned reg) const {
    return (reg == kTemp0 || reg == kTemp1) && !(state_.lent >> reg & 1);
  }
  // Of direct code: a memory operand of the guest's, and the way that a fault of it leads.
  bool OfGuest() const {
    return context_.direct && HasMemory(insn_) && insn_.mem.base != MemoryOperand::kRip &&
           !(insn_.mem.base == kTemp1 && IsTemp(kTemp1));
  }
  // A push or pop of the guest's stack, which RSP points to there.
  bool OnStack(Treatment how) const {
    return context_.direct &&
           (how == Treatment::kPush || how == Treatment::kPop || how == Treatment::kLeave);
  }
  // An instruction of the guest's that has a register from where that lives.
  bool OfSlot() const {
    if (!HasMemory(insn_) || insn_.mem.base != MemoryOperand::kRip || use_.memory_written)
      return false;
    for (const uint8_t reg : {9, 10, 11}) {
      if (Is(context_.r[reg]) && insn_.mnemonic != Mnemonic::MOV) return true;
    }
    return false;
  }
  void FollowFault() {
    const auto access =
        std::find_if(code_.accesses.begin(), code_.accesses.end(),
                     [this](const DirectAccess& one) { return one.begin <= at_ && at_ < one.end; });
    if (access == code_.accesses.end()) return Fault("memory without a check");
    State faulted;
    faulted.in_host = state_.in_host;
    faulted.in_memory = state_.in_memory;
    faulted.running = state_.running;
    faulted.tail = state_.tail;
    faulted.lent = state_.lent;
    if (state_.OfTable()) faulted.temp1 = State::Temp1::kEntry;
    ReachAny(access->stub, faulted);
  }

  void CheckMemory() {
    const bool repeat = context_.direct && TreatmentOf(insn_, use_) == Treatment::kRepeat;
    const bool stack = OnStack(TreatmentOf(insn_, use_)) && (!HasMemory(insn_) || OfGuest());
    if (repeat || stack || (OfGuest() && (use_.memory_read || use_.memory_written))) {
      Require(repeat || !HasMemory(insn_) || (insn_.mem.segment < 4 && !IsTemp(insn_.mem.index)),
              "memory of a strange shape");
      return FollowFault();
    }
    if (!HasMemory(insn_) || (!use_.memory_read && !use_.memory_written)) return;
    if (context_.direct && Is(*context_.bell)) {
      Require(insn_.mnemonic == Mnemonic::MOV && IsMem(0) && IsGpr(operand(1), kTemp0),
              "more of the bell than a word of it");
      return FollowFault();
    }
    const MemoryOperand& mem = insn_.mem;
    Require(insn_.address_bits == 64 && mem.segment < 4 && mem.index == MemoryOperand::kNoReg,
            "memory of a strange shape");
    Require(
        !IsBitString(insn_) || (IsGpr(operand(1), kTemp1) && state_.temp1 == State::Temp1::kBit &&
                                state_.index < operand(0).bits),
        "a bit that may be elsewhere");
    if (mem.base == MemoryOperand::kRip) return Require(OfVcpu(), "memory that is not the vCPU's");
    if (mem.base == kTemp1 && state_.temp1 != State::Temp1::kHost)
      return Require(OfBank(), "no tag of a bank");
    if (state_.temp0 == State::Temp0::kApic && mem.base == kTemp0)
      return Require(insn_.mnemonic == Mnemonic::TEST && mem.disp == 0 && MemoryBytes(insn_) == 4,
                     "more of the local APIC than its attention");
    const State::Pointer pointer = mem.base == kTemp0   ? state_.pointer0()
                                   : mem.base == kTemp1 ? state_.pointer1
                                                        : State::Pointer{};
    Require(pointer.size != 0 && mem.disp >= 0, "memory without a check");
    Require(mem.disp + MemoryBytes(insn_) <= pointer.size, "more memory than was checked");
    Require(!use_.memory_written || pointer.write, "a write that was checked as a read");
    const unsigned alignment = AlignmentOf(insn_);
    Require(alignment <= pointer.alignment && mem.disp % alignment == 0, "a misaligned operand");
  }

  // Pointers to what was looked up outlive writes to the guest's registers and flags, and our own
  // state; not those to what a look-up depends on, as EFLAGS.AC is.
  void FollowPointers();
  void CheckOpcode() {
    const Treatment how = TreatmentOf(insn_, use_);
    const bool repeat = context_.direct && how == Treatment::kRepeat;
    if (how == Treatment::kLoadMxcsr) {
      Require(state_.mxcsr == State::Mxcsr::kGood && Is(context_.state.scratch),
              "an MXCSR that may unmask exceptions");
    } else {
      Require(IsCopied(how) || repeat || OnStack(how) || how == Treatment::kBitString,
              "no instruction for translated code");
    }
    if (insn_.mnemonic == Mnemonic::DIV || insn_.mnemonic == Mnemonic::IDIV)
      Require(IsGpr(operand(0), kTemp0) && IsTemp(kTemp0), "a division that nobody has looked at");
    Require(repeat || OnStack(how) || how == Treatment::kBitString || !use_.implicit_memory,
            "memory that is not named");
    Require(context_.direct || ((use_.gpr_read | use_.gpr_written) & 1 << kGuestRsp) == 0,
            "the host's stack pointer");
    Require(static_cast<uint32_t>(VectorUseOf(insn_, use_)) <= state_.vectors,
            "vector registers that are not there");
    Require(X87UseOf(insn_) == X87Use::kNone || state_.x87, "x87 registers that are not there");
  }

  // A bit instruction of the guest's: in memory, or on what kTemp1 has of it.
  bool OnBit() const {
    switch (insn_.mnemonic) {
      case Mnemonic::BT:
      case Mnemonic::BTS:
      case Mnemonic::BTR:
      case Mnemonic::BTC:
        return IsGpr(operand(0), kTemp1) || IsBitString(insn_);
      default:
        return false;
    }
  }

  // An instruction of ours, not the guest's: one on our registers, the vCPU or the TLB.
  bool IsOurs() const {
    if (OfGuest() || OnBit() || OfSlot()) return false;
    const bool guest_memory = (insn_.mem.base == kTemp0 && state_.temp0 != State::Temp0::kApic) ||
                              (insn_.mem.base == kTemp1 && state_.temp1 == State::Temp1::kHost);
    return (Named(kTemp0) && IsTemp(kTemp0)) || (Named(kTemp1) && IsTemp(kTemp1)) ||
           (HasMemory(insn_) && !guest_memory) ||
           (state_.restoring == State::Restoring::kRead && insn_.mnemonic == Mnemonic::ADD);
  }

  // Which registers of the host's hold others than their own.
  void FollowLoans();
  // Where the guest's flags are afterwards.
  void FollowFlags();
  void FollowOperand(const State& before);
  void FollowMxcsr();
  // What an instruction of ours tells of kTemp0 and kTemp1.
  void FollowTemps();
  static bool IsGpr(const Operand& operand, unsigned reg) {
    return operand.kind == OperandKind::kReg && operand.reg_class == RegClass::kGpr &&
           operand.reg == reg && !operand.high;
  }
  // Whether [kTemp1 + disp] is that of a range, by its offset.
  bool IsOfRange(unsigned which, size_t field) const {
    return static_cast<uint64_t>(insn_.mem.disp) ==
           offsetof(TlbBank, ranges) + which * sizeof(LinearRange) + field;
  }
  static uint64_t Bank(bool write) {
    return write ? offsetof(TlbBank, write.entries) : offsetof(TlbBank, read.entries);
  }

  void Jump(CodeSpace::Offset next, const State& state) {
    const auto target = static_cast<CodeSpace::Offset>(next + operand(0).imm);
    for (const Exit& exit : code_.exits) {
      if (exit.jump + 4 != next) continue;
      Require(exit.flags == FlagHome::kHost ? state.in_host : state.in_memory,
              "flags that the next block does not find");
      RequireHome(state);
      RequireTail(state);
    }
    Require(target != stubs_.indirect || state.OfTable(), "a jump to where nobody has looked");
    if (target == stubs_.leave || target == stubs_.indirect || target == stubs_.syscall ||
        target == stubs_.sysret) {
      RequireHome(state);
      return Require(state.in_memory, "leaves without the flags");
    }
    ReachAny(target, state);
  }

  // Here, or code that was proved before.
  void ReachAny(CodeSpace::Offset target, const State& state) {
    for (const CodeVerifier::Entry& entry : code_.others) {
      if (entry.at != target) continue;
      Require(state.running == State::Place{entry.distance, entry.page},
              "a page that nobody has looked for");
      return Require(entry.flags == FlagHome::kHost ? state.in_host : state.in_memory,
                     "flags that the other block does not find");
    }
    Reach(target, state);
  }

  // All registers are where others find them.
  void RequireHome(const State& state) {
    Require(state.lent == 0, "leaves with borrowed registers");
  }

  // Before anything of the guest's is done.
  void RequireTail(const State& state) {
    Require(state.tail == code_.second_page && state.running == State::Place{},
            "a page that nobody has looked for");
  }

  // To the code of an entry of the table of indirect targets.
  void JumpIndirect() {
    const MemoryOperand& mem = insn_.mem;
    Require(HasMemory(insn_) && insn_.operand_bits == 64 && insn_.address_bits == 64 &&
                mem.segment < 4 && mem.base == kTemp1 && mem.index == MemoryOperand::kNoReg &&
                mem.disp == offsetof(JumpTarget, code) && state_.temp1 == State::Temp1::kPaged,
            "a jump to where nobody has looked");
    Require(state_.in_memory, "leaves without the flags");
    Require(state_.tail == code_.second_page, "a page that nobody has looked for");
    RequireHome(state_);
  }

  void Call(CodeSpace::Offset next) {
    const auto target = static_cast<CodeSpace::Offset>(next + operand(0).imm);
    Require(!context_.direct, "a call by the guest's stack");
    Require(state_.in_memory, "a call that destroys the flags");
    if (target == stubs_.swapgs || target == stubs_.stac || target == stubs_.clac) {
      state_.ForgetPointers();  // another view, or another segment base
      state_.Ask(State::Asked::kNothing);
      state_.in_host = state_.carry = false;
      return Reach(next, state_);  // no C++ ran there
    }
    State after;
    after.in_memory = true;
    after.running = state_.running;
    after.tail = state_.tail;
    if (state_.kept == State::kKeptOperand) after.kept = state_.kept;
    if (stubs_.RunsSite(target)) {
      RequireTail(state_);
      RequireHome(state_);
    } else {
      after.lent = state_.lent;
      after.permitted = state_.permitted;
      after.slots = state_.slots;
    }
    if (target == stubs_.load_vectors) {
      after.temp0 = State::Temp0::kVectors;
      after.x87 = state_.x87;
    } else if (target == stubs_.load_x87) {
      after.temp0 = State::Temp0::kX87;
    } else {
      Require(stubs_.RunsSite(target), "a call of no stub");
    }
    Reach(next, after);
  }

  void Step() {
    const CodeSpace::Offset next = at_ + insn_.length;
    if (insn_.mnemonic == Mnemonic::UD2) return;
    const Treatment how = TreatmentOf(insn_, use_);
    if (how == Treatment::kJump || how == Treatment::kJumpIf || how == Treatment::kCall) {
      Require(operand(0).kind == OperandKind::kImm && insn_.operand_bits == 64, "a strange jump");
      state_.restoring = State::Restoring::kNo;
    }
    if (how == Treatment::kCall) return Call(next);
    if (how == Treatment::kJumpIndirect) return JumpIndirect();
    if (how == Treatment::kJump) {
      state_.Ask(State::Asked::kNothing);
      return Jump(next, state_);
    }
    if (how == Treatment::kJumpIf) {
      Require(state_.asked != State::Asked::kNothing || state_.in_host, "flags that are not there");
      Jump(next, state_.Answered(insn_.mnemonic, true));
      return Reach(next, state_.Answered(insn_.mnemonic, false));
    }
    CheckOpcode();
    CheckMemory();
    if (!fault_.empty()) return;
    FollowLoans();
    FollowFlags();
    if (IsOurs() || use_.flags_written == 0) state_.ForgetRecipe(use_.gpr_written);
    FollowPointers();
    FollowTemps();
    FollowMxcsr();
    Reach(next, state_);
  }

  const CodeSpace& space_;
  const CodeContext& context_;
  const HostRegisters host_;
  const Stubs& stubs_;
  const CodeVerifier::Code& code_;
  std::unordered_map<CodeSpace::Offset, Node> nodes_;
  std::vector<CodeSpace::Offset> open_;
  std::string fault_;

  CodeSpace::Offset at_ = 0;
  State state_;
  Insn insn_;
  InsnUse use_;
};

}  // namespace bt
