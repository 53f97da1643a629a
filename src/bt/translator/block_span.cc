#include "bt/translator/block_span.h"

#include <algorithm>
#include <array>
#include <optional>

#include "bt/translator/host_registers.h"
#include "vmm/core/state/cpu_state.h"

namespace bt {
namespace {

// What is known of a register: an unknown value, named by a number, and a constant. There is one of
// these for each register and step, so it is small.
struct Value {
  int32_t offset = 0;
  uint16_t root = 0;
};

// An address: its base, index << shift and segment base are known by their names, the sum of all
// constants by value.
struct Place {
  uint16_t base = 0, index = 0;
  uint8_t shift = 0, segment = 0;
  int64_t offset = 0;
  bool SameRoots(const Place& other) const {
    return base == other.base && index == other.index && shift == other.shift &&
           segment == other.segment;
  }
};

// Roots that are no register's.
constexpr uint16_t kNothing = 0, kPage = 1, kFirstRoot = 2;

class Registers {
 public:
  Registers() { ForgetAll(); }

  void ForgetAll() {
    for (unsigned reg = 0; reg < values_.size(); ++reg) Forget(reg);
  }
  const Value& operator[](unsigned reg) const { return values_[reg]; }
  // A register that is `root` and a constant; kNoReg: there is none.
  uint8_t Find(uint16_t root) const {
    for (uint8_t reg = 0; reg < values_.size(); ++reg) {
      if (values_[reg].root == root) return reg;
    }
    return MemoryOperand::kNoReg;
  }

  void Follow(const BlockStep& step) {
    const Value rsp = values_[kGuestRsp], rbp = values_[5];
    const std::optional<Sum> result = ResultOf(step);
    for (unsigned reg = 0; reg < values_.size(); ++reg) {
      if (step.use.gpr_written >> reg & 1) Forget(reg);
    }
    if (result) Put(step.insn.operand[0].reg, *result);
    switch (step.how) {
      case Treatment::kPush:
      case Treatment::kPushFlags:
      case Treatment::kCall:
      case Treatment::kCallIndirect:
        Put(kGuestRsp, {rsp, -8});
        break;
      case Treatment::kPop:
        if (step.insn.operand[0].reg != kGuestRsp) Put(kGuestRsp, {rsp, 8});
        break;
      case Treatment::kReturn:
        Put(kGuestRsp, {rsp, 8 + StackReleased(step.insn)});
        break;
      case Treatment::kLeave:
        Put(kGuestRsp, {rbp, 8});
        Forget(5);
        break;
      default:
        break;
    }
  }

 private:
  struct Sum {
    Value value;
    int64_t bytes = 0;
  };
  void Forget(unsigned reg) { values_[reg] = {0, next_++}; }
  void Put(unsigned reg, const Sum& sum) {
    int32_t offset;
    if (__builtin_add_overflow(sum.value.offset, sum.bytes, &offset)) return Forget(reg);
    values_[reg] = {offset, sum.value.root};
  }

  // Of the 64-bit register that is the first operand, where it is another's and a constant.
  std::optional<Sum> ResultOf(const BlockStep& step) const {
    const Insn& insn = step.insn;
    const Operand &to = insn.operand[0], &from = insn.operand[1];
    if (step.how != Treatment::kCopy && step.how != Treatment::kAddress) return {};
    if (!IsRegister(to)) return {};
    const Value value = values_[to.reg];
    const auto imm = static_cast<int64_t>(from.imm);
    switch (insn.mnemonic) {
      case Mnemonic::MOV:
        if (IsRegister(from)) return Sum{values_[from.reg]};
        return {};
      case Mnemonic::ADD:
        if (from.kind == OperandKind::kImm) return Sum{value, imm};
        return {};
      case Mnemonic::SUB:
        if (from.kind == OperandKind::kImm) return Sum{value, -imm};
        return {};
      case Mnemonic::INC:
        return Sum{value, 1};
      case Mnemonic::DEC:
        return Sum{value, -1};
      case Mnemonic::LEA:
        if (insn.address_bits != 64 || insn.mem.index != MemoryOperand::kNoReg ||
            insn.mem.base >= values_.size())
          return {};
        return Sum{values_[insn.mem.base], insn.mem.disp};
      default:
        return {};
    }
  }
  static bool IsRegister(const Operand& operand) {
    return operand.kind == OperandKind::kReg && operand.reg_class == RegClass::kGpr &&
           operand.bits == 64;
  }

