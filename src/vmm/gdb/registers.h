// A processor's registers as GDB sees them: which there are, in which order and size, and where
// they stand in CpuState. [GDB] G.5.15 (i386 features)
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/state/cpu_state.h"

namespace vmm::gdb {

// What GDB takes the processor for; it can't change its mind while it is connected.
enum class Architecture : uint8_t { k16, k32, k64 };

// The mode that the processor is in, as GDB would call it.
Architecture ArchitectureOf(const CpuState& state);

struct Register {
  enum class Source : uint8_t {
    kGpr,
    kRip,
    kFlags,
    kSelector,
    kSegmentBase,
    kSt,
    kX87Control,  // FCTRL to FOP, in GDB's order
    kXmm,
    kMxcsr,
    kYmmHigh,
    kControl,  // CRn
    kEfer,
    kKernelGsBase,
    kDebug,  // DRn
  };
  std::string name;
  std::string_view type;  // of GDB's, or defined in the description
  uint8_t size = 0;       // bytes
  Source source = Source::kGpr;
  uint8_t index = 0;
};

class RegisterSet {
 public:
  // `avx`: the guest's processor has it.
  RegisterSet(Architecture architecture, bool avx);

  // The target description: "target.xml".
  std::string Description() const;

  unsigned count() const { return static_cast<unsigned>(registers_.size()); }
  std::optional<unsigned> Find(std::string_view name) const;
  const Register& at(unsigned number) const { return registers_[number]; }

  // Little-endian bytes, as many as the register has. `number` is below count().
  std::vector<uint8_t> Read(unsigned number, const CpuState& state) const;
  // All of them one after the other.
  std::vector<uint8_t> ReadAll(const CpuState& state) const;

  // False, and nothing changed: not a value that this register could have, or not one that a
  // debugger may give it: the bits that choose the processor's mode, selectors in protected mode.
  bool Write(unsigned number, std::span<const uint8_t> bytes, CpuState& state) const;
  // False, and nothing changed: too few bytes, or a value that Write() refuses.
  bool WriteAll(std::span<const uint8_t> bytes, CpuState& state) const;

 private:
  struct Feature {
    std::string_view name;
    unsigned first;  // its registers go up to the next feature's
  };
  void BeginFeature(std::string_view name);
  void Add(std::string name, std::string_view type, uint8_t size, Register::Source source,
           unsigned index = 0);
  void AddCore();
  void AddVectors(bool avx);
  void AddSystem();

  const Architecture architecture_;
  std::vector<Feature> features_;
  std::vector<Register> registers_;
};

}  // namespace vmm::gdb
