// [KVM API] 4.73 KVM_SET_GUEST_DEBUG; DR7 as [SDM 3B] 17.2.4
#include "kvm/guest_debug.h"

#include "tests/unit/kvm/kvm_fixture.h"

using kvm::test::KvmFixture;
using vmm::DebugPoint;
using vmm::DebugStep;
using vmm::DebugStop;
using vmm::GuestPhys;
using vmm::GuestVirt;
using vmm::RunExit;
using Kind = vmm::DebugPoint::Kind;

namespace {

DebugPoint Point(Kind kind, uint64_t address, uint64_t length = 1) {
  return {kind, GuestVirt(address), length};
}

auto DebugExit(uint32_t exception, uint64_t pc, uint64_t dr6) {
  return [=](kvm_run& run) {
    run.exit_reason = KVM_EXIT_DEBUG;
    run.debug.arch.exception = exception;
    run.debug.arch.pc = pc;
    run.debug.arch.dr6 = dr6;
    return 0;
  };
}

struct Fixture : KvmFixture {
  explicit Fixture(bool with_debug = true) {
    if (with_debug) host.SetCapability(KVM_CAP_SET_GUEST_DEBUG, 1);
    host.SetCapability(KVM_CAP_SET_GUEST_DEBUG2, KVM_GUESTDBG_BLOCKIRQ);
    Start();
  }
  vmm::Result<void> Set(const std::vector<DebugPoint>& points) {
    return vm->SetDebugPoints(points, state);
  }
  // The next KVM_RUN ends so.
  vmm::RunResult RunTo(vmm::test::FakeKvm::Exit exit) {
    host.NextExit(std::move(exit));
    return vcpu->Run();
  }
  vmm::RunResult RunToShutdown() { return RunTo(kvm::test::Reason(KVM_EXIT_SHUTDOWN)); }
  // The same, when it is nothing that ends Run(): a shutdown follows.
  vmm::RunResult RunThrough(vmm::test::FakeKvm::Exit exit) {
    host.NextExit(std::move(exit));
    return RunToShutdown();
  }
  const kvm_guest_debug& asked() { return host.vcpu(0).guest_debug; }
  uint8_t Byte(uint64_t address) {
    uint8_t byte = 0;
    memory.Read(GuestPhys(address), {&byte, 1});
    return byte;
  }
  vmm::CpuState state;
};

}  // namespace

TEST_CASE("a vCPU that nobody debugs asks nothing of KVM", "[kvm]") {
  Fixture fixture;
  fixture.RunToShutdown();
  CHECK(fixture.host.vcpu(0).guest_debugs == 0);
}

TEST_CASE("a step is asked for once, holds interrupts where KVM can, and is told", "[kvm]") {
  Fixture fixture;
  fixture.vcpu->SetDebugStep(DebugStep::kOne);
  const auto result = fixture.RunTo(DebugExit(1, 0x1001, 0x4000));
  CHECK(result.exit == RunExit::kDebug);
  CHECK(result.debug == DebugStop{});
  CHECK(fixture.asked().control ==
        (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ));
  fixture.vcpu->SetDebugStep(DebugStep::kOneOrEvent);
  fixture.RunTo(DebugExit(1, 0x1002, 0x4000));
  CHECK(fixture.asked().control == (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP));
  fixture.vcpu->SetDebugStep(DebugStep::kOff);
  fixture.RunToShutdown();
  CHECK(fixture.asked().control == 0);
}

TEST_CASE("hardware points are put into the debug registers", "[kvm]") {
  Fixture fixture;
  REQUIRE(fixture.Set({Point(Kind::kWrite, 0x5006, 10), Point(Kind::kHardware, 0x1000)}));
  const auto result = fixture.RunTo(DebugExit(1, 0x2000, 0x2));
  const kvm_guest_debug& asked = fixture.asked();
  CHECK(asked.control == (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP));
  // 0x5006 for 10 bytes: 2 bytes, then 8 aligned ones
  CHECK(asked.arch.debugreg[0] == 0x5006);
  CHECK(asked.arch.debugreg[1] == 0x5008);
  CHECK(asked.arch.debugreg[2] == 0x1000);
  CHECK(asked.arch.debugreg[7] == (0x400 | 0x2a | 0x5ull << 16 | 0x9ull << 20 | 0x0ull << 24));
  CHECK(result.exit == RunExit::kDebug);
  CHECK(result.debug.point == Point(Kind::kWrite, 0x5006, 10));
}

