#include "bt/interp/op_cache.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <span>

#include "bt/isa/decoder.h"
#include "random_code.h"

using namespace bt;
using namespace bt::test;

namespace {

bool Same(const Op& a, const Op& b) {
  return std::memcmp(&a, &b, sizeof(Op)) == 0;  // it has no holes
}

// As BlockBuilder makes one.
bool MakeOp(std::span<const uint8_t> bytes, CodeSize size, Insn& insn, Op& op) {
  if (DecodeByZydis(bytes, size, insn) != DecodeStatus::kOk) return false;
  op = {};
  FillOperands(insn, op);
  return SelectHandler(insn, op);
}

}  // namespace

TEST_CASE("the cache of ops says what the decoder and the families say") {
  std::mt19937 random(3);
  unsigned found = 0, wrong = 0;
  OpCache cache;  // which is too small for them all
  for (unsigned round = 0; round < 60'000 && wrong == 0; ++round) {
    const auto size = static_cast<CodeSize>(random() % 3);
    const Bytes first = RandomBytes(random, size);
    Insn insn;
    Op op;
    if (!MakeOp(first, size, insn, op)) continue;
    cache.Add(insn, op);
    // The same head with other bytes behind it, and sometimes a byte of the head changed as well.
    for (unsigned i = 0; i < 6; ++i) {
      Bytes bytes = first;
      for (unsigned at = 1 + random() % insn.length; at < bytes.size(); ++at) {
        bytes[at] = random() % 4 ? static_cast<uint8_t>(random()) : 0;
      }
      const size_t length = random() % 4 ? bytes.size() : random() % bytes.size();
      const std::span<const uint8_t> given(bytes.data(), length);
      Op cached;
      bool ends_block;
      if (!cache.Find(given, size, cached, ends_block)) continue;
      ++found;
      if (MakeOp(given, size, insn, op) && Same(cached, op) && ends_block == EndsBlock(insn)) {
        continue;
      }
      ++wrong;
      FAIL_CHECK(Text(bytes) << " after " << Text(first) << ", code size "
                             << static_cast<unsigned>(size));
    }
  }
  CHECK(found > 50'000);
}

TEST_CASE("the cache of ops takes a displacement and an immediate from the instruction") {
  OpCache cache;
  Insn insn;
  Op op;
  bool ends_block;
  const Bytes mov{0x48, 0xc7, 0x83, 1, 2, 3, 4, 5, 6, 7, 8};  // mov qword [rbx + disp], imm
  REQUIRE(MakeOp(mov, CodeSize::k64, insn, op));
  cache.Add(insn, op);
  Bytes other = mov;
  std::fill_n(&other[3], 8, 0xff);
  REQUIRE(cache.Find(other, CodeSize::k64, op, ends_block));
  CHECK(op.disp == -1);
  CHECK(op.imm == ~0ull);
  CHECK_FALSE(ends_block);
  CHECK_FALSE(cache.Find(std::span(mov).first(10), CodeSize::k64, op, ends_block));
  CHECK_FALSE(cache.Find(mov, CodeSize::k32, op, ends_block));
}

TEST_CASE("the cache of ops leaves out what an immediate is a part of") {
  OpCache cache;
  Insn insn;
  Op op;
  bool ends_block;
  const Bytes pshufd{0x66, 0x0f, 0x70, 0xc1, 0x1b};  // its handler is code for this immediate
  REQUIRE(MakeOp(pshufd, CodeSize::k64, insn, op));
  cache.Add(insn, op);
  CHECK_FALSE(cache.Find(pshufd, CodeSize::k64, op, ends_block));
  const Bytes wide{0x48, 0xa1, 1, 0, 0, 0, 1};  // mov rax, [moffs64]
  REQUIRE(MakeOp(wide, CodeSize::k64, insn, op));
  cache.Add(insn, op);
  CHECK_FALSE(cache.Find(wide, CodeSize::k64, op, ends_block));
}
