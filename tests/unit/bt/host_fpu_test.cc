#include "bt/interp/host_fpu.h"

#include <array>
#include <catch2/catch.hpp>
#include <cstring>

namespace {

using bt::HostFpu;
using IdlePointers = HostFpu::IdlePointers;

constexpr uint64_t kFip = 0x7f12'3456'789a, kFdp = 0x7fed'cba9'8765;

std::array<uint8_t, bt::kX87HeaderSize> Header(uint16_t fsw) {
  std::array<uint8_t, bt::kX87HeaderSize> header{0x7f, 0x03};
  const uint16_t fop = 0x123;
  std::memcpy(&header[2], &fsw, 2);
  std::memcpy(&header[6], &fop, 2);
  std::memcpy(&header[8], &kFip, 8);
  std::memcpy(&header[16], &kFdp, 8);
  return header;
}
uint64_t Word(std::span<const uint8_t> bytes, unsigned at) {
  uint64_t word;
  std::memcpy(&word, &bytes[at], 8);
  return word;
}

constexpr uint16_t kIdle = 0, kPending = 0x8084;

}  // namespace

TEST_CASE("the host's MXCSR has the bits that every processor with SSE2 has", "[bt][fpu]") {
  // [SDM 1] 11.6.6: DAZ may be missing.
  CHECK((bt::TheHostFpu().mxcsr_mask & 0xffbf) == 0xffbf);
  CHECK((bt::TheHostFpu().mxcsr_mask & ~(0xffffu | bt::kMxcsrMm)) == 0);
}

TEST_CASE("x87 pointers of a pending exception are stored by every kind", "[bt][fpu]") {
  for (const auto kind : {IdlePointers::kKept, IdlePointers::kZeroed, IdlePointers::kSkipped}) {
    auto header = Header(kPending);
    CHECK(bt::StoredHeader(kind, true, header) == bt::kX87HeaderSize);
    CHECK(header == Header(kPending));
  }
}

TEST_CASE("x87 pointers without a pending exception are stored as the kind does", "[bt][fpu]") {
  auto header = Header(kIdle);
  CHECK(bt::StoredHeader(IdlePointers::kKept, true, header) == bt::kX87HeaderSize);
  CHECK(header == Header(kIdle));
  CHECK(bt::StoredHeader(IdlePointers::kSkipped, true, header) == 6);
  CHECK(bt::StoredHeader(IdlePointers::kZeroed, true, header) == bt::kX87HeaderSize);
  CHECK((header[6] | header[7]) == 0);
  CHECK(Word(header, 8) == 0);
  CHECK(Word(header, 16) == 0);
}

TEST_CASE("forms without REX.W store and load 32 bits of an x87 pointer", "[bt][fpu]") {
  auto header = Header(kPending);
  bt::StoredHeader(IdlePointers::kKept, false, header);
  CHECK(Word(header, 8) == (kFip & 0xffffffff));
  CHECK(Word(header, 16) == (kFdp & 0xffffffff));
  header = Header(kPending);
  bt::LoadedHeader(IdlePointers::kKept, false, Header(kIdle), header);
  CHECK(Word(header, 8) == (kFip & 0xffffffff));
  CHECK(Word(header, 16) == (kFdp & 0xffffffff));
}

TEST_CASE("only old AMD processors leave x87 pointers alone when nothing is pending", "[bt][fpu]") {
  const std::array<uint8_t, bt::kX87HeaderSize> before{};
  for (const auto kind : {IdlePointers::kKept, IdlePointers::kZeroed}) {
    auto header = Header(kIdle);
    bt::LoadedHeader(kind, true, before, header);
    CHECK(header == Header(kIdle));
  }
  auto header = Header(kIdle);
  bt::LoadedHeader(IdlePointers::kSkipped, true, before, header);
  CHECK(Word(header, 8) == 0);
  CHECK(Word(header, 16) == 0);
  header = Header(kPending);
  bt::LoadedHeader(IdlePointers::kSkipped, true, before, header);
  CHECK(header == Header(kPending));
}
