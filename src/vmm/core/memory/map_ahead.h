#pragma once

#include <sys/mman.h>

#include <cstddef>

namespace vmm {

// Has the host map [begin, begin+size), whole pages of this process, to be written: all at once,
// where each first access would cost a fault. A wish: what it does not map now it does then.
// Any thread. madvise(2), MADV_POPULATE_WRITE, since Linux 5.14
inline void MapAhead(void* begin, size_t size) {
  madvise(begin, size, MADV_POPULATE_WRITE);
}

}  // namespace vmm
