// The flat segments that SYSCALL, SYSENTER and their returns load. [SDM 2B] SYSCALL
#pragma once

#include "vmm/core/state/cpu_state.h"

namespace bt {

constexpr vmm::SegmentState FlatCode(uint16_t selector, bool wide, unsigned dpl) {
  vmm::SegmentState cs;
  cs.selector = selector;
  cs.limit = 0xffffffff;
  cs.access = 0x809b | dpl << 5 | (wide ? 0x2000 : 0x4000);
  return cs;
}
constexpr vmm::SegmentState FlatData(uint16_t selector, unsigned dpl) {
  vmm::SegmentState ss;
  ss.selector = selector;
  ss.limit = 0xffffffff;
  ss.access = 0xc093 | dpl << 5;
  return ss;
}

}  // namespace bt
