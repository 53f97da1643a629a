// CpuState through the structures of the KVM API and back.
#include "kvm/vcpu_state.h"

#include <cstring>

#include "tests/unit/kvm/kvm_fixture.h"

namespace kvm::test {
namespace {

using vmm::CpuState;

// A state in which no two fields are equal, as far as their widths allow.
CpuState Distinct() {
  CpuState state;
  uint64_t next = 0x1111111111111111;
  const auto value = [&next] { return next += 0x0101010101010101; };
  for (uint64_t& gpr : state.gpr) gpr = value();
  state.rip = value();
  state.rflags = 0x246;
  for (auto* segment : {&state.seg[0], &state.seg[1], &state.seg[2], &state.seg[3], &state.seg[4],
                        &state.seg[5], &state.ldtr, &state.tr}) {
    segment->base = value();
    segment->limit = static_cast<uint32_t>(value());
    segment->selector = static_cast<uint16_t>(value());
    segment->access = 0xa09b ^ (static_cast<uint32_t>(value()) & 0xf);
  }
  state.ldtr.access = vmm::SegmentState::kUnusable;
  state.gdtr = {value(), static_cast<uint16_t>(value())};
  state.idtr = {value(), static_cast<uint16_t>(value())};
  for (uint64_t* field : {&state.cr0, &state.cr2, &state.cr3, &state.cr4, &state.dr6, &state.dr7})
    *field = value();
  state.cr8 = 5;
  state.xcr0 = 7;
  for (uint64_t& dr : state.dr) dr = value();
  auto& msr = state.msr;
  for (uint64_t* field : {&msr.efer,
                          &msr.star,
                          &msr.lstar,
                          &msr.cstar,
                          &msr.sfmask,
                          &msr.kernel_gs_base,
                          &msr.sysenter_cs,
                          &msr.sysenter_esp,
                          &msr.sysenter_eip,
                          &msr.pat,
                          &msr.apic_base,
                          &msr.misc_enable,
                          &msr.tsc_aux,
                          &msr.spec_ctrl,
                          &msr.tsc,
                          &msr.tsc_adjust,
                          &msr.mtrr_def_type,
                          &msr.kvm_wall_clock,
                          &msr.kvm_system_time,
                          &msr.kvm_async_pf,
                          &msr.kvm_steal_time,
                          &msr.kvm_pv_eoi,
                          &msr.kvm_poll_control,
                          &msr.xss})
    *field = value();
  for (uint64_t& mtrr : msr.mtrr_fixed) mtrr = value();
  for (uint64_t& mtrr : msr.mtrr_variable) mtrr = value();
  for (size_t i = 0; i < state.xsave.bytes.size(); ++i)
    state.xsave.bytes[i] = static_cast<uint8_t>(i * 7);
  for (uint32_t& reg : state.apic.regs) reg = static_cast<uint32_t>(value());
  state.apic.tsc_deadline = value();
  auto& events = state.events;
  events.exception_pending = events.exception_has_error = true;
  events.exception_vector = 14;
  events.exception_error = 6;
  events.interrupt_pending = true;
  events.interrupt_vector = 0x31;
  events.sti_shadow = events.nmi_masked = true;
  events.sipi_vector = 0x9a;
  state.activity = vmm::Activity::kHalted;
  return state;
}

void CheckEqual(const vmm::SegmentState& a, const vmm::SegmentState& b) {
  CHECK(a.base == b.base);
  CHECK(a.limit == b.limit);
  CHECK(a.selector == b.selector);
  CHECK(a.access == b.access);
}

void CheckEqual(const CpuState& a, const CpuState& b) {
  CHECK(a.gpr == b.gpr);
  CHECK(a.rip == b.rip);
  CHECK(a.rflags == b.rflags);
  for (unsigned i = 0; i < 6; ++i) CheckEqual(a.seg[i], b.seg[i]);
  CheckEqual(a.ldtr, b.ldtr);
  CheckEqual(a.tr, b.tr);
  CHECK(a.gdtr.base == b.gdtr.base);
  CHECK(a.idtr.limit == b.idtr.limit);
  CHECK(std::tie(a.cr0, a.cr2, a.cr3, a.cr4, a.cr8, a.xcr0) ==
        std::tie(b.cr0, b.cr2, b.cr3, b.cr4, b.cr8, b.xcr0));
  CHECK(std::tie(a.dr, a.dr6, a.dr7) == std::tie(b.dr, b.dr6, b.dr7));
  static_assert(std::has_unique_object_representations_v<CpuState::Msrs>);
  CHECK(std::memcmp(&a.msr, &b.msr, sizeof a.msr) == 0);
  CHECK(a.xsave.bytes == b.xsave.bytes);
  CHECK(a.apic.tsc_deadline == b.apic.tsc_deadline);
  CHECK(a.events.exception_vector == b.events.exception_vector);
  CHECK(a.events.exception_error == b.events.exception_error);
  CHECK(a.events.interrupt_pending == b.events.interrupt_pending);
  CHECK(a.events.interrupt_vector == b.events.interrupt_vector);
  CHECK(a.events.sti_shadow == b.events.sti_shadow);
  CHECK(a.events.mov_ss_shadow == b.events.mov_ss_shadow);
  CHECK(a.events.nmi_masked == b.events.nmi_masked);
  CHECK(a.events.sipi_vector == b.events.sipi_vector);
  CHECK(a.activity == b.activity);
}

TEST_CASE_METHOD(KvmFixture, "every field of a state survives KVM", "[kvm]") {
  Start();
  const CpuState state = Distinct();
  REQUIRE(vcpu->Load(state));
  CpuState read;
  REQUIRE(vcpu->Save(read));
  CheckEqual(state, read);
}

TEST_CASE_METHOD(KvmFixture, "a register that this KVM does not have is left out", "[kvm]") {
  host.unreadable_msrs = {0x48, 0x2ff};
  Start();
  CpuState state;
  state.msr.spec_ctrl = 1;
  REQUIRE(vcpu->Load(state));
  CHECK(!host.vcpu(0).msrs.contains(0x48));
  CpuState read;
  REQUIRE(vcpu->Save(read));
  CHECK(read.msr.spec_ctrl == 0);
}

TEST_CASE_METHOD(KvmFixture, "a value that KVM refuses is an error that names the register",
                 "[kvm]") {
  host.unwritable_msrs = {0xda0};
  Start();
  CpuState state;
  REQUIRE(vcpu->Load(state));                 // it is zero already
  CHECK(host.vcpu(0).msrs[0x4b564d05] == 1);  // and those after it were written
  state.msr.xss = 0x100;
  const auto loaded = vcpu->Load(state);
  REQUIRE(!loaded);
  CHECK(loaded.error().code == vmm::ExitCode::kEngineFailed);
  CHECK_THAT(loaded.error().message, Catch::Matchers::Contains("0xda0"));
}

// [SDM 3A] 10.5.4: the count goes down at the bus frequency (1 GHz in KVM) over the divider.
TEST_CASE("the APIC timer's remaining time is its current count", "[kvm]") {
  vmm::LocalApicState apic;
  apic.regs[0x320 / 4] = 0x40;       // one-shot
  apic.regs[0x380 / 4] = 1'000'000;  // initial count
  apic.timer_remaining_ns = 160'000;
  const auto [divide, nanoseconds] = GENERATE(
      table<uint32_t, int64_t>({{0x0, 2}, {0x1, 4}, {0x3, 16}, {0x8, 32}, {0xa, 128}, {0xb, 1}}));
  apic.regs[0x3e0 / 4] = divide;
  const kvm_lapic_state lapic = ToKvmLapic(apic);
  uint32_t count;
  std::memcpy(&count, lapic.regs + 0x390, 4);
  CHECK(count == 160'000 / nanoseconds);
  vmm::LocalApicState read;
  FromKvm(lapic, read);
  CHECK(read.timer_remaining_ns == 160'000);
}

TEST_CASE("a stopped APIC timer stays stopped", "[kvm]") {
  vmm::LocalApicState apic, read;
  FromKvm(ToKvmLapic(apic), read);
  CHECK(read.timer_remaining_ns == -1);
}

// [SDM 3A] 10.4.8; with a split irqchip KVM offers to suppress EOI broadcasts.
TEST_CASE("the APIC's version is the one that every engine has", "[kvm]") {
  kvm_lapic_state lapic{};
  const uint32_t version = 0x01050014;
  std::memcpy(lapic.regs + 0x30, &version, 4);
  vmm::LocalApicState apic;
  FromKvm(lapic, apic);
  CHECK(apic.regs[0x30 / 4] == 0x00050014);
}

// [KVM API] 4.39 KVM_SET_MP_STATE
TEST_CASE("a processor that waits for SIPI takes one", "[kvm]") {
  CHECK(ToKvm(vmm::Activity::kWaitForSipi) == KVM_MP_STATE_INIT_RECEIVED);
  CHECK(ActivityFromKvm(KVM_MP_STATE_UNINITIALIZED) == vmm::Activity::kWaitForSipi);
  CHECK(ActivityFromKvm(KVM_MP_STATE_RUNNABLE) == vmm::Activity::kRunning);
}

}  // namespace
}  // namespace kvm::test
