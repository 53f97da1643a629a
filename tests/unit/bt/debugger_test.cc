// A debugger outside the guest, on the interpreter: a few instructions in real mode at 0x1000.
#include "bt/interp/debugger.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <thread>

#include "bt/interp/interpreter.h"
#include "tests/support/fake_clock.h"
#include "tests/unit/core/irq_fakes.h"

namespace {

using vmm::DebugPoint;
using vmm::DebugStep;
using vmm::DebugStop;
using vmm::RunExit;
using Kind = DebugPoint::Kind;

constexpr uint64_t kCode = 0x1000, kData = 0x3000;

DebugPoint Point(Kind kind, uint64_t address, uint64_t length = 1) {
  return {kind, vmm::GuestVirt(address), length};
}

struct Guest {
  explicit Guest(const std::vector<uint8_t>& code) {
    REQUIRE(memory.Write(vmm::GuestPhys(kCode), code));
    vm = *bt::InterpreterAccelerator().CreateVm(
        {memory, ports, mmio, clock, timers, pic, ioapic, cpuid, 1});
    vcpu = *vm->CreateVcpu(0);
    vmm::ResetCpuState(state, 0, 0);
    auto& cs = state.seg[static_cast<unsigned>(vmm::Seg::CS)];
    cs.selector = 0;
    cs.base = 0;
    state.rip = kCode;
    state.gpr[4] = 0x8000;
    REQUIRE(vcpu->Load(state));
  }
  void SetPoints(const std::vector<DebugPoint>& points) {
    REQUIRE(vm->SetDebugPoints(points, state));
  }
  uint64_t Rip() {
    REQUIRE(vcpu->Save(state));
    return state.rip;
  }
  // Runs to the next stop of the debugger, which must come.
  DebugStop RunToStop() {
    const vmm::RunResult result = vcpu->Run();
    REQUIRE(result.exit == RunExit::kDebug);
    return result.debug;
  }

