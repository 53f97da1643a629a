#include "vmm/core/memory/ram_ahead.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "vmm/core/host/processors.h"

namespace vmm {
namespace {

// At once: as long as that lasts nobody else changes this process' mappings.
constexpr uint64_t kPiece = 128 * kKiB;

}  // namespace

RamAhead::RamAhead(std::span<uint8_t> ram, int fd)
    : ram_(ram),
      fd_(fd),
      words_(ram.size() / kChunk / 64 + 1),
      asked_(new std::atomic<uint64_t>[words_]()),
      served_(words_),
      allocated_(words_),
      thread_("ram-ahead", [this] { Work(); }) {}

RamAhead::~RamAhead() {
  is_ending_ = true;
}

bool RamAhead::IsWorthIt() {
  return UsableProcessors() > 1;
}

void RamAhead::Ask(uint64_t chunk) {
  const uint64_t before = asked_[chunk / 64].fetch_or(Bit(chunk), std::memory_order_relaxed);
  if (!IsIn(before, chunk)) thread_.Ring();
}

void RamAhead::Work() {
  if (!data_is_noted_) StandBehindOthers();
  if (!ServeAll()) return AskNoMore();
  if (!data_is_noted_) NoteData();
  data_is_noted_ = true;
}

// False: the host refuses, or this ends.
bool RamAhead::ServeAll() {
  for (size_t word = 0; word < words_; ++word) {
    for (uint64_t left; (left = asked_[word].load(std::memory_order_relaxed) & ~served_[word]);) {
      const uint64_t chunk = word * 64 + static_cast<unsigned>(std::countr_zero(left));
      if (!Serve(chunk)) return false;
      served_[word] |= Bit(chunk);
    }
  }
  return true;
}

bool RamAhead::Serve(uint64_t chunk) {
  if (!Allocate(chunk)) return false;
  const bool goes_up = chunk > 0 && IsAsked(chunk - 1);
  return !goes_up || Allocate(chunk + 1);
}

bool RamAhead::Allocate(uint64_t chunk) {
  const uint64_t start = chunk * kChunk, end = std::min(start + kChunk, ram_.size());
  if (start >= end || IsIn(allocated_[chunk / 64], chunk)) return true;
  for (uint64_t at = start; at < end; at += kPiece) {
    if (!Populate(at, std::min(kPiece, end - at))) return false;
  }
  allocated_[chunk / 64] |= Bit(chunk);
  return true;
}

// Hosts before Linux 5.14 only allocate, which is the greater part of it.
bool RamAhead::Populate(uint64_t start, uint64_t length) {
  int result;
  do {
    if (is_ending_) return false;
    result = madvise(ram_.data() + start, length, MADV_POPULATE_WRITE);
    if (result != 0 && errno == EINVAL) {
      result = fallocate(fd_, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(start),
                         static_cast<off_t>(length));
    }
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

// What was there before the guest ran, its kernel or all that it had in an earlier life: nobody
// need ask for chunks that are full of it.
void RamAhead::NoteData() {
  off_t data = 0, hole = 0;
  while ((data = lseek(fd_, hole, SEEK_DATA)) >= 0 && (hole = lseek(fd_, data, SEEK_HOLE)) > 0) {
    const uint64_t end = static_cast<uint64_t>(hole) / kChunk;
    for (uint64_t chunk = (static_cast<uint64_t>(data) + kChunk - 1) / kChunk; chunk < end;
         ++chunk) {
      asked_[chunk / 64].fetch_or(Bit(chunk), std::memory_order_relaxed);
      served_[chunk / 64] |= Bit(chunk);
      allocated_[chunk / 64] |= Bit(chunk);
    }
  }
}

void RamAhead::AskNoMore() {
  for (size_t word = 0; word < words_; ++word) {
    asked_[word].store(~uint64_t{0}, std::memory_order_relaxed);
    served_[word] = ~uint64_t{0};
  }
}

}  // namespace vmm
