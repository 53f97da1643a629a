#include "bt/translator/code_space.h"

#include <sys/mman.h>

#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/support/pagemap.h"

namespace {

using vmm::MappedPages;

constexpr size_t kPage = 4096;

}  // namespace

TEST_CASE("memory that code is about to need is mapped ahead", "[interp]") {
  constexpr size_t kBytes = 4 << 20, kCode = 32 * 1024;
  void* const range =
      mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(range != MAP_FAILED);
  {
    bt::CodeSpace space(static_cast<uint8_t*>(range), kBytes);
    const uint8_t* const hot = space.hot().getCurr();
    space.Prepare(kCode);
    const size_t ready = MappedPages(hot, kBytes / 2);
    CHECK(ready >= kCode / kPage);
    CHECK(ready < kBytes / 2 / kPage);
    CHECK(MappedPages(space.run(0), kBytes / 2) >= ready);
    const uint8_t* const cold = space.cold().getCurr();
    CHECK(MappedPages(cold, kCode) == kCode / kPage);
    // What is left of it is enough for a while, then there is more.
    space.hot().setSize(ready * kPage - kCode);
    space.Prepare(kCode);
    CHECK(MappedPages(hot, kBytes / 2) == ready);
    space.hot().setSize(ready * kPage - kCode + 1);
    space.Prepare(kCode);
    CHECK(MappedPages(hot, kBytes / 2) > ready);
    // Up to the end of its half, and no further.
    space.hot().setSize(kBytes / 2 - kCode);
    space.Prepare(kCode);
    CHECK(MappedPages(hot, kBytes / 2) == kBytes / 2 / kPage);
    CHECK(MappedPages(cold + kCode * 8, kBytes / 2 - kCode * 8) == 0);
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
