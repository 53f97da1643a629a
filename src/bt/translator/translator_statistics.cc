// What `vmm run --stats` tells of the translator; docs/statistics.md explains it.
#include "bt/translator/lockstep.h"

namespace bt {

void Translator::AddTo(vmm::Statistics& statistics) const {
  constexpr uint32_t kMillion = 1'000'000;
  const uint64_t all = cpu_.instructions_, interpreted = all - done_.instructions;
  const vmm::Statistics own{
      {"interpreted instructions", interpreted},
      {"% of instructions interpreted", interpreted, all, 100},
      {"translated blocks", done_.blocks},
      {"guest bytes of them", done_.guest_bytes},
      {"hot bytes", done_.hot_bytes},
      {"hot bytes per guest byte", done_.hot_bytes, done_.guest_bytes, 1},
      {"cold bytes", done_.cold_bytes},
      {"cold bytes per guest byte", done_.cold_bytes, done_.guest_bytes, 1},
      {"code cache exits", done_.exits},
      {"code cache exits per million instructions", done_.exits, all, kMillion},
      {"calls of the interpreter", done_.sites},
      {"calls of the interpreter per million instructions", done_.sites, all, kMillion},
      {"indirect misses", done_.indirect_misses},
      {"links", done_.links},
      {"invalidated blocks", done_.invalidations},
      {"code cache clears", done_.clears},
  };
  statistics.insert(statistics.end(), own.begin(), own.end());
  if (!lockstep_) return;
  statistics.push_back({"instructions compared", lockstep_->compared()});
  statistics.push_back(
      {"% of translated instructions compared", lockstep_->compared(), done_.instructions, 100});
}

}  // namespace bt