  std::array<Value, 16> values_;
  uint16_t next_ = kFirstRoot;
};

// Steps that leave alone what a look-up depends on: page tables, privilege, segment bases.
bool KeepsSpans(Treatment how) {
  switch (how) {
    case Treatment::kNothing:
    case Treatment::kCopy:
    case Treatment::kMemory:
    case Treatment::kBitString:
    case Treatment::kAddress:
    case Treatment::kSelector:
    case Treatment::kDivide:
    case Treatment::kPush:
    case Treatment::kPushFlags:
    case Treatment::kClearIf:
    case Treatment::kPop:
    case Treatment::kLeave:
    case Treatment::kJump:
    case Treatment::kJumpIf:
    case Treatment::kCall:
    case Treatment::kReturn:
    case Treatment::kJumpIndirect:
    case Treatment::kCallIndirect:
      return true;
    default:
      return false;
  }
}

// Steps that destroy the flags, whatever memory they access.
bool PutsFlagsAside(Treatment how) {
  switch (how) {
    case Treatment::kNothing:
    case Treatment::kCopy:
    case Treatment::kMemory:
    case Treatment::kAddress:
    case Treatment::kSelector:
    case Treatment::kPush:
    case Treatment::kPop:
    case Treatment::kLeave:
    case Treatment::kCall:
    case Treatment::kJump:
    case Treatment::kJumpIf:
      return false;
    default:
      return true;
  }
}

bool NamesMemory(const BlockStep& step) {
  switch (step.how) {
    case Treatment::kMemory:
    case Treatment::kDivide:
    case Treatment::kPush:
    case Treatment::kJumpIndirect:
    case Treatment::kCallIndirect:
      return HasMemory(step.insn);
    default:
      return false;
  }
}

class Finder {
 public:
  explicit Finder(std::span<BlockStep> steps) : steps_(steps) {
    before_.reserve(steps.size());
    to_memory_.reserve(steps.size());
    groups_.reserve(steps.size());
    accesses_.reserve(2 * steps.size());
  }

  std::vector<Span> Run() {
    bool registers_loaded = false;
    for (BlockStep& step : steps_) {
      step.memory = step.stack = {};
      before_.push_back(registers_);
      const bool loads = step.vector != VectorUse::kNone || step.x87 != X87Use::kNone;
      to_memory_.push_back(PutsFlagsAside(step.how) || (loads && !registers_loaded));
      registers_loaded |= loads;
      if (!KeepsSpans(step.how)) {
        open_ = groups_.size();
        barrier_ = IndexOf(step) + 1;
        registers_.ForgetAll();
        continue;
      }
      AddMemory(step);
      AddStack(step);
      registers_.Follow(step);
      // What is looked up for one side only is not looked up for both.
      if (step.how == Treatment::kJumpIf || step.how == Treatment::kReturn)
        barrier_ = IndexOf(step) + 1;
    }
    for (Group& group : groups_) {
      group.start = Start(group);
      to_memory_[group.start] = true;
    }
    return Choose();
  }

 private:
  struct Access {
    SpanMember* member;
    uint16_t step;
    int64_t begin, end;
    unsigned alignment;
    bool write;
    uint16_t next = kNone;  // of its group
  };
  static constexpr uint16_t kNone = 0xffff;
  struct Group {
    Place place;
    int64_t begin, end;
    unsigned alignment = 1;
    int64_t aligned = 0;    // an offset that is so
    unsigned earliest = 0;  // step before which it may be looked up
    unsigned start = 0;     // and is
    uint16_t accesses = 1;
    uint16_t first_access = kNone, last_access = kNone;
    uint16_t first = 0, last = 0;  // their steps

