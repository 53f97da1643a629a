#include "bt/translator/code_space.h"

#include <sys/mman.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <map>

#include "tests/support/pagemap.h"

namespace {

using vmm::MappedPages;

constexpr size_t kPage = 4096;

}  // namespace

TEST_CASE("memory that code is about to need is mapped ahead", "[interp]") {
  constexpr size_t kBytes = 4 << 20, kCode = bt::CodeSpace::kMostAtOnce;
  void* const range =
      mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(range != MAP_FAILED);
  {
    bt::CodeSpace space(static_cast<uint8_t*>(range), kBytes);
    REQUIRE(space.Prepare(kCode));
    const uint8_t* const hot = space.hot().getCurr();
    const uint8_t* const cold = space.cold().getCurr();
    const size_t ready = MappedPages(hot, static_cast<size_t>(cold - hot));
    CHECK(ready >= kCode / kPage);
    CHECK(ready < static_cast<size_t>(cold - hot) / kPage);
    CHECK(MappedPages(space.run(0), static_cast<size_t>(cold - hot)) >= ready);
    CHECK(MappedPages(cold, kCode) == kCode / kPage);
    // What is left of it is enough for a while, then there is more.
    space.hot().setSize(ready * kPage - kCode);
    REQUIRE(space.Prepare(kCode));
    CHECK(MappedPages(hot, static_cast<size_t>(cold - hot)) == ready);
    space.hot().setSize(ready * kPage - kCode + 1);
    REQUIRE(space.Prepare(kCode));
    CHECK(MappedPages(hot, static_cast<size_t>(cold - hot)) > ready);
  }
  munmap(range, kBytes);
}

TEST_CASE("each area of code has pieces of the space by itself, until it is full", "[interp]") {
  constexpr size_t kBytes = 4 << 20, kCode = 20'000;
  void* const range =
      mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(range != MAP_FAILED);
  {
    bt::CodeSpace space(static_cast<uint8_t*>(range), kBytes);
    const auto fill = [&] {
      std::map<bt::CodeSpace::Offset, size_t> taken;
      bt::CodeSpace::Offset last = 0;
      const auto put = [&](bt::Assembler& code, size_t bytes) {
        const bt::CodeSpace::Offset at = space.OffsetOf(code);
        taken[at] = bytes;
        code.setSize(at + bytes);
        return at;
      };
      unsigned thunks = 0;
      for (; space.Prepare(kCode); ++thunks) {
        const bt::CodeSpace::Offset at = put(space.hot(), kCode);
        CHECK(at >= last);  // whoever looks for an address counts on it
        last = at;
        put(space.cold(), kCode / 3);
        if (thunks % 8 != 0 || !space.PrepareThunk(100)) continue;
        put(space.thunks(), 100);
        put(space.thunk_stubs(), 50);
      }
      CHECK(thunks > 80);
      bt::CodeSpace::Offset end = 0;
      for (const auto& [at, bytes] : taken) {
        CHECK(at >= end);  // none in another
        end = at + static_cast<bt::CodeSpace::Offset>(bytes);
      }
      CHECK(end <= kBytes);
      CHECK(end > kBytes * 3 / 4);
    };
    fill();
    CHECK_FALSE(space.Prepare(kCode));
    space.Clear();
    fill();
  }
  munmap(range, kBytes);
}

TEST_CASE("code leaves its address range reserved", "[interp]") {
  constexpr size_t kBytes = 1 << 20;
  for (const bool nameless : {false, true}) {
    void* const range =
        mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(range != MAP_FAILED);
    {
      const bt::CodeSpace space(static_cast<uint8_t*>(range), kBytes, nameless);
    }
    void* const other =
        mmap(range, kBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(other == MAP_FAILED);
    CHECK(errno == EEXIST);
    munmap(range, kBytes);
  }
}
