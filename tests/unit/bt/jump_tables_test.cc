// The tables of indirect targets, looked into as code does.
#include "bt/translator/jump_tables.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

using namespace bt;

namespace {

// The code of `linear`, 0 where there is none; `first`: found without looking at the whole set.
uint64_t LookUp(const JumpTable* table, uint64_t linear, bool* first = nullptr) {
  for (unsigned way = 0; way < JumpTable::kWays; ++way) {
    const JumpTarget& entry = table->targets[JumpTable::Index(linear) ^ way];
    if (first) *first = way == 0;
    if (entry.linear == linear) return entry.code;
  }
  return 0;
}

constexpr uint64_t kKey = 0x12340;

// Addresses that are first looked for at the same entry.
std::vector<uint64_t> Rivals(size_t count) {
  std::vector<uint64_t> rivals;
  for (uint64_t linear = 0x1000; rivals.size() < count; ++linear) {
    if (JumpTable::Index(linear) == 0x50) rivals.push_back(linear);
  }
  return rivals;
}

}  // namespace

TEST_CASE("a new table has no target, whatever address is looked for", "[jump_tables]") {
  JumpTables tables;
  const bool nowhere = GENERATE(false, true);
  const JumpTable* table = nowhere ? tables.Nowhere() : tables.Select(kKey);
  if (nowhere) tables.Insert(0x1000, kKey, 1);
  const auto none = [&](uint64_t linear) {
    bool found = false;
    for (unsigned way = 0; way < JumpTable::kWays; ++way)
      found |= table->targets[JumpTable::Index(linear) ^ way].linear == linear;
    return !found;
  };
  for (uint64_t linear = 0; linear < 100'000; ++linear) {
    REQUIRE(none(linear));
    REQUIRE(none(linear << 32));
    REQUIRE(none(~linear));
  }
}

TEST_CASE("a target is found under its own key only", "[jump_tables]") {
  JumpTables tables;
  tables.Insert(0x401000, kKey, 77);
  tables.Insert(0x401000, kKey | 1, 78);  // CPL 3
  CHECK(LookUp(tables.Select(kKey), 0x401000) == 77);
  CHECK(LookUp(tables.Select(kKey | 1), 0x401000) == 78);
  CHECK(LookUp(tables.Select(kKey + 2), 0x401000) == 0);
  CHECK(LookUp(tables.Select(kKey), 0x401000) == 77);
  CHECK(LookUp(tables.Select(kKey), 0x401000 | 1ull << 62) == 0);
}

TEST_CASE("when all tables are taken the one goes that was left alone longest", "[jump_tables]") {
  JumpTables tables;
  for (uint64_t i = 0; i < 10; ++i) tables.Insert(0x401000, kKey + 16 * i, 100 + i);
  CHECK(LookUp(tables.Select(kKey), 0x401000) == 100);  // not the oldest any more
  CHECK(LookUp(tables.Select(kKey + 16 * 10), 0x401000) == 0);
  CHECK(LookUp(tables.Select(kKey), 0x401000) == 100);
  CHECK(LookUp(tables.Select(kKey + 16 * 2), 0x401000) == 102);
  CHECK(LookUp(tables.Select(kKey + 16 * 1), 0x401000) == 0);
  // A table serves one key after the other and forgets each time.
  for (uint64_t i = 0; i < 1000; ++i) {
    const uint64_t key = kKey + 16 * (100 + i);
    REQUIRE(LookUp(tables.Select(key), 0x401000) == 0);
    REQUIRE(LookUp(tables.Select(key | 1), 0x402000) == 0);
    tables.Insert(0x401000, key, i + 1);
    tables.Insert(0x402000, key | 1, i + 2);
    REQUIRE(LookUp(tables.Select(key), 0x401000) == i + 1);
    REQUIRE(LookUp(tables.Select(key | 1), 0x402000) == i + 2);
  }
}

TEST_CASE("a set keeps four targets, the last one first", "[jump_tables]") {
  JumpTables tables;
  const std::vector<uint64_t> rivals = Rivals(7);
  for (size_t i = 0; i < rivals.size(); ++i) {
    bool first = false;
    tables.Insert(rivals[i], kKey, 50 + i);
    CHECK(LookUp(tables.Select(kKey), rivals[i], &first) == 50 + i);
    CHECK(first);
    size_t kept = 0;
    for (size_t j = 0; j <= i; ++j) {
      const uint64_t code = LookUp(tables.Select(kKey), rivals[j]);
      CHECK((code == 0 || code == 50 + j));
      kept += code != 0;
    }
    CHECK(kept == std::min<size_t>(i + 1, JumpTable::kWays));
  }
  tables.Insert(rivals[6], kKey, 99);  // once more
  CHECK(LookUp(tables.Select(kKey), rivals[6]) == 99);
  tables.Clear();
  for (const uint64_t rival : rivals) CHECK(LookUp(tables.Select(kKey), rival) == 0);
}

TEST_CASE("a page is where it was last seen under its key, and nowhere under a new one",
          "[jump_tables]") {
  JumpTables tables;
  for (const uint64_t page : tables.Select(kKey)->pages) REQUIRE(page == JumpTable::kNowhere);
  tables.SetPage(7, 0, kKey);
  tables.SetPage(8, 0x401000, kKey);
  tables.SetPage(8, 0x402000, kKey);
  tables.SetPage(8, 0x403000, kKey + 16);
  CHECK(tables.Select(kKey)->pages[7] == 0);
  CHECK(tables.Select(kKey)->pages[8] == 0x402000);
  CHECK(tables.Select(kKey + 16)->pages[7] == JumpTable::kNowhere);
  CHECK(tables.Select(kKey + 16)->pages[8] == 0x403000);
  for (uint64_t i = 2; i < 40; ++i) {
    const JumpTable* table = tables.Select(kKey + 16 * i);
    for (const uint64_t page : table->pages) REQUIRE(page == JumpTable::kNowhere);
    tables.SetPage(static_cast<unsigned>(i), 0x1000 * i, kKey + 16 * i);
  }
  tables.Clear();
  for (const uint64_t page : tables.Select(kKey)->pages) REQUIRE(page == JumpTable::kNowhere);
}

TEST_CASE("code that is gone is in no table, and nothing else went with it", "[jump_tables]") {
  JumpTables tables;
  const std::vector<uint64_t> rivals = Rivals(4);
  for (uint64_t space = 0; space < 10; ++space) {
    for (size_t i = 0; i < rivals.size(); ++i) tables.Insert(rivals[i], kKey + 16 * space, 50 + i);
  }
  tables.Insert(0x401000, kKey, 51);
  tables.Remove(rivals[2], 52);
  tables.Remove(rivals[3], 52);  // is not there
  for (uint64_t space = 0; space < 10; ++space) {
    const JumpTable* table = tables.Select(kKey + 16 * space);
    for (size_t i = 0; i < rivals.size(); ++i)
      CHECK(LookUp(table, rivals[i]) == (i == 2 ? 0 : 50 + i));
  }
  tables.Remove(51);
  CHECK(LookUp(tables.Select(kKey), 0x401000) == 0);
  for (uint64_t space = 0; space < 10; ++space) {
    const JumpTable* table = tables.Select(kKey + 16 * space);
    CHECK(LookUp(table, rivals[0]) == 50);
    CHECK(LookUp(table, rivals[1]) == 0);
    CHECK(LookUp(table, rivals[3]) == 53);
  }
  tables.Insert(rivals[2], kKey, 60);  // the place can be used again
  CHECK(LookUp(tables.Select(kKey), rivals[2]) == 60);
}
