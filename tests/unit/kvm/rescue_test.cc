// Instructions that KVM can't execute are finished by another engine. [KVM API] 5, KVM_RUN
#include <cstring>

#include "bt/interp/interpreter.h"
#include "tests/unit/kvm/kvm_fixture.h"

namespace kvm::test {
namespace {

using Catch::Matchers::Contains;
using vmm::CpuState;
using vmm::ExitCode;
using vmm::Rescue;
using vmm::RunExit;

int EmulationFailure(kvm_run& run) {
  run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
  run.internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
  run.internal.ndata = 0;
  return 0;
}

// Does to the state what the test says.
struct FakeRescuer final : vmm::InstructionRescuer {
  std::function<vmm::Result<Rescue>(CpuState&)> finish;
  unsigned calls = 0, cpu = 99;
  vmm::Result<Rescue> Finish(unsigned id, CpuState& state) override {
    ++calls;
    cpu = id;
    return finish(state);
  }
};

struct RescueFixture : KvmFixture {
  RescueFixture() { rescuer = &fake; }
  FakeRescuer fake;
};

TEST_CASE_METHOD(RescueFixture, "the guest goes on after an instruction that KVM lacks", "[kvm]") {
  Start();
  host.vcpu(0).regs.rip = 0x1000;
  host.vcpu(0).regs.rax = 5;
  fake.finish = [](CpuState& state) -> vmm::Result<Rescue> {
    CHECK(state.rip == 0x1000);
    CHECK(state.gpr[0] == 5);
    state.rip += 4;
    state.gpr[0] = 6;
    state.msr.star = 77;
    return Rescue::kDone;
  };
  host.NextExit(EmulationFailure);
  host.NextExit(Reason(KVM_EXIT_SHUTDOWN));
  CHECK(vcpu->Run().exit == RunExit::kShutdown);
  CHECK(fake.calls == 1);
  CHECK(fake.cpu == 0);
  CHECK(host.vcpu(0).regs.rip == 0x1004);
  CHECK(host.vcpu(0).regs.rax == 6);
  CHECK(host.vcpu(0).msrs[0xc0000081] == 77);
}

TEST_CASE_METHOD(RescueFixture, "an access under way reaches the registers before they are read",
                 "[kvm]") {
  Start();
  fake.finish = [this](CpuState&) -> vmm::Result<Rescue> {
    CHECK(host.vcpu(0).immediate_exits == 1);
    return Rescue::kDone;
  };
  host.NextExit(EmulationFailure);
  host.NextExit(Reason(KVM_EXIT_SHUTDOWN));
  vcpu->Run();
  CHECK(fake.calls == 1);
}

TEST_CASE_METHOD(RescueFixture, "what goes on by itself is left alone", "[kvm]") {
  Start();
  vmm::test::FakeKvm::Vcpu& cpu = host.vcpu(0);
  cpu.msrs[0x10] = 1000;
  fake.finish = [&](CpuState& state) -> vmm::Result<Rescue> {
    // Meanwhile, from other threads: a vector into IRR, an NMI, and the TSC runs.
    cpu.lapic.regs[0x210] = 1;
    cpu.events.nmi.pending = 1;
    cpu.msrs[0x10] = 2000;
    state.msr.tsc = 1500;
    state.rip += 1;
    return Rescue::kDone;
  };
  host.NextExit(EmulationFailure);
  host.NextExit(Reason(KVM_EXIT_SHUTDOWN));
  vcpu->Run();
  CHECK(cpu.lapic.regs[0x210] == 1);
  CHECK(cpu.msrs[0x10] == 2000);
  CHECK((cpu.events.flags & KVM_VCPUEVENT_VALID_NMI_PENDING) == 0);
}

TEST_CASE_METHOD(RescueFixture, "an event under injection is delivered by the rescuer", "[kvm]") {
  Start();
  host.vcpu(0).events.interrupt.injected = 1;
  host.vcpu(0).events.interrupt.nr = 0x31;
  fake.finish = [](CpuState& state) -> vmm::Result<Rescue> {
    CHECK(state.events.interrupt_pending);
    CHECK(state.events.interrupt_vector == 0x31);
    state.events.interrupt_pending = false;
    return Rescue::kDone;
  };
  host.NextExit([](kvm_run& run) {
    run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run.internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
    return 0;
  });
  host.NextExit(Reason(KVM_EXIT_SHUTDOWN));
  CHECK(vcpu->Run().exit == RunExit::kShutdown);
  CHECK(host.vcpu(0).events.interrupt.injected == 0);
}

TEST_CASE_METHOD(RescueFixture, "an invalid opcode that an old KVM has queued is no exception",
                 "[kvm]") {
  host.SetCapability(KVM_CAP_EXIT_ON_EMULATION_FAILURE, 0);
  Start();
  host.vcpu(0).events.exception.pending = 1;
  host.vcpu(0).events.exception.nr = 6;
  fake.finish = [](CpuState& state) -> vmm::Result<Rescue> {
    CHECK_FALSE(state.events.exception_pending);
    return Rescue::kDone;
  };
  host.NextExit(EmulationFailure);
  host.NextExit(Reason(KVM_EXIT_SHUTDOWN));
  vcpu->Run();
  CHECK(fake.calls == 1);
  CHECK(host.vcpu(0).events.exception.injected == 0);
}

TEST_CASE_METHOD(RescueFixture, "a triple fault and a failure of the rescuer end the run",
                 "[kvm]") {
  Start();
  fake.finish = [](CpuState&) -> vmm::Result<Rescue> { return Rescue::kShutdown; };
  host.NextExit(EmulationFailure);
  CHECK(vcpu->Run().exit == RunExit::kShutdown);

  fake.finish = [](CpuState&) -> vmm::Result<Rescue> {
    return vmm::Fail(ExitCode::kEngineFailed, "no such rescue");
  };
  host.NextExit(EmulationFailure);
  const vmm::RunResult result = vcpu->Run();
  CHECK(result.exit == RunExit::kFailed);
  CHECK_THAT(result.detail, Contains("can't emulate") && Contains("no such rescue"));
}

TEST_CASE_METHOD(RescueFixture, "an internal error that is no instruction's is not rescued",
                 "[kvm]") {
  Start();
  host.NextExit([](kvm_run& run) {
    run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run.internal.suberror = KVM_INTERNAL_ERROR_SIMUL_EX;
    return 0;
  });
  CHECK(vcpu->Run().exit == RunExit::kFailed);
  CHECK(fake.calls == 0);
}

// The interpreter as the rescuer, on a state in flat 32-bit mode.
struct InterpreterFixture : KvmFixture {
  InterpreterFixture() {
    vmm::ResetCpuState(state, 0, cpuid.signature());
    state.cr0 |= 1;
    state.cr4 = 0x600;
    for (vmm::SegmentState& segment : state.seg) {
      segment = {.selector = 0x10, .access = 0xc093, .limit = 0xffffffff, .base = 0};
    }
    state.seg[1].selector = 8;
    state.seg[1].access = 0xc09b;
    state.rip = 0x1000;
    state.gpr[4] = 0x9000;
    made = std::move(
        *engine.CreateRescuer({memory, ports, mmio, clock, timers, pic, ioapic, cpuid, 2}));
  }
  void Code(std::initializer_list<uint8_t> bytes) {
    std::copy(bytes.begin(), bytes.end(), memory.regions()[0].host + 0x1000);
  }

