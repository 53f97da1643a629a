// The engine on the host's own KVM, where there is one: small guests in 32-bit mode without paging.
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

#include "kvm/kvm_accelerator.h"
#include "tests/support/fake_clock.h"
#include "tests/unit/core/irq_fakes.h"
#include "tests/unit/kvm/kvm_fixture.h"

// Each guest is copied to 0x1000 and entered there; %esp = 0x8000. Port 0x80 ends it.
asm(R"(
    .pushsection .rodata
    .code32
    .global guest_io, guest_halt, guest_tick, guest_handler, guest_boot, guest_ap, guests_end
guest_io:
    mov   $0x12345678, %eax
    out   %eax, $0x82
    in    $0x84, %ax
    out   %ax, $0x86
    movl  $0xcafe, 0xfed00010
    mov   0xfed00020, %ebx
    out   %al, $0x80
    ud2

guest_halt:
    sti
1:  hlt
    jmp   1b

# Enables the APIC, then counts the interrupts that reach guest_handler.
guest_tick:
    movl  $0x1ff, 0xfee000f0
    sti
1:  hlt
    jmp   1b
guest_handler:
    movl  $0, 0xfee000b0
    out   %al, $0x80
    jmp   1b

# Starts CPU 1 at 0x3000 by INIT, SIPI, SIPI and waits for its mark.
guest_boot:
    movl  $0x1ff, 0xfee000f0
    movl  $0x01000000, 0xfee00310
    movl  $0x00004500, 0xfee00300
    movl  $0x00004603, 0xfee00300
    movl  $0x00004603, 0xfee00300
1:  cmpb  $0x77, 0x4000
    jne   1b
    out   %al, $0x80
    ud2
    .code16
guest_ap:
    movb  $0x77, %cs:0x1000         # CS = 0x300: 0x4000
    cli
1:  hlt
    jmp   1b
guests_end:
    .code64
    .popsection
)");
extern "C" {
extern const uint8_t guest_io[], guest_halt[], guest_tick[], guest_handler[], guest_boot[],
    guest_ap[], guests_end[];
}

namespace kvm::test {
namespace {

using vmm::CpuState;
using vmm::RunExit;
using Access = RecordingDevice::Access;

struct TestPic final : vmm::ExtIntSource {
  std::atomic<bool> intr{false};
  std::function<void()> on_acknowledge;
  bool IntrAsserted() const override { return intr; }
  uint8_t AcknowledgeInterrupt() override {
    intr = false;
    if (on_acknowledge) on_acknowledge();
    return 0x38;
  }
};

struct HostKvmFixture {
  HostKvmFixture() {
    REQUIRE(ports.Attach(0x80, 8, port_device));
    REQUIRE(mmio.Attach(0xfed00000, 0x1000, mmio_device));
    port_device.on_write = [this] {
      if (port_device.accesses.back().offset == 0) cpus[0]->Kick();
    };
  }
  ~HostKvmFixture() {
    done = true;
    if (watchdog.joinable()) watchdog.join();
  }

  // False, with the reason printed: this host has no KVM.
  bool Start(unsigned cpu_count = 1) {
    auto made = KvmAccelerator::Create(Kvm());
    if (made) {
      accelerator = std::move(*made);
      auto created = accelerator->CreateVm(
          {memory, ports, mmio, clock, timers, pic, ioapic, cpuid, cpu_count});
      if (created) {
        vm = std::move(*created);
      } else {
        WARN("skipped: " << created.error().message);
        return false;
      }
    } else {
      WARN("skipped: " << ToError(made.error(), Kvm().Facts()).message);
      return false;
    }
    for (unsigned id = 0; id < cpu_count; ++id) {
      cpus.push_back(std::move(*vm->CreateVcpu(id)));
      CpuState state;
      vmm::ResetCpuState(state, id, cpuid.signature());
      if (id > 0) REQUIRE(cpus[id]->Load(state));
    }
    return true;
  }

