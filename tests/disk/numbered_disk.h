// A workload whose every sector says which write it comes from, and what must be left of it after a
// crash.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "vmm/core/block/block_image.h"

namespace vmm {

// The disk is divided into blocks; each operation on one has a version, and versions grow.
// `Promise` is plain data, so that it may lie in memory that outlives a killed process.
struct alignas(32) Promise {
  uint64_t floor = 0;        // the last write or zeroing that a finished flush covers
  uint64_t newest_zero = 0;  // the newest zeroing or discard that was begun
  bool floor_is_zero = false;

  // What was promised besides, perhaps earlier.
  void Merge(const Promise& other);
};

class NumberedDisk {
 public:
  static constexpr uint64_t kBlock = 2048, kSector = 512;

  // What happens to whom: called before an operation begins, and after a flush is over.
  struct Events {
    std::function<void(uint64_t block, uint64_t version)> zero_begins;
    std::function<void(const std::vector<Promise>& floors)> flushed;
  };

  NumberedDisk(BlockImage& image, Events events);

  // `operations` random ones on each of `threads` threads. False: one failed.
  bool Run(unsigned threads, unsigned operations, uint64_t seed);

  // Sectors of version 0, for the whole of a backing image.
  static std::vector<uint8_t> FirstContents(uint64_t size);
  // What breaks a promise; empty: nothing. `has_first`: version 0 is FirstContents(), else zeros.
  static std::string Check(BlockImage& image, const std::vector<Promise>& promises, bool has_first);

 private:
  struct Done {
    uint64_t version = 0;
    bool is_zero = false;
  };
  bool Work(uint64_t first, uint64_t count, unsigned operations, uint64_t seed);
  bool Write(uint64_t block, uint64_t count);
  bool Zero(std::mt19937_64& random, uint64_t block, uint64_t count);
  bool Flush();

  BlockImage& image_;
  const Events events_;
  const uint64_t blocks_;
  std::atomic<uint64_t> version_ = 0;
  std::mutex mutex_;
  std::vector<Done> done_;
};

}  // namespace vmm
