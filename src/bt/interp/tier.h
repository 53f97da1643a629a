// A faster way to run blocks, above the interpreter's own: the place of the translator.
#pragma once

#include "vmm/core/accel/statistic.h"

namespace bt {

struct Block;

// All calls come on the vCPU's own thread.
class Tier {
 public:
  virtual ~Tier() = default;
  // Runs from `block`, on which RIP stands, for as long as nothing needs attention. Leaves the
  // processor between two instructions, or with a fault active. EFLAGS.RF, if it is set, goes with
  // the first instruction.
  virtual void Run(Block* block) = 0;
  // `block` is stale: nothing may enter it again. May come from below Run(), from inside the block.
  virtual void Kill(Block* block) = 0;
  // All blocks go. Never comes from below Run().
  virtual void Clear() = 0;
  // Attention is set, and Run() is to return soon. Any thread, and handlers of signals.
  virtual void OnAttention() {}
  // What it has done so far, behind what the interpreter tells.
  virtual void AddTo(vmm::Statistics& statistics) const = 0;
};

}  // namespace bt