  // CPU 0 in flat 32-bit mode at `code`, with every vector at guest_handler.
  void Enter(const uint8_t* code) {
    std::memcpy(Ram(0x1000), code, static_cast<size_t>(guests_end - code));
    const uint32_t handler = 0x6000;
    std::memcpy(Ram(handler), guest_handler, static_cast<size_t>(guests_end - guest_handler));
    for (unsigned vector = 0; vector < 256; ++vector) {
      // 32-bit interrupt gate. [SDM 3A] 6.11
      const uint64_t gate = (handler & 0xffff) | 8u << 16 | uint64_t{0x8e00} << 32;
      std::memcpy(Ram(0x2000 + 8 * vector), &gate, 8);
    }
    const uint64_t gdt[3] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
    std::memcpy(Ram(0x800), gdt, sizeof gdt);

    CpuState state;
    vmm::ResetCpuState(state, 0, cpuid.signature());
    for (auto& segment : state.seg)
      segment = {.selector = 16, .access = 0xc093, .limit = 0xffffffff, .base = 0};
    state.seg[static_cast<unsigned>(vmm::Seg::CS)] = {
        .selector = 8, .access = 0xc09b, .limit = 0xffffffff, .base = 0};
    state.gdtr = {0x800, 23};
    state.idtr = {0x2000, 0x7ff};
    state.cr0 = 0x11;  // PE, ET
    state.rip = 0x1000;
    state.gpr[static_cast<unsigned>(vmm::Gpr::RSP)] = 0x8000;
    REQUIRE(cpus[0]->Load(state));
  }

  // Runs CPU 0 until it writes port 0x80 or leaves otherwise; kicked after five seconds.
  vmm::RunResult Run() {
    if (!watchdog.joinable()) {
      watchdog = std::thread([this] {
        for (int i = 0; i < 500 && !done; ++i)
          std::this_thread::sleep_for(std::chrono::milliseconds(10));
        timed_out = !done;
        for (auto& cpu : cpus) cpu->Kick();
      });
    }
    vmm::RunResult result = cpus[0]->Run();
    INFO(result.detail);
    CHECK(!timed_out);
    return result;
  }

  uint8_t* Ram(uint64_t address) { return memory.Host(vmm::GuestPhys(address), 1); }
  int Marks() const {  // writes to port 0x80
    return static_cast<int>(
        std::count_if(port_device.accesses.begin(), port_device.accesses.end(),
                      [](const Access& access) { return access.write && access.offset == 0; }));
  }

