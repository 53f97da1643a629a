// Has the host's memory for guest RAM allocated and mapped ahead of a guest that is about to use
// it, by a thread of its own: a first access to such a page costs no more than others.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vmm/core/base/types.h"
#include "vmm/core/host/work_thread.h"

namespace vmm {

class RamAhead {
 public:
  // What is allocated at once; and as much again ahead of whoever goes upwards.
  static constexpr uint64_t kChunk = 1 * kMiB;

  // `ram`: all that `fd` has, as the guest's processors see it; both stay as long as this lives.
  // Where the host refuses, everything stays as without it.
  RamAhead(std::span<uint8_t> ram, int fd);
  ~RamAhead();
  // Whether this process has a processor besides the one that runs the guest.
  static bool IsWorthIt();

  // A vCPU may write to the page at `offset` from now on. Any thread; makes a system call only for
  // the first page of a chunk.
  void OnWriter(uint64_t offset) {
    if (!Knows(offset)) Ask(offset / kChunk);
  }
  // Whether a vCPU was there, or there is nothing to do. Any thread.
  bool Knows(uint64_t offset) const { return IsAsked(offset / kChunk); }

 private:
  static uint64_t Bit(uint64_t chunk) { return 1ull << (chunk % 64); }
  static bool IsIn(uint64_t word, uint64_t chunk) { return (word & Bit(chunk)) != 0; }
  bool IsAsked(uint64_t chunk) const {
    return IsIn(asked_[chunk / 64].load(std::memory_order_relaxed), chunk);
  }
  void Ask(uint64_t chunk);
  void Work();
  bool ServeAll();
  bool Serve(uint64_t chunk);
  bool Allocate(uint64_t chunk);
  bool Populate(uint64_t start, uint64_t length);
  void NoteData();
  void AskNoMore();

  const std::span<uint8_t> ram_;
  const int fd_;
  const size_t words_;
  // Bits by chunk: a vCPU was there; and, for the thread alone: has seen to that, has the memory.
  const std::unique_ptr<std::atomic<uint64_t>[]> asked_;
  std::vector<uint64_t> served_, allocated_;
  bool data_is_noted_ = false;
  std::atomic<bool> is_ending_{false};
  WorkThread thread_;
};

}  // namespace vmm
