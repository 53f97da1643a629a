// What `vmm run --stats` tells of a processor.
#include "bt/interp/cpu.h"

namespace bt {

vmm::Statistics Cpu::Statistics() const {
  constexpr uint32_t kMillion = 1'000'000;
  vmm::Statistics statistics{
      {"instructions", instructions_},
      {"decoded blocks", blocks_built_},
      {"TLB misses", tlb_misses_},
      {"TLB misses per million instructions", tlb_misses_, instructions_, kMillion},
  };
  if (tier_) tier_->AddTo(statistics);
  return statistics;
}

}  // namespace bt
