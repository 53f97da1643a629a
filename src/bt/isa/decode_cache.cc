#include "bt/isa/decode_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace bt {
namespace {

constexpr unsigned kMaxHead = 8, kMaxLength = 15;

struct Head {
  uint64_t bytes = 0;
  uint8_t length = 0;  // 0: not to be cached
};

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

// Where the displacement or the immediate begins. One byte too many costs hits, one that is missing
// is noticed by Add().
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

size_t IndexOf(const Head& head, CodeSize code_size, unsigned sets) {
  const uint64_t mixed = (head.bytes + static_cast<unsigned>(code_size)) * 0x9e3779b97f4a7c15;
  return mixed >> 40 & (sets - 1);
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

void DecodeCache::Heads::ToFront(unsigned way) {
  std::rotate(head, head + way, head + way + 1);
  std::rotate(at, at + way, at + way + 1);
}

bool DecodeCache::Find(std::span<const uint8_t> bytes, CodeSize code_size, Insn& insn) {
  if (!sets_) return false;
  const Head head = HeadOf(bytes, code_size);
  if (head.length == 0) return false;
  const size_t set = IndexOf(head, code_size, kSets);
  Heads& heads = sets_->heads[set];
  unsigned way = 0;
  while (way < kWays && heads.head[way] != head.bytes) ++way;
  if (way == kWays) return false;
  const Insn& known = sets_->insn[set][heads.at[way]];
  if (known.code_size != code_size || known.length > bytes.size()) return false;
  insn = known;
  if (way != 0) heads.ToFront(way);
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

// In the place of the one that was not used for longest.
void DecodeCache::Add(const Insn& insn) {
  const Head head = HeadOf({insn.bytes.data(), insn.length}, insn.code_size);
  if (head.length == 0 || !IsSaidByHead(insn, head)) return;
  if (!sets_) sets_ = std::make_unique<Sets>();
  const size_t set = IndexOf(head, insn.code_size, kSets);
  Heads& heads = sets_->heads[set];
  unsigned way = 0;
  while (way + 1 < kWays && heads.head[way] != head.bytes) ++way;
  heads.head[way] = head.bytes;
  sets_->insn[set][heads.at[way]] = insn;
  heads.ToFront(way);
}

}  // namespace bt