TEST_CASE("software points use the registers that are free, then memory", "[kvm]") {
  Fixture fixture;
  const uint8_t code[] = {0x90, 0x90, 0x90, 0x90, 0x90, 0x90};
  REQUIRE(fixture.memory.Write(GuestPhys(0x1000), code));
  std::vector<DebugPoint> points{Point(Kind::kAccess, 0x6000, 4)};
  for (unsigned i = 0; i < 5; ++i) points.push_back(Point(Kind::kSoftware, 0x1000 + i));
  REQUIRE(fixture.Set(points));
  CHECK(fixture.Byte(0x1002) == 0x90);
  CHECK(fixture.Byte(0x1003) == 0xcc);
  CHECK(fixture.Byte(0x1004) == 0xcc);
  const auto result = fixture.RunTo(DebugExit(3, 0x1003, 0));
  CHECK(fixture.asked().control ==
        (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_USE_SW_BP));
  CHECK(result.debug == DebugStop{DebugStop::Reason::kPoint, Point(Kind::kSoftware, 0x1003)});
  // What the guest has put over one of them is the guest's.
  REQUIRE(fixture.memory.Write(GuestPhys(0x1004), std::array<uint8_t, 1>{0xf4}));
  REQUIRE(fixture.Set({}));
  CHECK(fixture.Byte(0x1003) == 0x90);
  CHECK(fixture.Byte(0x1004) == 0xf4);
}

TEST_CASE("what can't be watched is refused, and nothing changes", "[kvm]") {
  Fixture fixture;
  REQUIRE(fixture.Set({Point(Kind::kHardware, 0x1000)}));
  const auto refused = [&](const std::vector<DebugPoint>& points) {
    const auto set = fixture.Set(points);
    return !set && set.error().code == vmm::ExitCode::kUnavailable;
  };
  CHECK(refused({Point(Kind::kRead, 0x1000)}));
  CHECK(refused({Point(Kind::kWrite, 0x1001, 32)}));  // 1, 2, 4, 8, 8, 8, 1 bytes
  std::vector<DebugPoint> five, unmapped;
  for (unsigned i = 0; i < 5; ++i) {
    five.push_back(Point(Kind::kHardware, 0x1000 + i));
    unmapped.push_back(Point(Kind::kSoftware, 0xf0000000 + i));
  }
  CHECK(refused(five));
  CHECK(refused(unmapped));
  fixture.RunTo(DebugExit(1, 0x1000, 1));
  CHECK(fixture.asked().arch.debugreg[0] == 0x1000);
  CHECK(fixture.asked().arch.debugreg[7] == 0x402);
}

TEST_CASE("an instruction whose point was told is passed once by RF", "[kvm]") {
  Fixture fixture;
  REQUIRE(fixture.Set({Point(Kind::kHardware, 0x1000)}));
  fixture.host.vcpu(0).regs.rip = 0x1000;
  fixture.host.vcpu(0).regs.rflags = 2;
  CHECK(fixture.RunTo(DebugExit(1, 0x1000, 1)).exit == RunExit::kDebug);
  CHECK(fixture.RunToShutdown().exit == RunExit::kShutdown);
  CHECK(fixture.host.vcpu(0).regs.rflags == 0x10002);
  fixture.host.vcpu(0).regs.rflags = 2;
  CHECK(fixture.RunTo(DebugExit(1, 0x1000, 1)).exit == RunExit::kDebug);
  fixture.host.vcpu(0).regs.rip = 0x2000;  // the debugger has moved it
  CHECK(fixture.RunToShutdown().exit == RunExit::kShutdown);
  CHECK(fixture.host.vcpu(0).regs.rflags == 2);
}

TEST_CASE("exceptions of the guest's own making are given back to it", "[kvm]") {
  Fixture fixture;
  REQUIRE(fixture.Set({Point(Kind::kHardware, 0x1000)}));
  CHECK(fixture.RunThrough(DebugExit(3, 0x3000, 0)).exit == RunExit::kShutdown);
  CHECK(fixture.asked().control ==
        (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_BP));
  CHECK(fixture.RunThrough(DebugExit(1, 0x3000, 0x4000)).exit == RunExit::kShutdown);
  CHECK((fixture.asked().control & KVM_GUESTDBG_INJECT_DB) != 0);
  CHECK((fixture.host.vcpu(0).debugregs.dr6 & 0x4000) != 0);
}

TEST_CASE("a KVM that lets nobody debug says so", "[kvm]") {
  Fixture fixture(false);
  const auto set = fixture.Set({Point(Kind::kHardware, 0x1000)});
  REQUIRE_FALSE(set);
  CHECK(set.error().message.find("KVM") != std::string::npos);
  CHECK(fixture.Set({}));
}

TEST_CASE("a step that KVM refuses ends in a failure that names it", "[kvm]") {
  Fixture fixture;
  fixture.host.Refuse(KVM_SET_GUEST_DEBUG, EINVAL);
  fixture.vcpu->SetDebugStep(DebugStep::kOne);
  const auto result = fixture.vcpu->Run();
  CHECK(result.exit == RunExit::kFailed);
  CHECK(result.detail.find("KVM_SET_GUEST_DEBUG") != std::string::npos);
}