  bt::InterpreterAccelerator engine;
  std::unique_ptr<vmm::InstructionRescuer> made;
  CpuState state;
};

TEST_CASE_METHOD(InterpreterFixture, "the interpreter stores a vector where there is no RAM",
                 "[kvm]") {
  Code({0x0f, 0x11, 0x00});  // movups [eax], xmm0
  state.gpr[0] = 0xfed00000;
  for (unsigned i = 0; i < 16; ++i) state.xsave.bytes[160 + i] = static_cast<uint8_t>(i + 1);
  const CpuState before = state;
  REQUIRE(made->Finish(0, state));
  CHECK(state.rip == 0x1003);
  CHECK(std::equal(state.xsave.bytes.begin(), state.xsave.bytes.begin() + 512,
                   before.xsave.bytes.begin()));
  // No component is in use that the guest has not enabled: KVM would refuse it.
  CHECK(state.xsave.bytes[512] == 3);
  std::vector<uint8_t> written;
  for (const auto& access : mmio_device.accesses) {
    CHECK(access.write);
    written.insert(written.end(), access.bytes.begin(), access.bytes.end());
  }
  CHECK(written == std::vector<uint8_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
}

TEST_CASE_METHOD(InterpreterFixture, "code that changes between two rescues is seen", "[kvm]") {
  Code({0x40});  // inc eax
  REQUIRE(made->Finish(0, state));
  CHECK(state.gpr[0] == 1);
  Code({0x48});  // dec eax
  state.rip = 0x1000;
  REQUIRE(made->Finish(0, state));
  CHECK(state.gpr[0] == 0);
  CHECK(state.rip == 0x1001);
}

TEST_CASE_METHOD(InterpreterFixture, "a breakpoint arrives in its handler", "[kvm]") {
  // IDT at 0x2000, gate 3: 08:00003000, interrupt gate of 32 bits. GDT at 0x2800.
  const auto put = [&](uint64_t at, uint64_t value) {
    REQUIRE(
        memory.Write(vmm::GuestPhys(at), {reinterpret_cast<const uint8_t*>(&value), sizeof value}));
  };
  put(0x2000 + 3 * 8, 0x00008e0000083000);
  put(0x2808, 0x00cf9b000000ffff);
  put(0x2810, 0x00cf93000000ffff);
  state.idtr = {0x2000, 0xff};
  state.gdtr = {0x2800, 0x17};
  Code({0xcc});
  REQUIRE(made->Finish(0, state));
  CHECK(state.rip == 0x3000);
  CHECK(state.gpr[4] == 0x9000 - 12);
  uint32_t pushed = 0;
  std::memcpy(&pushed, memory.regions()[0].host + 0x9000 - 12, 4);
  CHECK(pushed == 0x1001);
}

TEST_CASE_METHOD(InterpreterFixture, "an exception without a handler is a triple fault", "[kvm]") {
  Code({0x0f, 0x0b});  // ud2
  state.idtr = {0, 0};
  auto finished = made->Finish(0, state);
  REQUIRE(finished);
  CHECK(*finished == Rescue::kShutdown);
}

TEST_CASE_METHOD(InterpreterFixture, "clocks, timers and the local APIC stay those of KVM",
                 "[kvm]") {
  Code({0x90});
  state.msr.tsc = 123456789;
  state.msr.kvm_system_time = 0x5001;           // in RAM: nothing may be written there
  state.apic.regs[0x320 / 4] = 0x40000 | 0x50;  // TSC-deadline mode
  state.apic.tsc_deadline = 123456790;
  state.events.nmi_pending = true;
  const CpuState before = state;
  REQUIRE(made->Finish(0, state));
  CHECK(state.rip == 0x1001);
  CHECK(state.msr.tsc == before.msr.tsc);
  CHECK(state.msr.kvm_system_time == before.msr.kvm_system_time);
  CHECK(state.apic.regs == before.apic.regs);
  CHECK(state.apic.tsc_deadline == before.apic.tsc_deadline);
  CHECK(state.events.nmi_pending);
  CHECK(memory.regions()[0].host[0x5000] == 0);
}

TEST_CASE_METHOD(InterpreterFixture, "an instruction that writes to the local APIC is refused",
                 "[kvm]") {
  Code({0xa3, 0x80, 0x00, 0xe0, 0xfe});  // mov [0xfee00080], eax: the TPR
  state.gpr[0] = 0x20;
  auto finished = made->Finish(0, state);
  REQUIRE_FALSE(finished);
  CHECK_THAT(finished.error().message, Contains("local APIC"));
}

}  // namespace
}  // namespace kvm::test
