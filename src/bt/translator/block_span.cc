#include "bt/translator/block_span.h"

#include <algorithm>
#include <array>
#include <optional>

#include "bt/translator/host_registers.h"
#include "vmm/core/state/cpu_state.h"

namespace bt {
namespace {

// What is known of a register: an unknown value, named by a number, and a constant.
struct Value {
  uint32_t root = 0;
  int64_t offset = 0;
  Value operator+(int64_t bytes) const { return {root, offset + bytes}; }
};

// An address: its base, index << shift and segment base are known by their names, the sum of all
// constants by value.
struct Place {
  uint32_t base = 0, index = 0;
  uint8_t shift = 0, segment = 0;
  int64_t offset = 0;
  bool SameRoots(const Place& other) const {
    return base == other.base && index == other.index && shift == other.shift &&
           segment == other.segment;
  }
};

// Roots that are no register's.
constexpr uint32_t kNothing = 0, kPage = 1, kFirstRoot = 2;

class Registers {
 public:
  Registers() { ForgetAll(); }

  void ForgetAll() {
    for (unsigned reg = 0; reg < values_.size(); ++reg) Forget(reg);
  }
  Value& operator[](unsigned reg) { return values_[reg]; }

  void Follow(const BlockStep& step) {
    const Value rsp = values_[kGuestRsp], rbp = values_[5];
    const std::optional<Value> result = ResultOf(step);
    for (unsigned reg = 0; reg < values_.size(); ++reg) {
      if (step.use.gpr_written >> reg & 1) Forget(reg);
    }
    if (result) values_[step.insn.operand[0].reg] = *result;
    switch (step.how) {
      case Treatment::kPush:
      case Treatment::kPushFlags:
      case Treatment::kCall:
      case Treatment::kCallIndirect:
        values_[kGuestRsp] = rsp + -8;
        break;
      case Treatment::kPop:
        values_[kGuestRsp] = rsp + 8;
        break;
      case Treatment::kLeave:
        values_[kGuestRsp] = rbp + 8;
        Forget(5);
        break;
      default:
        break;
    }
  }

 private:
  void Forget(unsigned reg) { values_[reg] = {next_++, 0}; }

  // Of the 64-bit register that is the first operand, where it is another's and a constant.
  std::optional<Value> ResultOf(const BlockStep& step) const {
    const Insn& insn = step.insn;
    const Operand &to = insn.operand[0], &from = insn.operand[1];
    if (step.how != Treatment::kCopy && step.how != Treatment::kAddress) return {};
    if (!IsRegister(to)) return {};
    const Value value = values_[to.reg];
    const auto imm = static_cast<int64_t>(from.imm);
    switch (insn.mnemonic) {
      case Mnemonic::MOV:
        if (IsRegister(from)) return values_[from.reg];
        return {};
      case Mnemonic::ADD:
        if (from.kind == OperandKind::kImm) return value + imm;
        return {};
      case Mnemonic::SUB:
        if (from.kind == OperandKind::kImm) return value + -imm;
        return {};
      case Mnemonic::INC:
        return value + 1;
      case Mnemonic::DEC:
        return value + -1;
      case Mnemonic::LEA:
        if (insn.address_bits != 64 || insn.mem.index != MemoryOperand::kNoReg ||
            insn.mem.base >= values_.size())
          return {};
        return values_[insn.mem.base] + insn.mem.disp;
      default:
        return {};
    }
  }
  static bool IsRegister(const Operand& operand) {
    return operand.kind == OperandKind::kReg && operand.reg_class == RegClass::kGpr &&
           operand.bits == 64;
  }

