#include "tests/disk/numbered_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <thread>

namespace vmm {
namespace {

void Stamp(std::span<uint8_t> sector, uint64_t number, uint64_t version) {
  for (size_t at = 0; at < sector.size(); at += 16) {
    std::memcpy(&sector[at], &number, 8);
    const uint64_t marked = version << 8 | 0xA5;
    std::memcpy(&sector[at + 8], &marked, 8);
  }
}

}  // namespace

void Promise::Merge(const Promise& other) {
  // Nothing is written where there is nothing new: another thread may be noting a zeroing just now.
  if (other.newest_zero > newest_zero) newest_zero = other.newest_zero;
  if (other.floor < floor) return;  // an older flush that was slower
  floor = other.floor;
  floor_is_zero = other.floor_is_zero;
}

NumberedDisk::NumberedDisk(BlockImage& image, Events events)
    : image_(image), events_(std::move(events)), blocks_(image.size() / kBlock), done_(blocks_) {}

std::vector<uint8_t> NumberedDisk::FirstContents(uint64_t size) {
  std::vector<uint8_t> bytes(size);
  for (uint64_t at = 0; at < size; at += kSector) {
    Stamp(std::span(bytes).subspan(at, kSector), at / kSector, 0);
  }
  return bytes;
}

bool NumberedDisk::Run(unsigned threads, unsigned operations, uint64_t seed) {
  // Each thread has a part of the disk, so that operations on a block follow each other.
  const uint64_t share = blocks_ / threads;
  std::atomic<bool> good = true;
  std::vector<std::thread> workers;
  for (unsigned i = 0; i < threads; ++i) {
    workers.emplace_back([&, i] {
      if (!Work(i * share, share, operations, seed * 100 + i)) good = false;
    });
  }
  for (std::thread& worker : workers) worker.join();
  return good;
}

bool NumberedDisk::Work(uint64_t first, uint64_t count, unsigned operations, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (unsigned i = 0; i < operations; ++i) {
    const uint64_t block = first + random() % count;
    const uint64_t longest = std::min<uint64_t>(first + count - block, random() % 8 == 0 ? 200 : 6);
    const uint64_t length = 1 + random() % longest;
    const unsigned what = random() % 100;
    const bool good = what < 70   ? Write(block, length)
                      : what < 85 ? Zero(random, block, length)
                                  : Flush();
    if (!good) return false;
  }
  return true;
}

bool NumberedDisk::Write(uint64_t block, uint64_t count) {
  const uint64_t version = ++version_;
  std::vector<uint8_t> bytes(count * kBlock);
  for (uint64_t at = 0; at < bytes.size(); at += kSector) {
    Stamp(std::span(bytes).subspan(at, kSector), (block * kBlock + at) / kSector, version);
  }
  if (WriteAt(image_, block * kBlock, bytes) != 0) return false;
  const std::lock_guard lock(mutex_);
  for (uint64_t b = block; b < block + count; ++b) done_[b] = {version, false};
  return true;
}

bool NumberedDisk::Zero(std::mt19937_64& random, uint64_t block, uint64_t count) {
  const uint64_t version = ++version_;
  for (uint64_t b = block; b < block + count; ++b) events_.zero_begins(b, version);
  if (random() % 3 == 0) return image_.Discard(block * kBlock, count * kBlock) == 0;
  if (image_.WriteZeroes(block * kBlock, count * kBlock, random() % 2 == 0) != 0) return false;
  const std::lock_guard lock(mutex_);
  for (uint64_t b = block; b < block + count; ++b) done_[b] = {version, true};
  return true;
}

bool NumberedDisk::Flush() {
  std::vector<Promise> floors(blocks_);
  {
    const std::lock_guard lock(mutex_);
    for (uint64_t b = 0; b < blocks_; ++b) {
      floors[b] = {done_[b].version, 0, done_[b].is_zero};
    }
  }
  if (image_.Flush() != 0) return false;
  events_.flushed(floors);
  return true;
}

std::string NumberedDisk::Check(BlockImage& image, const std::vector<Promise>& promises,
                                bool has_first) {
  std::vector<uint8_t> block(kBlock), expected(kSector);
  for (uint64_t b = 0; b < promises.size(); ++b) {
    const Promise& promise = promises[b];
    if (const int error = ReadAt(image, b * kBlock, block)) {
      return fmt::format("block {} can't be read: {} {}", b, std::strerror(error), image.problem());
    }
    for (uint64_t at = 0; at < kBlock; at += kSector) {
      const auto sector = std::span(block).subspan(at, kSector);
      if (IsZero(sector)) {
        if (promise.floor_is_zero || promise.newest_zero > promise.floor) continue;
        if (promise.floor == 0 && !has_first) continue;
        return fmt::format("block {} is zero, and version {} was flushed", b, promise.floor);
      }
      uint64_t marked;
      std::memcpy(&marked, &sector[8], 8);
      Stamp(expected, (b * kBlock + at) / kSector, marked >> 8);
      if (std::memcmp(sector.data(), expected.data(), kSector) != 0) {
        return fmt::format("block {} has what was never written there", b);
      }
      if (marked >> 8 < promise.floor) {
        return fmt::format("block {} has version {}, and {} was flushed", b, marked >> 8,
                           promise.floor);
      }
    }
  }
  return {};
}

}  // namespace vmm
