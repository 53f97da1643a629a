// The machine's state in a line of text every N instructions: two runs that are alike write the
// same file, and where they part, the first line that differs says when.
//
//   vmm-state-hash 1 every 1000000
//   1000000 9ae16a3b2f90404f
//   32000000 c3a5c85c97cb3127 ram 8cb92ba72f3d8dd7
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>

#include "vmm/core/accel/accelerator.h"
#include "vmm/core/base/result.h"
#include "vmm/core/memory/guest_memory.h"

namespace vmm {

// XXH3 over every architectural field of the processor; what it is now, and nothing of before.
uint64_t HashCpuState(const CpuState& state);
// Over RAM by content: a page of zeros and one that was never touched are the same.
uint64_t HashMemory(const GuestMemory& memory);

// On one thread at a time.
class StateHashWriter {
 public:
  // RAM takes long to hash: at most once in so many instructions.
  static constexpr uint64_t kMemoryEvery = 32'000'000;

  // Replaces the file. kCannotCreate, kNoPermission.
  static Result<std::unique_ptr<StateHashWriter>> Create(const std::filesystem::path& path,
                                                         uint64_t interval,
                                                         const GuestMemory& memory);
  // `position`: instructions executed by all together. The vCPUs stand still.
  void Write(uint64_t position, std::span<Vcpu* const> vcpus);
  // kIoError when any line could not be written.
  Result<void> Finish();

 private:
  struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  StateHashWriter(std::FILE* file, std::filesystem::path path, const GuestMemory& memory)
      : file_(file), path_(std::move(path)), memory_(memory) {}

  std::unique_ptr<std::FILE, Closer> file_;
  const std::filesystem::path path_;
  const GuestMemory& memory_;
  uint64_t next_memory_ = kMemoryEvery;  // position
};

}  // namespace vmm