  std::array<Value, 16> values_;
  uint32_t next_ = kFirstRoot;
};

// Steps that leave alone what a look-up depends on: page tables, privilege, segment bases.
bool KeepsSpans(Treatment how) {
  switch (how) {
    case Treatment::kNothing:
    case Treatment::kCopy:
    case Treatment::kMemory:
    case Treatment::kAddress:
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
  explicit Finder(std::span<BlockStep> steps) : steps_(steps) {}

  std::vector<Span> Run() {
    for (BlockStep& step : steps_) {
      step.memory = step.stack = {};
      if (!KeepsSpans(step.how)) {
        open_ = groups_.size();
        registers_.ForgetAll();
        continue;
      }
      AddMemory(step);
      AddStack(step);
      registers_.Follow(step);
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
  };
  struct Group {
    Place place;
    int64_t begin, end;
    unsigned alignment = 1;
    int64_t aligned = 0;  // an offset that is so
    std::vector<Access> accesses;
  };

  uint16_t IndexOf(const BlockStep& step) const {
    return static_cast<uint16_t>(&step - steps_.data());
  }

  void AddMemory(BlockStep& step) {
    const MemoryOperand& mem = step.insn.mem;
    if (!NamesMemory(step) || step.insn.address_bits != 64 || mem.vector_index) return;
    if (mem.disp > INT32_MAX - 2 * kMaxSpan || mem.disp < INT32_MIN + 2 * kMaxSpan) return;
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
    Value at = registers_[kGuestRsp];
    bool write = false;
    switch (step.how) {
      case Treatment::kPush:
      case Treatment::kPushFlags:
      case Treatment::kCall:
      case Treatment::kCallIndirect:
        at = at + -8;
        write = true;
        break;
      case Treatment::kPop:
      case Treatment::kReturn:
        break;
      case Treatment::kLeave:
        at = registers_[5];
        break;
      default:
        return;
    }
    Add({at.root, kNothing, 0, 0, at.offset},
        {&step.stack, IndexOf(step), at.offset, at.offset + 8, 1, write});
  }

  void Add(const Place& place, const Access& access) {
    for (size_t i = groups_.size(); i-- > open_;) {
      if (groups_[i].place.SameRoots(place) && Joins(groups_[i], access)) return;
    }
    // A span whose look-up fails leaves the block, which nobody may behind an STI.
    const unsigned step = access.step;
    if (step > 0 && steps_[step - 1].how == Treatment::kSetIf) return;
    groups_.push_back({place, access.begin, access.end, access.alignment, access.begin, {access}});
  }

  static bool Joins(Group& group, const Access& access) {
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
    group.accesses.push_back(access);
    return true;
  }

  // Those that save something, as long as there are slots for them.
  std::vector<Span> Choose() {
    std::vector<Span> spans;
    std::array<int, kSpanSlots> busy;  // until that step
    busy.fill(-1);
    for (const Group& group : groups_) {
      if (group.accesses.size() < 2) continue;
      Span span;
      span.first = group.accesses.front().step;
      span.last = group.accesses.back().step;
      const auto slot =
          std::find_if(busy.begin(), busy.end(), [&](int last) { return last < span.first; });
      if (slot == busy.end()) continue;
      *slot = span.last;
      span.slot = static_cast<uint8_t>(slot - busy.begin());
      // Down to where it is aligned.
      const int64_t begin = group.aligned - (group.aligned - group.begin + group.alignment - 1) /
                                                group.alignment * group.alignment;
      span.alignment = group.alignment;
      span.bytes = static_cast<uint32_t>(group.end - begin);
      span.members = static_cast<uint16_t>(group.accesses.size());
      for (const Access& access : group.accesses) {
        span.write |= access.write;
        *access.member = {static_cast<uint16_t>(spans.size()), &access == &group.accesses.front(),
                          static_cast<int32_t>(access.begin - begin)};
      }
      spans.push_back(span);
    }
    return spans;
  }

  std::span<BlockStep> steps_;
  Registers registers_;
  std::vector<Group> groups_;
  size_t open_ = 0;  // groups from here on may grow
};

}  // namespace

std::vector<Span> FindSpans(std::span<BlockStep> steps) {
  return Finder(steps).Run();
}

}  // namespace bt
