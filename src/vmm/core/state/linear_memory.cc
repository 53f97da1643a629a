#include "vmm/core/state/linear_memory.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace vmm {
namespace {

// [SDM 3A] 2.5 and 4.1.1
constexpr uint64_t kCr0Pg = uint64_t{1} << 31;
constexpr uint64_t kCr4Pse = 1 << 4, kCr4Pae = 1 << 5, kCr4La57 = 1 << 12;
constexpr uint64_t kEferLma = 1 << 10;

// [SDM 3A] figure 4-11
constexpr uint64_t kPresent = 1, kLarge = 0x80;
constexpr uint64_t kAddressMask = 0x000f'ffff'ffff'f000;

std::optional<uint64_t> ReadEntry(const GuestMemory& memory, uint64_t address, unsigned size) {
  uint64_t entry = 0;
  if (!memory.Read(GuestPhys(address), std::span(reinterpret_cast<uint8_t*>(&entry), size))) {
    return std::nullopt;
  }
  if (!(entry & kPresent)) return std::nullopt;
  return entry;
}

// Walks tables of 512 entries of 8 bytes, from the level that translates bits from `shift` on.
std::optional<GuestPhys> WalkWide(const GuestMemory& memory, uint64_t table, unsigned shift,
                                  uint64_t linear) {
  for (;; shift -= 9) {
    const auto entry = ReadEntry(memory, table + (linear >> shift & 511) * 8, 8);
    if (!entry) return std::nullopt;
    const bool leaf = shift == 12 || ((shift == 21 || shift == 30) && (*entry & kLarge));
    if (leaf) {
      const uint64_t offset_mask = (uint64_t{1} << shift) - 1;
      return GuestPhys((*entry & kAddressMask & ~offset_mask) | (linear & offset_mask));
    }
    table = *entry & kAddressMask;
  }
}

// 32-bit paging. [SDM 3A] 4.3
std::optional<GuestPhys> WalkNarrow(const GuestMemory& memory, uint64_t cr3, bool large_pages,
                                    uint32_t linear) {
  const auto directory = ReadEntry(memory, (cr3 & 0xffff'f000) + (linear >> 22) * 4, 4);
  if (!directory) return std::nullopt;
  if (large_pages && (*directory & kLarge)) {  // with PSE-36
    return GuestPhys((*directory & 0x1f'e000) << 19 | (*directory & 0xffc0'0000) |
                     (linear & 0x3f'ffff));
  }
  const auto entry = ReadEntry(memory, (*directory & 0xffff'f000) + (linear >> 12 & 1023) * 4, 4);
  if (!entry) return std::nullopt;
  return GuestPhys((*entry & 0xffff'f000) | (linear & 0xfff));
}

}  // namespace

std::optional<GuestPhys> TranslateLinear(const CpuState& state, const GuestMemory& memory,
                                         GuestVirt address) {
  uint64_t linear = address.value;
  if (state.msr.efer & kEferLma) {
    const unsigned bits = state.cr4 & kCr4La57 ? 57 : 48;
    const auto canonical =
        static_cast<uint64_t>(static_cast<int64_t>(linear << (64 - bits)) >> (64 - bits));
    if (canonical != linear) return std::nullopt;
    return WalkWide(memory, state.cr3 & kAddressMask, bits - 9, linear);
  }
  linear &= 0xffff'ffff;
  if (!(state.cr0 & kCr0Pg)) return GuestPhys(linear);
  if (!(state.cr4 & kCr4Pae)) {
    return WalkNarrow(memory, state.cr3, state.cr4 & kCr4Pse, static_cast<uint32_t>(linear));
  }
  // The processor keeps the four PDPTEs; they are read again here. [SDM 3A] 4.4.1
  const auto pdpte = ReadEntry(memory, (state.cr3 & 0xffff'ffe0) + (linear >> 30) * 8, 8);
  if (!pdpte) return std::nullopt;
  return WalkWide(memory, *pdpte & kAddressMask, 21, linear);
}

size_t ReadLinear(const CpuState& state, const GuestMemory& memory, GuestVirt address,
                  std::span<uint8_t> out) {
  size_t done = 0;
  while (done < out.size()) {
    const GuestVirt at = address + done;
    const size_t part = std::min<size_t>(out.size() - done, kPageSize - at.value % kPageSize);
    const auto phys = TranslateLinear(state, memory, at);
    if (!phys || !memory.Read(*phys, out.subspan(done, part))) break;
    done += part;
  }
  return done;
}

bool WriteLinear(const CpuState& state, const GuestMemory& memory, GuestVirt address,
                 std::span<const uint8_t> in,
                 const std::function<void(GuestPhys, uint64_t length)>& written) {
  struct Piece {
    GuestPhys phys;
    std::span<const uint8_t> bytes;
  };
  std::vector<Piece> pieces;
  for (size_t done = 0; done < in.size();) {
    const GuestVirt at = address + done;
    const size_t part = std::min<size_t>(in.size() - done, kPageSize - at.value % kPageSize);
    const auto phys = TranslateLinear(state, memory, at);
    if (!phys || memory.Host(*phys, part) == nullptr) return false;
    pieces.push_back({*phys, in.subspan(done, part)});
    done += part;
  }
  for (const Piece& piece : pieces) {
    memory.Write(piece.phys, piece.bytes);
    written(piece.phys, piece.bytes.size());
  }
  return true;
}

}  // namespace vmm
