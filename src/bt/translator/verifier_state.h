// What the verifier knows of translated code at one place.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "bt/isa/insn.h"
#include "bt/isa/mnemonic.h"
#include "bt/translator/block_span.h"

namespace bt {

// What is known before an instruction, whatever way led there.
struct VerifierState {
  enum class Temp0 : uint8_t {
    kUnknown,
    kTag,      // a linear address xor the tag of the bank
    kInPage,   // the same, less than a page less `size`
    kHost,     // the address of `size` bytes that the guest may read or, in the write bank, write
    kVectors,  // the VectorUse that load_vectors gave
    kX87,      // the same of load_x87
    kApic,     // the address of what LocalApic has for the vCPU
    kPage,     // that of the target of an indirect jump
    kNear,     // the running page and a distance, as `near` says
    kFound,    // the same, and the page of that number is there
    kOffset,   // of a linear address in TlbBank::ranges[range]
    kInRange,  // the same, which is less than its size
  };
  enum class Temp1 : uint8_t {
    kUnknown,
    kIndex,
    kBank,
    kTlb,      // the bank
    kBit,      // at most `index`
    kHost,     // as pointer1 says
    kTable,    // the JumpTable
    kEntry,    // of the table of indirect targets
    kTarget,   // the entry of kTemp0
    kPaged,    // the same, and the running page is that of its address
    kResult,   // of an ADD, as `operand` says
    kOperand,  // what was added to, compared or shifted
  };
  // A page: its distance from the one that the code began in, and its number.
  struct Place {
    int64_t distance = 0;
    uint32_t page = 0;
    bool operator==(const Place&) const = default;
  };
  static constexpr uint32_t kUnknownPage = ~0u;
  // A CMP or TEST of registers and constants, or an ADD, SUB or shift, to be done on kTemp1 once
  // that is what `to` was before; INVALID: none is known.
  struct FlagRecipe {
    Mnemonic mnemonic = Mnemonic::INVALID;
    uint16_t registers = 0;
    uint16_t bits = 0;
    uint8_t to = 0, from = kConstant;  // registers; AH to BH are 16 to 19
    uint64_t constant = 0;
    static constexpr uint8_t kConstant = 0xff, kKept = 0xfe;  // CodeState::kept
    bool operator==(const FlagRecipe&) const = default;
    explicit operator bool() const { return mnemonic != Mnemonic::INVALID; }
    bool OfFlagsOnly() const { return mnemonic == Mnemonic::CMP || mnemonic == Mnemonic::TEST; }
  };
  // What makes the flags of `insn` once more.
  FlagRecipe RecipeOf(const Insn& insn, const InsnUse& use) const;
  // What `insn`, on kTemp1, makes the flags of once more, if that is the first operand.
  FlagRecipe RecipeOnTemp1(const Insn& insn) const;
  // An instruction of the guest's does, or of ours as that did.
  void MakeFlags(const FlagRecipe& by) {
    const bool same = by && by == recipe;
    in_memory &= same && (by.OfFlagsOnly() || temp1 == Temp1::kOperand);  // the same once more
    SetRecipe(by);
    carry = false;
    in_host = true;
  }
  // One that makes some of them did, and the others are not the guest's: until all are overwritten
  // nobody may see them.
  void LoseFlags() {
    SetRecipe({});
    in_host = in_memory = carry = false;
  }
  // These registers have other values.
  void ForgetRecipe(uint16_t changed) {
    if (changed & recipe.registers) SetRecipe({});
    if (changed & operand.registers) ForgetOperand();
    if (kept < 16 && changed >> kept & 1) kept = kNothingKept;
  }
  void SetRecipe(const FlagRecipe& to) {
    recipe = to;
    ForgetOperand();
    kept = to.to == FlagRecipe::kKept ? kKeptOperand : kNothingKept;
  }
  void ForgetOperand() {
    if (temp1 == Temp1::kResult || temp1 == Temp1::kOperand) temp1 = Temp1::kUnknown;
    operand = {};
  }
  // The host address of `size` bytes, a multiple of `alignment`, that the guest may read or write.
  struct Pointer {
    uint32_t size = 0, alignment = 1;
    bool write = false;
    bool operator==(const Pointer&) const = default;
    void Meet(const Pointer& other) {
      size = std::min(size, other.size);
      alignment = size == 0 ? 1 : std::min(alignment, other.alignment);
      write = size != 0 && write && other.write;
    }
  };
  // A comparison of our own that the next instruction may ask about.
  enum class Asked : uint8_t {
    kNothing,
    kSize,
    kLoaded,
    kVectors,
    kX87,
    kAlignment,
    kTarget,
    kPage,
    kRange,
    kOther
  };
  enum class Restoring : uint8_t { kNo, kRead, kOverflow };
  // The steps, one directly behind the other, that show that CodeState::scratch is an MXCSR which
  // masks all exceptions.
  enum class Mxcsr : uint8_t { kNo, kStored, kMasked, kCompared, kGood };

