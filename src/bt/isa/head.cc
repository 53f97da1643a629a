#include "bt/isa/head.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace bt {
namespace {

constexpr unsigned kMaxHead = 8, kMaxLength = 15;

// [SDM 2D] tables
constexpr bool HasModrm(uint8_t opcode) {
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

// What a byte at the beginning of an instruction, or behind prefixes, is.
struct FirstBytes {
  enum Kind : uint8_t { kPlain, kModrm, kPrefix, kEscape, kVex };
  std::array<Kind, 256> kind{};
  constexpr explicit FirstBytes(CodeSize code_size) {
    for (unsigned byte = 0; byte < 256; ++byte)
      kind[byte] = HasModrm(static_cast<uint8_t>(byte)) ? kModrm : kPlain;
    for (uint8_t byte : {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3})
      kind[byte] = kPrefix;
    kind[0x0f] = kEscape;
    kind[0xc4] = kind[0xc5] = kVex;
    for (unsigned rex = 0x40; rex < 0x50 && code_size == CodeSize::k64; ++rex) kind[rex] = kPrefix;
  }
};
constexpr FirstBytes kFirst64(CodeSize::k64), kFirstOther(CodeSize::k32);

}  // namespace

Head HeadOf(std::span<const uint8_t> bytes, CodeSize code_size) {
  std::array<uint8_t, kMaxLength + 1> padded{};
  const uint8_t* text = bytes.data();
  if (bytes.size() < kMaxLength) {
    std::copy(bytes.begin(), bytes.end(), padded.begin());
    text = padded.data();
  }
  const FirstBytes& first = code_size == CodeSize::k64 ? kFirst64 : kFirstOther;
  unsigned at = 0;
  while (at < kMaxHead && first.kind[text[at]] == FirstBytes::kPrefix) ++at;
  if (at >= kMaxHead) return {};
  const uint8_t opcode = text[at++];
  bool modrm = true;
  switch (first.kind[opcode]) {
    case FirstBytes::kEscape: {
      const uint8_t second = text[at++];
      if (second == 0x38 || second == 0x3a) ++at;
      modrm = (second & 0xf0) != 0x80;  // Jcc
      break;
    }
    case FirstBytes::kVex:
      if (code_size != CodeSize::k64) return {};
      at += opcode == 0xc4 ? 3 : 2;
      break;
    default:
      modrm = first.kind[opcode] == FirstBytes::kModrm;
  }
  if (modrm) {
    const uint8_t byte = text[at++];
    if (byte < 0xc0 && (byte & 7) == 4) ++at;
  }
  if (at > kMaxHead || at > bytes.size()) return {};
  Head head{0, static_cast<uint8_t>(at)};
  std::memcpy(&head.bytes, text, kMaxHead);
  if (at < kMaxHead) head.bytes &= (1ull << at * 8) - 1;
  return head;
}

uint64_t Head::ValueAt(const uint8_t* bytes, unsigned count, bool is_signed) {
  uint64_t value = 0;
  std::memcpy(&value, bytes, count);
  const unsigned unused = 64 - count * 8;
  return is_signed ? static_cast<uint64_t>(static_cast<int64_t>(value << unused) >> unused) : value;
}

// The displacement and the immediate are all that may differ between instructions of one head.
bool Head::Says(const Insn& insn) const {
  const unsigned end = insn.disp_bytes  ? insn.disp_offset
                       : insn.imm_bytes ? insn.imm_offset
                                        : insn.length;
  unsigned immediates = 0;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& operand = insn.operand[i];
    if (operand.kind == OperandKind::kFar || operand.field == Field::kVexIs4) return false;
    immediates += operand.kind == OperandKind::kImm;
  }
  return length != 0 && length >= end && insn.length == end + insn.disp_bytes + insn.imm_bytes &&
         (insn.imm_bytes == 0 || immediates == 1);
}

}  // namespace bt
