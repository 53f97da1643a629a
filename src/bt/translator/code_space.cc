#include "bt/translator/code_space.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "vmm/core/base/check.h"

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
      halves_{{{{write_, run_ - write_, size / 2}, 0},
               {{write_ + size / 2, run_ - write_, size / 2}, size / 2}}} {}

CodeSpace::CodeSpace(uint8_t* write, uint8_t* run, size_t size)
    : run_(run),
      size_(size),
      write_(write),
      seen_(write),
      owner_(false),
      halves_{{{{write, 0, size / 2}, 0}, {{write + size / 2, 0, size / 2}, size / 2}}} {}

CodeSpace::~CodeSpace() {
  if (!owner_) return;
  munmap(write_, size_);
  // No hole in the range of whoever reserved it: what another thread maps there would go with it.
  CHECK(mmap(run_, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) == run_);
}

bool CodeSpace::HasRoom(size_t bytes) const {
  return std::ranges::all_of(
      halves_, [&](const Half& half) { return half.code.getSize() + bytes <= size_ / 2; });
}

// Wishes: what is not mapped here is at its first access, each page by a fault.
void CodeSpace::MakeReady(Half& half, size_t bytes) {
  const size_t wanted = half.code.getSize() + bytes + kReadyBytes - 1;
  const size_t end = std::min(wanted - wanted % kReadyBytes, size_ / 2);
  const size_t first = half.start + half.ready, count = end - half.ready;
  madvise(write_ + first, count, MADV_POPULATE_WRITE);
  if (owner_) madvise(run_ + first, count, MADV_POPULATE_READ);
  half.ready = end;
}

void CodeSpace::PatchJump(Offset at, Offset target) {
  Patch32(at, target - (at + 4));
}

void CodeSpace::Patch32(Offset at, uint32_t value) {
  std::memcpy(write_ + at, &value, sizeof(value));
}

void CodeSpace::Clear() {
  for (Half& half : halves_) half.code.reset();
}

}  // namespace bt
