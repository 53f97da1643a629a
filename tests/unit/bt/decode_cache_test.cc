#include "bt/isa/decode_cache.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <vector>

#include "bt/isa/decoder.h"
#include "random_code.h"

using namespace bt;
using namespace bt::test;

TEST_CASE("the cache of decoded instructions says what the decoder says") {
  std::mt19937 random(1);
  unsigned found = 0, wrong = 0;
  DecodeCache cache;  // which is too small for them all
  for (unsigned round = 0; round < 60'000 && wrong == 0; ++round) {
    const auto size = static_cast<CodeSize>(random() % 3);
    const Bytes first = RandomBytes(random, size);
    Insn insn;
    if (DecodeByZydis(first, size, insn) != DecodeStatus::kOk) continue;
    cache.Add(insn);
    // The same head with other bytes behind it, and sometimes a byte of the head changed as well.
    for (unsigned i = 0; i < 6; ++i) {
      Bytes bytes = first;
      for (unsigned at = 1 + random() % insn.length; at < bytes.size(); ++at) {
        bytes[at] = random() % 4 ? static_cast<uint8_t>(random()) : 0;
      }
      const size_t length = random() % 4 ? bytes.size() : random() % bytes.size();
      const std::span<const uint8_t> given(bytes.data(), length);
      Insn cached, decoded;
      if (!cache.Find(given, size, cached)) continue;
      ++found;
      if (DecodeByZydis(given, size, decoded) == DecodeStatus::kOk && cached == decoded) continue;
      ++wrong;
      FAIL_CHECK(Text(bytes) << " after " << Text(first) << ", code size "
                             << static_cast<unsigned>(size));
    }
  }
  CHECK(found > 60'000);
}

TEST_CASE("the cache does not find an instruction that was cut off") {
  DecodeCache cache;
  Insn insn;
  const Bytes mov{0x48, 0xc7, 0xc0, 1, 2, 3, 4};
  REQUIRE(DecodeByZydis(mov, CodeSize::k64, insn) == DecodeStatus::kOk);
  cache.Add(insn);
  CHECK(cache.Find(mov, CodeSize::k64, insn));
  CHECK_FALSE(cache.Find(std::span(mov).first(6), CodeSize::k64, insn));
  CHECK_FALSE(cache.Find(mov, CodeSize::k32, insn));
  const Bytes other{0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff};
  REQUIRE(cache.Find(other, CodeSize::k64, insn));
  CHECK(insn.operand[1].imm == ~0ull);
  CHECK(insn.bytes[3] == 0xff);
}

TEST_CASE("the cache keeps what was used last of heads that share a place") {
  constexpr unsigned kFew = 4, kMany = 60'000;
  std::mt19937 random(2);
  DecodeCache cache;
  std::vector<Insn> kept;
  const auto find_kept = [&] {
    unsigned found = 0;
    for (const Insn& insn : kept) {
      Insn cached;
      found += cache.Find(insn.bytes, CodeSize::k64, cached) && cached == insn;
    }
    return found;
  };
  unsigned others = 0;
  for (unsigned i = 0; i < kMany; ++i) {
    const Bytes bytes = RandomBytes(random, CodeSize::k64);
    Insn insn, cached;
    if (DecodeByZydis(bytes, CodeSize::k64, insn) != DecodeStatus::kOk) continue;
    cache.Add(insn);
    if (!cache.Find(bytes, CodeSize::k64, cached)) continue;  // none that is cached
    CHECK(cached == insn);
    ++others;
    insn.bytes.fill(0);
    std::copy_n(bytes.begin(), insn.length, insn.bytes.begin());
    if (kept.size() < kFew) kept.push_back(insn);
    if (find_kept() != kept.size()) FAIL("one of those that are always used is gone");
  }
  CHECK(others > kMany / 4);
}

TEST_CASE("a shift by another count keeps the flags or does not") {
  DecodeCache cache;
  Insn insn;
  const Bytes by_one{0xc1, 0xe0, 1}, by_none{0xc1, 0xe0, 0x20};
  REQUIRE(DecodeByZydis(by_one, CodeSize::k64, insn) == DecodeStatus::kOk);
  cache.Add(insn);
  REQUIRE(cache.Find(by_none, CodeSize::k64, insn));
  CHECK(insn.use.flags_kept_sometimes);
  REQUIRE(cache.Find(by_one, CodeSize::k64, insn));
  CHECK_FALSE(insn.use.flags_kept_sometimes);
}