  Temp0 temp0 = Temp0::kUnknown;
  bool write_bank = false;
  uint32_t size = 0, alignment = 1;
  uint8_t range = 0;
  Temp1 temp1 = Temp1::kUnknown;
  uint32_t index = 0;  // kTemp1 is at most that, over the start of the bank if any
  Pointer pointer1;    // kTemp1, where it is kHost
  std::array<Pointer, kSpanSlots> slots;  // CodeState::span
  Place near;                             // of kTemp0, where it is kNear or kFound
  Place running;                          // what CodeState::page says
  uint32_t tail = 0;                      // the page that is known to be the next
  Asked asked = Asked::kNothing;
  uint32_t value = 0;  // that it was compared with
  Restoring restoring = Restoring::kNo;
  Mxcsr mxcsr = Mxcsr::kNo;
  uint8_t mxcsr_in = 0;  // the register that was stored
  uint32_t vectors = 0;
  uint32_t permitted = 0;  // that load_vectors is sure to give: nothing but C++ changes it
  bool x87 = false;
  // Registers of the host's that hold one of kHomeless; whose own value is in its slot.
  uint16_t lent = 0, saved = 0;
  static constexpr uint16_t kUnclear = 0xffff;
  bool in_host = false, in_memory = false;  // where the guest's flags are right
  bool carry = false;                       // the host's is, the other flags may not be
  FlagRecipe recipe;                        // makes the guest's flags once more
  // Where kTemp1 is kResult or kOperand: of what. INVALID: of an ADD of -`constant` or a SUB of
  // `constant`, or of any shift.
  FlagRecipe operand;
  // Which register's value is in CodeState::kept, or that a shift's operand is.
  static constexpr uint8_t kKeptOperand = 0xfe, kNothingKept = 0xff;
  uint8_t kept = kNothingKept;

  bool operator==(const VerifierState&) const = default;

