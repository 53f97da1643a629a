#include "vmm/machine/state_hash.h"

#include <catch2/catch.hpp>
#include <set>

namespace vmm::test {

TEST_CASE("the hash of a processor depends on each of its fields and on nothing else") {
  std::set<uint64_t> seen;
  CpuState state;
  CHECK(HashCpuState(state) == HashCpuState(CpuState{}));
  seen.insert(HashCpuState(state));
  size_t changes = 0;
  const auto changed = [&](auto& field) {
    auto before = field;
    field = static_cast<std::remove_reference_t<decltype(field)>>(field ^ 1);
    seen.insert(HashCpuState(state));
    field = before;
    ++changes;
  };
  for (uint64_t& reg : state.gpr) changed(reg);
  changed(state.rip);
  changed(state.rflags);
  for (SegmentState& segment : state.seg) {
    changed(segment.selector);
    changed(segment.access);
    changed(segment.limit);
    changed(segment.base);
  }
  changed(state.ldtr.base);
  changed(state.tr.selector);
  changed(state.gdtr.limit);
  changed(state.idtr.base);
  for (uint64_t* reg : {&state.cr0, &state.cr2, &state.cr3, &state.cr4, &state.cr8, &state.xcr0,
                        &state.dr6, &state.dr7, &state.dr[0], &state.dr[3]}) {
    changed(*reg);
  }
  changed(state.msr.efer);
  changed(state.msr.tsc);
  changed(state.msr.mtrr_variable[15]);
  changed(state.msr.xss);
  changed(state.xsave.bytes[0]);
  changed(state.xsave.bytes[XsaveArea::kSize - 1]);
  changed(state.apic.regs[0]);
  changed(state.apic.regs[255]);
  changed(state.apic.timer_remaining_ns);
  changed(state.events.nmi_masked);
  changed(state.events.sipi_vector);
  CHECK(seen.size() == changes + 1);
}

TEST_CASE("the hash of memory goes by content and place, touched or not") {
  auto first = GuestMemory::Create(16 * kMiB);
  auto second = GuestMemory::Create(16 * kMiB);
  REQUIRE(first);
  REQUIRE(second);
  const uint64_t empty = HashMemory(*first);
  uint8_t* page = first->Host(GuestPhys(5 * kPageSize), kPageSize);
  page[7] = 0;  // touched, but still zero
  CHECK(HashMemory(*first) == empty);
  page[7] = 1;
  const uint64_t one = HashMemory(*first);
  CHECK(one != empty);
  second->Host(GuestPhys(6 * kPageSize), kPageSize)[7] = 1;
  CHECK(HashMemory(*second) != one);
  second->Host(GuestPhys(6 * kPageSize), kPageSize)[7] = 0;
  second->Host(GuestPhys(5 * kPageSize), kPageSize)[7] = 1;
  CHECK(HashMemory(*second) == one);
}

}  // namespace vmm::test
