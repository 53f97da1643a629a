#include "bt/translator/numbered.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

namespace {

using bt::Numbered;

struct Thing {
  uint64_t value;
  uint32_t other = 7;
};

}  // namespace

TEST_CASE("what has a number stays where it is", "[interp]") {
  Numbered<Thing> things;
  std::vector<const Thing*> places;
  constexpr uint32_t kMany = 20'000;
  for (uint32_t i = 0; i < kMany; ++i) {
    CHECK(things.next() == i);
    CHECK_FALSE(things.Has(i));
    REQUIRE(things.Add({uint64_t{i} * i}) == i);
    CHECK(things.back().value == uint64_t{i} * i);
    places.push_back(&things[i]);
  }
  for (uint32_t i = 0; i < kMany; ++i) {
    CHECK(&things[i] == places[i]);
    CHECK(things[i].value == uint64_t{i} * i);
    CHECK(things[i].other == 7);
  }
  const std::vector<Thing> last = things.Since(kMany - 3);
  REQUIRE(last.size() == 3);
  CHECK(last[0].value == things[kMany - 3].value);
  for (const uint64_t value :
       {uint64_t{0}, uint64_t{1}, uint64_t{1023 * 1023}, uint64_t{1024} * 1024,
        uint64_t{3071} * 3071 + 1, uint64_t{kMany} * kMany}) {
    const uint32_t first = things.FirstNot([&](const Thing& thing) { return thing.value < value; });
    CHECK((first == kMany || things[first].value >= value));
    CHECK((first == 0 || things[first - 1].value < value));
  }
  things.Clear();
  CHECK(things.empty());
  CHECK(things.Since(0).empty());
  CHECK(things.Add({3}) == 0);
  CHECK(things[0].value == 3);
}

TEST_CASE("what another thread was told of it may change while more come", "[interp][threads]") {
  Numbered<Thing> things;
  std::atomic<uint32_t> told{0};
  constexpr uint32_t kMany = 50'000;
  std::thread adds([&] {
    for (uint32_t i = 0; i < kMany; ++i) {
      things.Add({i});
      told.store(i + 1, std::memory_order_release);
    }
  });
  uint64_t wrong = 0;
  for (uint32_t seen = 0; seen < kMany;) {
    const uint32_t end = told.load(std::memory_order_acquire);
    for (; seen < end; ++seen) {
      wrong += things[seen].value != seen;
      things[seen].value += 1;
    }
  }
  adds.join();
  CHECK(wrong == 0);
  for (uint32_t i = 0; i < kMany; ++i) wrong += things[i].value != i + 1;
  CHECK(wrong == 0);
}
