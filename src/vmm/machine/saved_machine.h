// A machine in a file: what is written when it is suspended, and what a machine that goes on from
// there is made of.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "vmm/core/memory/guest_memory.h"
#include "vmm/core/state/cpu_state.h"
#include "vmm/core/state/cpuid_policy.h"
#include "vmm/snapshot/sections.h"
#include "vmm/snapshot/state_file.h"

namespace vmm {

struct SavedClock {
  static constexpr uint32_t kVersion = 1;
  int64_t now_ns = 0;   // Clock::Now()
  uint64_t tsc_hz = 0;  // what the guest was told
};

// The parts of a machine that are not chips of the board, as sections.
struct MachineParts {
  std::vector<uint8_t> description;  // its device tree, as it was made
  std::vector<CpuidEntry> cpuid;
  SavedClock clock;
  std::vector<CpuState> cpus;
};
void PutParts(const MachineParts& parts, Sections& out);

// Writes a whole machine; what stood at `path` stays when that fails.
Result<void> WriteMachine(const std::filesystem::path& path, const Sections& sections,
                          const GuestMemory& memory);

// Errors say what is wrong, and are for WithContext() of the file's name.
class SavedMachine {
 public:
  // Reads all but the memory.
  static Result<std::unique_ptr<SavedMachine>> Open(const std::filesystem::path& path);

  const SavedClock& clock() const { return clock_; }

  // kConfigInvalid with the differences, unless it was saved from a machine of this description.
  Result<void> CheckDescription(std::span<const uint8_t> device_tree) const;
  // Takes from `cpuid` what the saved machine did not have, and refuses if it had more.
  Result<void> AdoptCpuid(CpuidPolicy& cpuid) const;
  // Into RAM that is all zero. The end of the file: its checksum was right.
  Result<void> LoadMemory(const GuestMemory& memory);
  Result<CpuState> TakeCpu(unsigned id, const CpuidPolicy& cpuid);
  // What is left for the board.
  Sections& sections() { return sections_; }

 private:
  Result<void> TakeCommonParts();

  std::unique_ptr<StateFileReader> file_;
  Sections sections_;
  SavedClock clock_;
  std::vector<uint8_t> description_;
  std::vector<CpuidEntry> cpuid_;
};

}  // namespace vmm
