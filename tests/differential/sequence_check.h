// Several instructions in one translated block: what one leaves in registers, flags, vector state
// and memory the next one finds. The interpreter, which agrees with the host on each, is the
// reference.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "bt/isa/insn_use.h"
#include "compare.h"
#include "guest_cpu.h"
#include "random.h"

namespace difftest {

class SequenceCheck {
 public:
  SequenceCheck(GuestCpu& interpreter, GuestCpu& translator, uint64_t seed)
      : interpreter_(interpreter), translator_(translator), random_(seed) {}
  // Runs `test` among instructions of earlier cases in both, from the same memory, and keeps it for
  // later ones. `faulted`: so it did alone. The differences, as Compare() gives them.
  std::string Check(const Case& test, bool faulted);

 private:
  struct Kept {
    std::vector<uint8_t> code;
    uint16_t written;
    uint32_t flags_read;
  };
  void Keep(const Case& test, const bt::InsnUse& use);
  // Appends a few instructions that write none of the general registers in `spared` and read none
  // of `flags`; their number.
  unsigned Pick(uint16_t spared, uint32_t flags, std::vector<uint8_t>& code);

  // Appends accesses near those of `test` that write no general register in `spared`; their number.
  unsigned Surround(const Case& test, uint16_t spared, std::vector<uint8_t>& code);

  static constexpr size_t kKept = 256;
  GuestCpu& interpreter_;
  GuestCpu& translator_;
  Random random_;
  std::vector<Kept> kept_;
};

}  // namespace difftest
