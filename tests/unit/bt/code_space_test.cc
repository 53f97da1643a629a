#include "bt/translator/code_space.h"

#include <sys/mman.h>

#include <catch2/catch.hpp>
#include <cerrno>

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