    // Down to where it is aligned.
    int64_t aligned_begin() const {
      return aligned - (aligned - begin + alignment - 1) / alignment * alignment;
    }
  };

  uint16_t IndexOf(const BlockStep& step) const {
    return static_cast<uint16_t>(&step - steps_.data());
  }

  void AddMemory(BlockStep& step) {
    const MemoryOperand& mem = step.insn.mem;
    if (!NamesMemory(step)) return;
    if (step.insn.address_bits != 64 || mem.vector_index) {
      to_memory_.back() = true;
      return;
    }
    Place place;
    place.offset = mem.disp;
    if (mem.segment >= static_cast<uint8_t>(vmm::Seg::FS)) place.segment = mem.segment;
    if (mem.base == MemoryOperand::kRip) {
      place.base = kPage;
      place.offset += step.next;
    } else if (mem.base != MemoryOperand::kNoReg) {
      place.base = registers_[mem.base].root;
      place.offset += registers_[mem.base].offset;
    }
    if (mem.index != MemoryOperand::kNoReg) {
      place.index = registers_[mem.index].root;
      place.shift = mem.shift;
      place.offset +=
          static_cast<int64_t>(static_cast<uint64_t>(registers_[mem.index].offset) << mem.shift);
    }
    const bool plain = step.how == Treatment::kMemory;
    Add(place, {&step.memory, IndexOf(step), place.offset, place.offset + MemoryBytes(step.insn),
                plain ? AlignmentOf(step.insn) : 1, plain && step.use.memory_written});
  }

  void AddStack(BlockStep& step) {
    Value top = registers_[kGuestRsp];
    int64_t at = top.offset;
    bool write = false;
    switch (step.how) {
      case Treatment::kPush:
      case Treatment::kPushFlags:
      case Treatment::kCall:
      case Treatment::kCallIndirect:
        at -= 8;
        write = true;
        break;
      case Treatment::kPop:
      case Treatment::kReturn:
        break;
      case Treatment::kLeave:
        top = registers_[5];
        at = top.offset;
        break;
      default:
        return;
    }
    Add({top.root, kNothing, 0, 0, at}, {&step.stack, IndexOf(step), at, at + 8, 1, write});
  }

  void Add(const Place& place, const Access& access) {
    for (size_t i = groups_.size(); i-- > open_;) {
      if (groups_[i].place.SameRoots(place) && Joins(groups_[i], access)) return;
    }
    if (access.step > 0 && steps_[access.step - 1].how == Treatment::kSetIf) {
      to_memory_.back() = true;
      return;
    }
    const auto at = static_cast<uint16_t>(accesses_.size());
    accesses_.push_back(access);
    groups_.push_back({place, access.begin, access.end, access.alignment, access.begin, barrier_, 0,
                       1, at, at, access.step, access.step});
  }

  bool Joins(Group& group, const Access& access) {
    const int64_t begin = std::min(group.begin, access.begin);
    const int64_t end = std::max(group.end, access.end);
    if (end - begin > kMaxSpan) return false;
    if (access.alignment > 1) {
      const unsigned both = std::min(group.alignment, access.alignment);
      if ((access.begin - group.aligned) % both != 0) return false;
      if (access.alignment > group.alignment) {
        group.alignment = access.alignment;
        group.aligned = access.begin;
      }
    }
    group.begin = begin;
    group.end = end;
    const auto at = static_cast<uint16_t>(accesses_.size());
    accesses_.push_back(access);
    accesses_[group.last_access].next = at;
    group.last_access = at;
    group.last = access.step;
    ++group.accesses;
    return true;
  }

  bool TouchesFlags(unsigned step) const {
    const InsnUse& use = steps_[step].use;
    return use.flags_read || use.flags_written || steps_[step].how == Treatment::kJumpIf;
  }

