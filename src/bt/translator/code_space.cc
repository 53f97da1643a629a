#include "bt/translator/code_space.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "vmm/core/base/check.h"
#include "vmm/core/memory/map_ahead.h"

namespace bt {
namespace {

// The view that writes. Executable memory that was never writable passes where a service may not
// have memory that is both (MemoryDenyWriteExecute).
uint8_t* MapViews(uint8_t* run, size_t size) {
  const int fd = memfd_create("vmm-code", MFD_CLOEXEC);
  CHECK(fd >= 0 && ftruncate(fd, static_cast<off_t>(size)) == 0);
  void* write = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(write != MAP_FAILED);
  CHECK(mmap(run, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) == run);
  close(fd);
  return static_cast<uint8_t*>(write);
}

uint8_t* MapNamelessViews(uint8_t* run, size_t size) {
  CHECK(mmap(run, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
        run);
  void* write = mremap(run, 0, size, MREMAP_MAYMOVE);  // 0: of the same memory once more
  CHECK(write != MAP_FAILED && mprotect(write, size, PROT_READ | PROT_WRITE) == 0);
  return static_cast<uint8_t*>(write);
}

}  // namespace

CodeSpace::CodeSpace(uint8_t* run, size_t size, bool nameless)
    : run_(run),
      size_(size),
      write_(nameless ? MapNamelessViews(run, size) : MapViews(run, size)),
      seen_(run),
      owner_(true),
      areas_(MakeAreas(write_, run_ - write_, size)) {}

CodeSpace::CodeSpace(uint8_t* write, uint8_t* run, size_t size)
    : run_(run),
      size_(size),
      write_(write),
      seen_(write),
      owner_(false),
      areas_(MakeAreas(write, 0, size)) {}

CodeSpace::~CodeSpace() {
  if (!owner_) return;
  munmap(write_, size_);
  // No hole in the range of whoever reserved it: what another thread maps there would go with it.
  CHECK(mmap(run_, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) == run_);
}

std::array<CodeSpace::Area, 4> CodeSpace::MakeAreas(uint8_t* write, ptrdiff_t to_run, size_t size) {
  const auto area = [&] { return Area{Assembler(write, to_run, size)}; };
  return {area(), area(), area(), area()};
}

bool CodeSpace::MakeReady(Area& area, size_t bytes) {
  CHECK(bytes <= kMostAtOnce);
  if (area.code.getSize() + bytes > area.end) {
    const size_t chunk = given_.fetch_add(kChunkBytes);
    if (chunk + kChunkBytes > size_) {
      given_ -= kChunkBytes;
      return false;
    }
    area.code.setSize(chunk);
    area.ready = chunk;
    area.end = chunk + kChunkBytes;
  }
  // Wishes: what is not mapped here is at its first access, each page by a fault.
  const size_t count = std::min(kReadyBytes, area.end - area.ready);
  vmm::MapAhead(write_ + area.ready, count);
  if (owner_) madvise(run_ + area.ready, count, MADV_POPULATE_READ);
  area.ready += count;
  return true;
}

void CodeSpace::PatchJump(Offset at, Offset target) {
  Patch32(at, target - (at + 4));
}

void CodeSpace::Patch32(Offset at, uint32_t value) {
  std::memcpy(write_ + at, &value, sizeof(value));
}

void CodeSpace::Clear() {
  for (Area& area : areas_) {
    area.code.reset();
    area.ready = area.end = 0;
  }
  given_ = 0;
}

}  // namespace bt
