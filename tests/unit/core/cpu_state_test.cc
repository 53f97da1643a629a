#include "vmm/core/state/cpu_state.h"

#include <catch2/catch.hpp>
#include <cstring>

namespace {

using vmm::CpuState;
using vmm::Gpr;
using vmm::Seg;

constexpr uint32_t kSignature = 0x000806f8;

const vmm::SegmentState& Segment(const CpuState& state, Seg seg) {
  return state.seg[static_cast<unsigned>(seg)];
}
uint32_t ApicReg(const CpuState& state, unsigned offset) {
  return state.apic.regs[offset / 4];
}

TEST_CASE("After RESET# the processor stands at the reset vector in real mode ([SDM 3A] 9.1.1)") {
  CpuState state;
  ResetCpuState(state, 0, kSignature);
  REQUIRE(state.rip == 0xfff0);
  REQUIRE(Segment(state, Seg::CS).selector == 0xf000);
  REQUIRE(Segment(state, Seg::CS).base == 0xffff0000);
  REQUIRE(Segment(state, Seg::CS).limit == 0xffff);
  REQUIRE(Segment(state, Seg::CS).present());
  REQUIRE(Segment(state, Seg::SS).base == 0);
  REQUIRE(state.rflags == 2);
  REQUIRE(state.cr0 == 0x60000010);
  REQUIRE(state.cr4 == 0);
  REQUIRE(state.xcr0 == 1);
  REQUIRE(state.gpr[static_cast<unsigned>(Gpr::RDX)] == kSignature);
  REQUIRE(state.gpr[static_cast<unsigned>(Gpr::RAX)] == 0);
  REQUIRE(state.idtr.limit == 0xffff);
  REQUIRE(state.msr.pat == 0x0007040600070406);
  REQUIRE(state.activity == vmm::Activity::kRunning);
}

TEST_CASE("After RESET# the x87 control word is 0040H and MXCSR 1F80H ([SDM 3A] table 9-1)") {
  CpuState state;
  ResetCpuState(state, 0, kSignature);
  uint16_t fcw = 0;
  uint32_t mxcsr = 0;
  std::memcpy(&fcw, &state.xsave.bytes[0], 2);
  std::memcpy(&mxcsr, &state.xsave.bytes[24], 4);
  REQUIRE(fcw == 0x0040);
  REQUIRE(mxcsr == 0x1f80);
}

TEST_CASE("Only APIC id 0 is the boot processor; others wait for SIPI ([SDM 3A] 8.4.3)") {
  CpuState boot, other;
  ResetCpuState(boot, 0, kSignature);
  ResetCpuState(other, 5, kSignature);
  REQUIRE(boot.msr.apic_base == 0xfee00900);
  REQUIRE(other.msr.apic_base == 0xfee00800);
  REQUIRE(other.activity == vmm::Activity::kWaitForSipi);
  REQUIRE(ApicReg(other, 0x20) == 5u << 24);
}

TEST_CASE("The APIC resets masked and software-disabled ([SDM 3A] 10.4.7.1)") {
  CpuState state;
  ResetCpuState(state, 1, kSignature);
  REQUIRE(ApicReg(state, 0xf0) == 0xff);
  REQUIRE(ApicReg(state, 0xe0) == 0xffffffff);
  for (unsigned offset = 0x320; offset <= 0x370; offset += 0x10) {
    REQUIRE(ApicReg(state, offset) == 0x10000);
  }
  REQUIRE(state.apic.timer_remaining_ns == -1);
  CpuState boot;
  ResetCpuState(boot, 0, kSignature);
  REQUIRE(ApicReg(boot, 0x350) == 0x700);  // virtual wire mode
}

TEST_CASE("INIT keeps the FPU, MSRs and the caches' mode, and drops paging ([SDM 3A] table 9-1)") {
  CpuState state;
  ResetCpuState(state, 3, kSignature);
  state.cr0 = 0x80050033;
  state.cr3 = 0x1000;
  state.cr4 = 0x20;
  state.msr.efer = 0xd01;
  state.msr.star = 0x1234;
  state.msr.tsc = 99;
  state.msr.apic_base |= 0x400;
  state.xcr0 = 3;
  state.xsave.bytes[0] = 0x7f;
  state.apic.regs[0xf0 / 4] = 0x1ff;
  state.apic.regs[0x20 / 4] = 3;  // x2APIC form
  state.activity = vmm::Activity::kRunning;
  InitCpuState(state, kSignature);
  REQUIRE(state.cr0 == 0x10);
  REQUIRE(state.cr3 == 0);
  REQUIRE(state.cr4 == 0);
  REQUIRE(state.msr.efer == 0);
  REQUIRE(state.msr.star == 0x1234);
  REQUIRE(state.msr.tsc == 99);
  REQUIRE(state.msr.apic_base == 0xfee00c00);
  REQUIRE(state.xcr0 == 3);
  REQUIRE(state.xsave.bytes[0] == 0x7f);
  REQUIRE(ApicReg(state, 0xf0) == 0xff);
  REQUIRE(ApicReg(state, 0x20) == 3);
  REQUIRE(state.activity == vmm::Activity::kWaitForSipi);
}

}  // namespace