  // The step before which it is best looked up.
  unsigned Start(const Group& group) const {
    const unsigned first = group.first;
    unsigned step = first;
    // Back to where the flags are in memory anyway, if they have changed since; or to the
    // beginning, where they are in memory on some ways in.
    while (step > group.earliest && !to_memory_[step] && !TouchesFlags(step - 1)) --step;
    if (step == group.earliest || to_memory_[step]) return first;
    while (step > group.earliest && !to_memory_[step]) --step;
    const bool alone = group.accesses < 2;  // worth it only if the flags are used
    if (step == 0 && !to_memory_[step] && alone && !ReadsFlags(first)) return first;
    return CanStart(group, step) ? step : first;
  }

  // Whether the flags before `step` matter to it or what follows.
  bool ReadsFlags(unsigned step) const {
    for (; step < steps_.size(); ++step) {
      if (steps_[step].use.flags_read || steps_[step].how == Treatment::kJumpIf) return true;
      if (OverwritesFlags(steps_[step].insn, steps_[step].use)) return false;
    }
    return false;
  }

  // A span whose look-up fails leaves the block, which nobody may behind an STI.
  bool CanStart(const Group& group, unsigned step) const {
    MemoryOperand begin;
    return (step == 0 || steps_[step - 1].how != Treatment::kSetIf) && Begin(group, step, begin);
  }

  // The address of its beginning, as the registers are before `step`.
  bool Begin(const Group& group, unsigned step, MemoryOperand& begin) const {
    const Registers& registers = before_[step];
    const Place& place = group.place;
    uint64_t disp = static_cast<uint64_t>(group.aligned_begin());
    begin.segment = place.segment;
    begin.shift = place.shift;
    if (place.base == kPage) {
      begin.base = MemoryOperand::kRip;
    } else if (place.base != kNothing) {
      begin.base = registers.Find(place.base);
      if (begin.base == MemoryOperand::kNoReg) return false;
      disp -= static_cast<uint64_t>(registers[begin.base].offset);
    }
    if (place.index != kNothing) {
      begin.index = registers.Find(place.index);
      if (begin.index == MemoryOperand::kNoReg) return false;
      disp -= static_cast<uint64_t>(registers[begin.index].offset) << place.shift;
    }
    begin.disp = static_cast<int64_t>(disp);
    return begin.disp == static_cast<int32_t>(begin.disp);
  }

  // Those that save something, as long as there are slots for them.
  std::vector<Span> Choose() {
    std::vector<Span> spans;
    for (const Group& group : groups_) {
      const bool alone = group.accesses < 2 && group.start == group.first;
      Span span;
      if (alone || !CanStart(group, group.start) || !Begin(group, group.start, span.begin))
        continue;
      span.first = static_cast<uint16_t>(group.start);
      span.last = group.last;
      const auto taken = [&](unsigned slot) {
        return std::any_of(spans.begin(), spans.end(), [&](const Span& other) {
          return other.slot == slot && other.first <= span.last && span.first <= other.last;
        });
      };
      while (span.slot < kSpanSlots && taken(span.slot)) ++span.slot;
      if (span.slot == kSpanSlots) continue;
      const int64_t begin = group.aligned_begin();
      span.alignment = group.alignment;
      span.bytes = static_cast<uint32_t>(group.end - begin);
      span.members = group.accesses;
      for (uint16_t at = group.first_access; at != kNone; at = accesses_[at].next) {
        const Access& access = accesses_[at];
        span.write |= access.write;
        *access.member = {static_cast<uint16_t>(spans.size()),
                          static_cast<int32_t>(access.begin - begin)};
      }
      spans.push_back(span);
    }
    return spans;
  }

  std::span<BlockStep> steps_;
  Registers registers_;
  std::vector<Registers> before_;  // each step
  std::vector<bool> to_memory_;    // steps before which the flags go to memory
  std::vector<Group> groups_;
  std::vector<Access> accesses_;
  size_t open_ = 0;       // groups from here on may grow
  unsigned barrier_ = 0;  // no look-up before this step holds
};

}  // namespace

std::vector<Span> FindSpans(std::span<BlockStep> steps) {
  return Finder(steps).Run();
}

}  // namespace bt