  // What is known behind a conditional jump, or where it leads.
  VerifierState Answered(Mnemonic jump, bool taken) const;
  // What holds on both ways.
  void Meet(const VerifierState& other) {
    const auto keep = [](auto& mine, const auto& theirs, auto unknown) {
      if (mine != theirs) mine = unknown;
    };
    if (temp0 == Temp0::kHost && other.temp0 == Temp0::kHost) {
      Pointer both = pointer0();
      both.Meet(other.pointer0());
      SetPointer0(both);
    } else if (temp0 != other.temp0 || write_bank != other.write_bank || size != other.size) {
      temp0 = Temp0::kUnknown;
    }
    if (range != other.range) temp0 = Temp0::kUnknown;
    if (!OfRange()) range = 0;
    if (near != other.near) temp0 = Temp0::kUnknown;
    if (temp0 != Temp0::kNear && temp0 != Temp0::kFound) near = {};
    if (running != other.running) running = {0, kUnknownPage};
    keep(tail, other.tail, 0u);
    if (temp1 == Temp1::kHost && other.temp1 == Temp1::kHost)
      pointer1.Meet(other.pointer1);
    else if (index != other.index)
      temp1 = Temp1::kUnknown;
    else if (temp1 != other.temp1)
      temp1 = OfTable() && other.OfTable() ? Temp1::kEntry : Temp1::kUnknown;
    if (temp1 != Temp1::kHost) pointer1 = {};
    for (unsigned i = 0; i < kSpanSlots; ++i) slots[i].Meet(other.slots[i]);
    if (value != other.value) asked = Asked::kNothing;
    keep(asked, other.asked, Asked::kNothing);
    keep(restoring, other.restoring, Restoring::kNo);
    keep(mxcsr, other.mxcsr, Mxcsr::kNo);
    if (mxcsr_in != other.mxcsr_in) mxcsr = Mxcsr::kNo;
    if (mxcsr == Mxcsr::kNo) mxcsr_in = 0;
    write_bank = temp0 != Temp0::kUnknown && write_bank;
    size = temp0 == Temp0::kUnknown ? 0 : size;
    index = temp1 == Temp1::kUnknown ? 0 : index;
    value = asked == Asked::kNothing ? 0 : value;
    alignment = std::min(alignment, other.alignment);
    vectors = std::min(vectors, other.vectors);
    permitted = std::min(permitted, other.permitted);
    x87 &= other.x87;
    keep(lent, other.lent, kUnclear);
    saved &= other.saved;
    carry = (carry || in_host) && (other.carry || other.in_host);
    keep(recipe, other.recipe, FlagRecipe{});
    keep(kept, other.kept, kNothingKept);
    if (operand != other.operand) ForgetOperand();
    in_host &= other.in_host;
    in_memory &= other.in_memory;
  }

  bool OfRange() const { return temp0 == Temp0::kOffset || temp0 == Temp0::kInRange; }
  bool OfTable() const { return temp1 >= Temp1::kEntry && temp1 <= Temp1::kPaged; }

  void ForgetTemp0() {
    temp0 = Temp0::kUnknown;
    write_bank = false;
    size = 0;
    alignment = 1;
    range = 0;
    near = {};
    if (asked != Asked::kNothing) Ask(Asked::kOther);  // that was about another value
    if (temp1 == Temp1::kTarget) temp1 = Temp1::kEntry;
  }
  void ForgetTemp1() {
    temp1 = Temp1::kUnknown;
    index = 0;
    pointer1 = {};
    operand = {};
    if (asked == Asked::kTarget || asked == Asked::kPage) Ask(Asked::kOther);
    // An entry whose tag was compared is another one's from now on.
    if (temp0 == Temp0::kTag || temp0 == Temp0::kInPage || OfRange()) ForgetTemp0();
  }
  // What was looked up may not hold any more.
  void ForgetPointers() {
    ForgetTemp0();
    ForgetTemp1();
    slots = {};
  }
  // What kTemp0 points to.
  Pointer pointer0() const {
    return temp0 == Temp0::kHost ? Pointer{size, alignment, write_bank} : Pointer{};
  }
  void SetPointer0(const Pointer& pointer) {
    temp0 = Temp0::kHost;
    size = pointer.size;
    alignment = pointer.alignment;
    write_bank = pointer.write;
  }
  void SetPointer1(const Pointer& pointer) {
    temp1 = Temp1::kHost;
    pointer1 = pointer;
  }
  // To kTemp1, or else kTemp0.
  void LoadSlot(int slot, bool temp1_loaded) {
    const Pointer& pointer = slots[static_cast<unsigned>(slot)];
    if (pointer.size == 0) return;
    if (temp1_loaded)
      SetPointer1(pointer);
    else
      SetPointer0(pointer);
  }
  void Ask(Asked what, uint64_t with = 0) {
    asked = what;
    value = static_cast<uint32_t>(with);
  }
};

}  // namespace bt
