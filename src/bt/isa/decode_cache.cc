#include "bt/isa/decode_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace bt {
namespace {

constexpr unsigned kMaxHead = 8;

struct Head {
  uint64_t bytes = 0;
  uint8_t length = 0;  // 0: not to be cached
};

bool IsPrefix(uint8_t byte, CodeSize code_size) {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
      return true;
    default:
      return code_size == CodeSize::k64 && (byte & 0xf0) == 0x40;  // REX
  }
}

// [SDM 2D] tables
bool HasModrm(uint8_t opcode) {
  if (opcode < 0x40) return (opcode & 7) < 4;
  switch (opcode) {
    case 0x63:
    case 0x69:
    case 0x6b:
    case 0xc0:
    case 0xc1:
    case 0xc6:
    case 0xc7:
    case 0xf6:
    case 0xf7:
    case 0xfe:
    case 0xff:
      return true;
    default:
      return (opcode & 0xf0) == 0x80 || (opcode >= 0xd0 && opcode <= 0xdf && (opcode & 0xc) != 4);
  }
}

// Where the displacement or the immediate begins. One byte too many costs hits, one that is missing
// is noticed by Add().
Head HeadOf(std::span<const uint8_t> bytes, CodeSize code_size) {
  std::array<uint8_t, 16> padded{};
  std::copy_n(bytes.begin(), std::min<size_t>(bytes.size(), 15), padded.begin());
  unsigned at = 0;
  while (at < kMaxHead && IsPrefix(padded[at], code_size)) ++at;
  if (at >= kMaxHead) return {};
  const uint8_t opcode = padded[at++];
  bool modrm = true;
  if (opcode == 0x0f) {
    const uint8_t second = padded[at++];
    if (second == 0x38 || second == 0x3a) ++at;
    modrm = (second & 0xf0) != 0x80;  // Jcc
  } else if (opcode == 0xc4 || opcode == 0xc5) {
    if (code_size != CodeSize::k64) return {};
    at += opcode == 0xc4 ? 3 : 2;
  } else {
    modrm = HasModrm(opcode);
  }
  if (modrm) {
    const uint8_t byte = padded[at++];
    if (byte < 0xc0 && (byte & 7) == 4) ++at;
  }
  if (at > kMaxHead || at > bytes.size()) return {};
  Head head{0, static_cast<uint8_t>(at)};
  std::memcpy(&head.bytes, padded.data(), kMaxHead);
  if (at < kMaxHead) head.bytes &= (1ull << at * 8) - 1;
  return head;
}

size_t IndexOf(const Head& head, CodeSize code_size, unsigned entries) {
  const uint64_t mixed = (head.bytes + static_cast<unsigned>(code_size)) * 0x9e3779b97f4a7c15;
  return mixed >> 40 & (entries - 1);
}

uint64_t ValueAt(const uint8_t* bytes, unsigned count, bool is_signed) {
  uint64_t value = 0;
  std::memcpy(&value, bytes, count);
  const unsigned unused = 64 - count * 8;
  return is_signed ? static_cast<uint64_t>(static_cast<int64_t>(value << unused) >> unused) : value;
}

// The displacement and the immediate are all that may differ between instructions of one head.
bool IsSaidByHead(const Insn& insn, const Head& head) {
  const unsigned end = insn.disp_bytes  ? insn.disp_offset
                       : insn.imm_bytes ? insn.imm_offset
                                        : insn.length;
  unsigned immediates = 0;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& operand = insn.operand[i];
    if (operand.kind == OperandKind::kFar || operand.field == Field::kVexIs4) return false;
    immediates += operand.kind == OperandKind::kImm;
  }
  return head.length >= end && insn.length == end + insn.disp_bytes + insn.imm_bytes &&
         (insn.imm_bytes == 0 || immediates == 1);
}

}  // namespace

bool DecodeCache::Find(std::span<const uint8_t> bytes, CodeSize code_size, Insn& insn) const {
  if (!entries_) return false;
  const Head head = HeadOf(bytes, code_size);
  const Entry& entry = entries_[IndexOf(head, code_size, kEntries)];
  if (head.length == 0 || entry.head != head.bytes || entry.head_length != head.length ||
      entry.insn.code_size != code_size || entry.insn.length > bytes.size()) {
    return false;
  }
  insn = entry.insn;
  std::copy_n(bytes.begin(), insn.length, insn.bytes.begin());
  if (insn.disp_bytes != 0) {
    insn.mem.disp = static_cast<int64_t>(ValueAt(&bytes[insn.disp_offset], insn.disp_bytes, true));
  }
  if (insn.imm_bytes != 0) {
    const auto immediate =
        std::find_if(insn.operand.begin(), insn.operand.end(),
                     [](const Operand& operand) { return operand.kind == OperandKind::kImm; });
    immediate->imm = ValueAt(&bytes[insn.imm_offset], insn.imm_bytes, insn.imm_signed);
    RenewUse(insn);
  }
  return true;
}

void DecodeCache::Add(const Insn& insn) {
  const Head head = HeadOf({insn.bytes.data(), insn.length}, insn.code_size);
  if (head.length == 0 || !IsSaidByHead(insn, head)) return;
  if (!entries_) entries_ = std::make_unique<Entry[]>(kEntries);
  entries_[IndexOf(head, insn.code_size, kEntries)] = {head.bytes, head.length, insn};
}

}  // namespace bt
