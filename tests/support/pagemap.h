// Which pages of this process are there, as the kernel tells it.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdint>

#include "vmm/core/base/types.h"
#include "vmm/core/host/unique_fd.h"

namespace vmm {

// How many pages of [start, start + bytes) an access finds where they are.
inline size_t MappedPages(const uint8_t* start, size_t bytes) {
  const UniqueFd pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  REQUIRE(pagemap);
  size_t mapped = 0;
  for (size_t at = 0; at < bytes; at += kPageSize) {
    uint64_t word = 0;  // bit 63: present. [proc(5)] pagemap
    const auto page = reinterpret_cast<uintptr_t>(start + at) / kPageSize;
    REQUIRE(pread(pagemap.get(), &word, sizeof(word), static_cast<off_t>(page * sizeof(word))) ==
            sizeof(word));
    mapped += word >> 63;
  }
  return mapped;
}

inline bool IsMapped(const uint8_t* page) {
  return MappedPages(page, kPageSize) == 1;
}

}  // namespace vmm