  vmm::GuestMemory memory = *vmm::GuestMemory::Create(2 * vmm::kMiB);
  vmm::Bus ports{0x10000}, mmio{uint64_t{1} << 40};
  vmm::FakeClock clock{2'000'000'000};
  vmm::FakeTimers timers{clock};
  vmm::test::FakePic pic;
  vmm::test::FakeEoiListener ioapic;
  vmm::CpuidPolicy cpuid = vmm::CpuidPolicy::Build({.cpu_count = 1});
  std::unique_ptr<vmm::Vm> vm;
  std::unique_ptr<vmm::Vcpu> vcpu;
  vmm::CpuState state;
};

TEST_CASE("a step executes one instruction, in a block as well", "[interp]") {
  Guest guest({0x40, 0x43, 0xeb, 0xfc});  // inc ax; inc bx; jmp 0x1000
  guest.vcpu->SetDebugStep(DebugStep::kOne);
  for (const uint64_t rip : {0x1001, 0x1002, 0x1000, 0x1001}) {
    CHECK(guest.RunToStop() == DebugStop{});
    CHECK(guest.Rip() == rip);
  }
  CHECK(guest.state.gpr[0] == 2);
  CHECK(guest.state.gpr[3] == 1);
  CHECK_FALSE(guest.state.rflags & 0x100);  // no TF that the guest could see
  CHECK((guest.state.dr6 & 0x4000) == 0);
}

TEST_CASE("a breakpoint stops before its instruction each time it is reached", "[interp]") {
  Guest guest({0x40, 0x43, 0xeb, 0xfc});
  guest.SetPoints({Point(Kind::kHardware, 0x2000), Point(Kind::kSoftware, 0x1001)});
  for (unsigned round = 1; round <= 3; ++round) {
    const DebugStop stop = guest.RunToStop();
    CHECK(stop.reason == DebugStop::Reason::kPoint);
    CHECK(stop.point == Point(Kind::kSoftware, 0x1001));
    CHECK(guest.Rip() == 0x1001);
    CHECK(guest.state.gpr[0] == round);
    CHECK(guest.state.gpr[3] == round - 1);
  }
  uint8_t byte = 0;
  REQUIRE(guest.memory.Read(vmm::GuestPhys(0x1001), {&byte, 1}));
  CHECK(byte == 0x43);  // nothing was put there
}

TEST_CASE("a breakpoint set while the code is decoded already stops it", "[interp]") {
  Guest guest({0x40, 0x43, 0xeb, 0xfc});
  guest.SetPoints({Point(Kind::kHardware, 0x1000)});
  guest.RunToStop();
  guest.RunToStop();
  guest.SetPoints({Point(Kind::kHardware, 0x1002)});
  CHECK(guest.RunToStop().point.address.value == 0x1002);
  guest.SetPoints({});
  std::thread kicker([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    guest.vcpu->Kick();
  });
  CHECK(guest.vcpu->Run().exit == RunExit::kInterrupted);
  kicker.join();
}

TEST_CASE("a jump to itself meets its breakpoint each time", "[interp]") {
  Guest guest({0xeb, 0xfe});
  guest.SetPoints({Point(Kind::kHardware, 0x1000)});
  for (unsigned i = 0; i < 3; ++i) CHECK(guest.RunToStop().point.address.value == 0x1000);
}

TEST_CASE("watched data stops after the instruction that touched it", "[interp]") {
  // mov [0x3000],ax; mov bx,[0x3000]; inc ax; push ax; jmp 0x1000
  Guest guest({0xa3, 0x00, 0x30, 0x8b, 0x1e, 0x00, 0x30, 0x40, 0x50, 0xeb, 0xf5});
  const auto stops_at = [&](Kind kind, uint64_t address, uint64_t length) {
    guest.SetPoints({Point(kind, address, length)});
    std::vector<uint64_t> places;
    for (unsigned i = 0; i < 3; ++i) {
      CHECK(guest.RunToStop().point == Point(kind, address, length));
      places.push_back(guest.Rip());
    }
    return places;
  };
  using Places = std::vector<uint64_t>;
  CHECK(stops_at(Kind::kWrite, kData, 2) == Places{0x1003, 0x1003, 0x1003});
  CHECK(stops_at(Kind::kRead, kData + 1, 1) == Places{0x1007, 0x1007, 0x1007});
  CHECK(stops_at(Kind::kAccess, kData - 4, 5) == Places{0x1003, 0x1007, 0x1003});
  REQUIRE(guest.vcpu->Save(guest.state));
  const uint64_t stack = (guest.state.gpr[4] & 0xffff) - 2;
  guest.SetPoints({Point(Kind::kWrite, stack, 2)});
  guest.RunToStop();
  CHECK(guest.Rip() == 0x1009);  // an implicit access counts too
}

TEST_CASE("a repeated instruction is stepped and watched by iterations", "[interp]") {
  Guest guest(
      {0xb9, 0x08, 0x00, 0xbf, 0x00, 0x30, 0xf3, 0xaa, 0xf4});  // cx=8, di=0x3000, rep stosb
  guest.SetPoints({Point(Kind::kWrite, kData + 2)});
  guest.RunToStop();
  CHECK(guest.Rip() == 0x1006);
  CHECK(guest.state.gpr[1] == 5);
  guest.SetPoints({});
  guest.vcpu->SetDebugStep(DebugStep::kOne);
  CHECK(guest.RunToStop() == DebugStop{});
  CHECK(guest.Rip() == 0x1006);
  CHECK(guest.state.gpr[1] == 4);
}

TEST_CASE("a breakpoint on a repeated instruction is told once, not for each iteration",
          "[interp]") {
  Guest guest({0xb9, 0x04, 0x00, 0xf3, 0xaa, 0xeb, 0xf9});  // cx=4, rep stosb, jmp 0x1000
  guest.SetPoints({Point(Kind::kHardware, 0x1003), Point(Kind::kWrite, 0x7000)});
  CHECK(guest.RunToStop().point.address.value == 0x1003);
  guest.Rip();
  CHECK(guest.state.gpr[1] == 4);
  CHECK(guest.RunToStop().point.address.value == 0x1003);
  guest.Rip();
  CHECK(guest.state.gpr[1] == 4);  // of the next round
}

TEST_CASE("a step over an instruction that faults ends in its handler", "[interp]") {
  Guest guest({0x0f, 0x0b});  // ud2
  REQUIRE(guest.memory.Write(vmm::GuestPhys(6 * 4), std::array<uint8_t, 4>{0x00, 0x20, 0, 0}));
  guest.vcpu->SetDebugStep(DebugStep::kOne);
  CHECK(guest.RunToStop() == DebugStop{});
  CHECK(guest.Rip() == 0x2000);
  CHECK_FALSE(guest.state.events.exception_pending);
}

TEST_CASE("a step keeps interrupts waiting, unless they are asked for", "[interp]") {
  Guest guest({0xfb, 0x90, 0x90, 0x90, 0x90});  // sti; nop...
  REQUIRE(guest.memory.Write(vmm::GuestPhys(2 * 4), std::array<uint8_t, 4>{0x00, 0x20, 0, 0}));
  guest.vcpu->SetDebugStep(DebugStep::kOne);
  guest.RunToStop();
  guest.RunToStop();
  guest.vm->InjectNmi(0);
  guest.RunToStop();
  CHECK(guest.Rip() == 0x1003);
  guest.vcpu->SetDebugStep(DebugStep::kOneOrEvent);
  CHECK(guest.RunToStop() == DebugStop{});
  CHECK(guest.Rip() == 0x2000);  // before its first instruction
}

TEST_CASE("a halted processor that is stepped wakes up for an interrupt", "[interp]") {
  Guest guest({0xf4});
  REQUIRE(guest.memory.Write(vmm::GuestPhys(2 * 4), std::array<uint8_t, 4>{0x00, 0x20, 0, 0}));
  guest.vcpu->SetDebugStep(DebugStep::kOne);
  guest.RunToStop();
  CHECK(guest.Rip() == 0x1001);
  CHECK(guest.state.activity == vmm::Activity::kHalted);
  guest.vm->InjectNmi(0);
  guest.RunToStop();
  CHECK(guest.Rip() == 0x2000);
}

TEST_CASE("the guest's own single step and the debugger's do not disturb each other", "[interp]") {
  Guest guest({0x90, 0x90});
  REQUIRE(guest.memory.Write(vmm::GuestPhys(1 * 4), std::array<uint8_t, 4>{0x00, 0x20, 0, 0}));
  guest.state.rflags |= 0x100;
  REQUIRE(guest.vcpu->Load(guest.state));
  guest.vcpu->SetDebugStep(DebugStep::kOne);
  guest.RunToStop();
  CHECK(guest.Rip() == 0x2000);  // #DB was delivered
  CHECK((guest.state.dr6 & 0x4000) != 0);
}

TEST_CASE("a kick is not lost to a stop", "[interp]") {
  Guest guest({0x40, 0xeb, 0xfd});
  guest.SetPoints({Point(Kind::kHardware, 0x1001)});
  guest.vcpu->Kick();
  CHECK(guest.vcpu->Run().exit == RunExit::kInterrupted);
  guest.RunToStop();
}

TEST_CASE("points that wrap around or touch the last byte match what they cover", "[interp]") {
  bt::DebugPoints points;
  points.Set(std::vector{Point(Kind::kWrite, ~uint64_t{0}, 1), Point(Kind::kAccess, 0x5ffe, 4)});
  CHECK(points.DataAt(~uint64_t{0} - 7, 8, true) != nullptr);
  CHECK(points.DataAt(~uint64_t{0} - 8, 8, true) == nullptr);
  CHECK(points.DataAt(~uint64_t{0}, 1, false) == nullptr);
  CHECK(points.WatchesPage(0x5000, false));
  CHECK(points.WatchesPage(0x6000, true));
  CHECK_FALSE(points.WatchesPage(0x7000, true));
  CHECK(points.DataAt(0x6001, 1, false) != nullptr);
  CHECK(points.DataAt(0x6002, 1, false) == nullptr);
}

}  // namespace
