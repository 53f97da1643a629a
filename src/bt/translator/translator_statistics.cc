// What `vmm run --stats` tells of the translator; docs/statistics.md explains it.
#include "bt/translator/lockstep.h"

namespace bt {

Translator::Done& Translator::Done::operator+=(const Done& more) {
  for (uint64_t Done::* one :
       {&Done::blocks, &Done::guest_bytes, &Done::hot_bytes, &Done::cold_bytes, &Done::exits,
        &Done::sites, &Done::indirect_misses, &Done::links, &Done::invalidations, &Done::clears,
        &Done::instructions})
    this->*one += more.*one;
  return *this;
}

void Translator::AddTo(vmm::Statistics& statistics) const {
  AddTo(statistics, {});
}

void Translator::AddTo(vmm::Statistics& statistics, const Done& other) const {
  Done done = done_;
  done += other;
  constexpr uint32_t kMillion = 1'000'000;
  const uint64_t all = cpu_.instructions_, interpreted = all - done.instructions;
  const vmm::Statistics own{
      {"interpreted instructions", interpreted},
      {"% of instructions interpreted", interpreted, all, 100},
      {"translated blocks", done.blocks},
      {"guest bytes of them", done.guest_bytes},
      {"hot bytes", done.hot_bytes},
      {"hot bytes per guest byte", done.hot_bytes, done.guest_bytes, 1},
      {"cold bytes", done.cold_bytes},
      {"cold bytes per guest byte", done.cold_bytes, done.guest_bytes, 1},
      {"code cache exits", done.exits},
      {"code cache exits per million instructions", done.exits, all, kMillion},
      {"calls of the interpreter", done.sites},
      {"calls of the interpreter per million instructions", done.sites, all, kMillion},
      {"indirect misses", done.indirect_misses},
      {"links", done.links},
      {"invalidated blocks", done.invalidations},
      {"code cache clears", done.clears},
  };
  statistics.insert(statistics.end(), own.begin(), own.end());
  if (!lockstep_) return;
  statistics.push_back({"instructions compared", lockstep_->compared()});
  statistics.push_back(
      {"% of translated instructions compared", lockstep_->compared(), done_.instructions, 100});
}

}  // namespace bt