  vmm::GuestMemory memory = *vmm::GuestMemory::Create(2 * vmm::kMiB);
  vmm::Bus ports{0x10000}, mmio{uint64_t{1} << 40};
  vmm::FakeClock clock{0};  // the TSC as it is
  vmm::FakeTimers timers{clock};
  TestPic pic;
  vmm::test::FakeEoiListener ioapic;
  vmm::CpuidPolicy cpuid = vmm::CpuidPolicy::Build({.cpu_count = 2});
  RecordingDevice port_device, mmio_device;
  std::unique_ptr<KvmAccelerator> accelerator;
  std::unique_ptr<vmm::Vm> vm;
  std::vector<std::unique_ptr<vmm::Vcpu>> cpus;
  std::atomic<bool> done{false}, timed_out{false};
  std::thread watchdog;
};

TEST_CASE_METHOD(HostKvmFixture, "a guest's port and memory accesses reach the devices",
                 "[kvm-host]") {
  if (!Start()) return;
  Enter(guest_io);
  CHECK(Run().exit == RunExit::kInterrupted);
  CHECK(port_device.accesses == std::vector<Access>{{true, 2, {0x78, 0x56, 0x34, 0x12}},
                                                    {false, 4, {0x11, 0x22}},
                                                    {true, 6, {0x11, 0x22}},
                                                    {true, 0, {0x11}}});
  CHECK(mmio_device.accesses == std::vector<Access>{{true, 0x10, {0xfe, 0xca, 0, 0}},
                                                    {false, 0x20, {0x11, 0x22, 0x33, 0x44}}});
  CpuState state;
  REQUIRE(cpus[0]->Save(state));
  CHECK(state.gpr[static_cast<unsigned>(vmm::Gpr::RBX)] == 0x44332211);
  // RIP stands behind the OUT: the access was completed before the state was read.
  uint16_t next;
  std::memcpy(&next, Ram(state.rip), 2);
  CHECK(next == 0x0b0f);  // UD2
}

TEST_CASE_METHOD(HostKvmFixture, "a state comes back from KVM as it was loaded", "[kvm-host]") {
  if (!Start()) return;
  Enter(guest_io);
  CpuState first, second;
  REQUIRE(cpus[0]->Save(first));
  first.gpr[3] = 0x1234;
  first.msr.lstar = 0xffffffff81000000;
  first.msr.pat = 0x0007010600070106;
  first.dr[0] = 0x1000;
  first.cr2 = 0x5000;
  REQUIRE(cpus[0]->Load(first));
  REQUIRE(cpus[0]->Save(second));
  CHECK(second.gpr == first.gpr);
  CHECK(second.rip == 0x1000);
  CHECK(second.cr0 == first.cr0);
  CHECK(second.cr2 == 0x5000);
  CHECK(second.dr == first.dr);
  CHECK(second.msr.lstar == first.msr.lstar);
  CHECK(second.msr.pat == first.msr.pat);
  CHECK(second.apic.regs == first.apic.regs);
  for (unsigned i = 0; i < 6; ++i) CHECK(second.seg[i].base == first.seg[i].base);
}

TEST_CASE_METHOD(HostKvmFixture, "a kick ends the sleep of a halted guest", "[kvm-host]") {
  if (!Start()) return;
  Enter(guest_halt);
  for (int i = 0; i < 20; ++i) {
    std::thread kicker([&] {
      if (i % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      cpus[0]->Kick();
    });
    CHECK(Run().exit == RunExit::kInterrupted);
    kicker.join();
  }
  CpuState state;
  REQUIRE(cpus[0]->Save(state));
  CHECK(state.activity == vmm::Activity::kHalted);
}

TEST_CASE_METHOD(HostKvmFixture, "an MSI interrupts a halted guest", "[kvm-host]") {
  if (!Start()) return;
  Enter(guest_tick);
  std::thread device([&] {
    while (Marks() == 0 && !timed_out) {
      vm->SendMsi({0xfee00000, 0x40});
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  CHECK(Run().exit == RunExit::kInterrupted);
  CHECK(Marks() == 1);
  timed_out = true;  // ends the device if it has not seen the mark
  device.join();
  timed_out = false;
}

TEST_CASE_METHOD(HostKvmFixture, "an interrupt of the 8259 reaches a halted guest", "[kvm-host]") {
  if (!Start()) return;
  Enter(guest_tick);
  std::thread device([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    pic.intr = true;
    vm->ExtIntChanged();
  });
  CHECK(Run().exit == RunExit::kInterrupted);
  device.join();
  CHECK(Marks() == 1);
  CHECK(!pic.intr);  // acknowledged
}

TEST_CASE_METHOD(HostKvmFixture, "the end of a level-triggered interrupt reaches the IOAPIC",
                 "[kvm-host]") {
  if (!Start()) return;
  Enter(guest_tick);
  vm->IoapicRouteChanged(9, {0xfee00000, 0x51}, false, true);
  std::thread device([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    vm->SendMsi({0xfee00000, 0x51 | 0xc000});  // level, asserted
  });
  CHECK(Run().exit == RunExit::kInterrupted);
  device.join();
  // Where KVM emulates several instructions at a time, the mark comes before the EOI's exit.
  std::thread kicker([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    cpus[0]->Kick();
  });
  CHECK(Run().exit == RunExit::kInterrupted);
  kicker.join();
  CHECK(ioapic.eois == std::vector<int>{0x51});
}

TEST_CASE_METHOD(HostKvmFixture, "an eventfd interrupts the guest without this process's help",
                 "[kvm-host]") {
  if (!Start()) return;
  Enter(guest_tick);
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const auto wire = vm->AddIrqFd(fd, {0xfee00000, 0x61});
  REQUIRE(wire);
  std::thread device([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    const uint64_t one = 1;
    CHECK(::write(fd, &one, 8) == 8);
  });
  CHECK(Run().exit == RunExit::kInterrupted);
  device.join();
  CHECK(Marks() == 1);
  vm->RemoveIrqFd(*wire, fd);
  ::close(fd);
}

TEST_CASE_METHOD(HostKvmFixture, "a guest's write signals an eventfd instead of a device",
                 "[kvm-host]") {
  if (!Start()) return;
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  REQUIRE(vm->AddIoEventFd(true, 0x82, 4, fd));
  REQUIRE(vm->AddIoEventFd(false, 0xfed00010, 0, fd));
  Enter(guest_io);
  CHECK(Run().exit == RunExit::kInterrupted);
  uint64_t count = 0;
  CHECK(::read(fd, &count, 8) == 8);
  CHECK(count == 2);
  CHECK(port_device.accesses.size() == 3);
  CHECK(mmio_device.accesses.size() == 1);
  REQUIRE(vm->RemoveIoEventFd(true, 0x82, 4, fd));
  ::close(fd);
}

TEST_CASE_METHOD(HostKvmFixture, "a triple fault is a shutdown", "[kvm-host]") {
  if (!Start()) return;
  Enter(guest_io);
  CpuState state;
  REQUIRE(cpus[0]->Save(state));
  state.idtr = {0, 0};
  state.rip = 0x1000 + static_cast<uint64_t>(guest_halt - guest_io) - 2;  // the UD2
  REQUIRE(cpus[0]->Load(state));
  CHECK(Run().exit == RunExit::kShutdown);
}

TEST_CASE_METHOD(HostKvmFixture, "the second processor starts by INIT and SIPI", "[kvm-host]") {
  if (!Start(2)) return;
  Enter(guest_boot);
  std::memcpy(Ram(0x3000), guest_ap, static_cast<size_t>(guests_end - guest_ap));
  std::thread second([&] { cpus[1]->Run(); });
  CHECK(Run().exit == RunExit::kInterrupted);
  CHECK(*Ram(0x4000) == 0x77);
  cpus[1]->Kick();
  second.join();
  CpuState state;
  REQUIRE(cpus[1]->Save(state));
  CHECK(state.seg[static_cast<unsigned>(vmm::Seg::CS)].selector == 0x300);
}

// KVM_INTERRUPT's vector shows in no structure; see KvmVcpu::FinishInjection().
TEST_CASE_METHOD(HostKvmFixture, "a vector that the guest has not seen yet is in the saved state",
                 "[kvm-host]") {
  if (!Start()) return;
  Enter(guest_halt);
  std::thread kicker([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    cpus[0]->Kick();
  });
  CHECK(Run().exit == RunExit::kInterrupted);  // it sleeps now, ready for an interrupt
  kicker.join();
  // A kick comes between the acknowledge and the guest.
  pic.on_acknowledge = [&] { cpus[0]->Kick(); };
  pic.intr = true;
  CHECK(Run().exit == RunExit::kInterrupted);
  CHECK(!pic.intr);
  CHECK(Marks() == 0);
  CpuState state;
  REQUIRE(cpus[0]->Save(state));
  CHECK(state.events.interrupt_pending);
  CHECK(state.events.interrupt_vector == 0x38);
  // Loaded again, it is delivered.
  REQUIRE(cpus[0]->Load(state));
  CHECK(Run().exit == RunExit::kInterrupted);
  CHECK(Marks() == 1);
}

}  // namespace
}  // namespace kvm::test
