// The run loop of a KVM vCPU. Sections are of [KVM API], the kernel's
// Documentation/virt/kvm/api.rst.
#include <atomic>
#include <cerrno>
#include <thread>

#include "tests/unit/kvm/kvm_fixture.h"

namespace kvm::test {
namespace {

using Catch::Matchers::Contains;
using vmm::RunExit;

using Access = RecordingDevice::Access;

TEST_CASE_METHOD(KvmFixture, "a string output is one access for each item", "[kvm]") {
  Start();
  host.NextExit(PortAccess(KVM_EXIT_IO_OUT, 0x82, 2, 3, {1, 2, 3, 4, 5, 6}));
  host.NextExit(Reason(KVM_EXIT_SHUTDOWN));
  CHECK(vcpu->Run().exit == RunExit::kShutdown);
  CHECK(port_device.accesses ==
        std::vector<Access>{{true, 2, {1, 2}}, {true, 2, {3, 4}}, {true, 2, {5, 6}}});
}

TEST_CASE_METHOD(KvmFixture, "an input's bytes are in the page when the guest goes on", "[kvm]") {
  Start();
  host.NextExit(PortAccess(KVM_EXIT_IO_IN, 0x80, 1, 2, {}));
  host.NextExit([](kvm_run& run) {
    const auto* bytes = reinterpret_cast<uint8_t*>(&run) + 4096;
    CHECK(bytes[0] == 0x11);
    CHECK(bytes[1] == 0x22);
    run.exit_reason = KVM_EXIT_SHUTDOWN;
    return 0;
  });
  CHECK(vcpu->Run().exit == RunExit::kShutdown);
}

TEST_CASE_METHOD(KvmFixture, "a memory access of 7 bytes reaches the bus as 4, 2 and 1", "[kvm]") {
  Start();
  host.NextExit(MemoryAccess(true, 0xfed00010, {1, 2, 3, 4, 5, 6, 7}));
  host.NextExit(MemoryAccess(false, 0xfed00020, {0, 0, 0, 0, 0, 0, 0, 0}));
  host.NextExit([](kvm_run& run) {
    CHECK(run.mmio.data[7] == 0x88);
    run.exit_reason = KVM_EXIT_SHUTDOWN;
    return 0;
  });
  CHECK(vcpu->Run().exit == RunExit::kShutdown);
  REQUIRE(mmio_device.accesses.size() == 4);
  CHECK(mmio_device.accesses[0] == Access{true, 0x10, {1, 2, 3, 4}});
  CHECK(mmio_device.accesses[1] == Access{true, 0x14, {5, 6}});
  CHECK(mmio_device.accesses[2] == Access{true, 0x16, {7}});
  CHECK(mmio_device.accesses[3].bytes.size() == 8);
}

TEST_CASE_METHOD(KvmFixture, "an end of interrupt reaches the IOAPIC", "[kvm]") {
  Start();
  host.NextExit([](kvm_run& run) {
    run.exit_reason = KVM_EXIT_IOAPIC_EOI;
    run.eoi.vector = 0x51;
    return 0;
  });
  host.NextExit(Reason(KVM_EXIT_SHUTDOWN));
  vcpu->Run();
  CHECK(ioapic.eois == std::vector<int>{0x51});
}

TEST_CASE_METHOD(KvmFixture, "signals and windows are no reason to leave the guest", "[kvm]") {
  Start();
  host.NextExit([](kvm_run&) { return -EINTR; });
  host.NextExit([](kvm_run&) { return -EAGAIN; });
  host.NextExit(Reason(KVM_EXIT_INTR));
  host.NextExit(Reason(KVM_EXIT_IRQ_WINDOW_OPEN));
  host.NextExit(Reason(KVM_EXIT_SHUTDOWN));
  CHECK(vcpu->Run().exit == RunExit::kShutdown);
}

TEST_CASE_METHOD(KvmFixture, "an instruction that KVM can't emulate is shown with its bytes",
                 "[kvm]") {
  Start();
  host.NextExit([](kvm_run& run) {
    run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run.emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
    run.emulation_failure.ndata = 3;
    run.emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
    run.emulation_failure.insn_size = 3;
    run.emulation_failure.insn_bytes[0] = 0x0f;
    run.emulation_failure.insn_bytes[1] = 0xc7;
    run.emulation_failure.insn_bytes[2] = 0x08;
    return 0;
  });
  host.vcpu(0).regs.rip = 0xffffffff81001234;
  const vmm::RunResult result = vcpu->Run();
  CHECK(result.exit == RunExit::kFailed);
  CHECK_THAT(result.detail,
             Contains("0f c7 08") && Contains("ffffffff81001234") && Contains("can't emulate"));
}

TEST_CASE_METHOD(KvmFixture, "an internal error without bytes shows its data", "[kvm]") {
  Start();
  host.NextExit([](kvm_run& run) {
    run.exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run.internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
    run.internal.ndata = 2;
    run.internal.data[0] = 0x80000b0e;
    run.internal.data[1] = 0x31;
    return 0;
  });
  CHECK_THAT(vcpu->Run().detail, Contains("0x80000b0e 0x31"));
}

TEST_CASE_METHOD(KvmFixture, "a refused entry says why", "[kvm]") {
  Start();
  host.NextExit([](kvm_run& run) {
    run.exit_reason = KVM_EXIT_FAIL_ENTRY;
    run.fail_entry.hardware_entry_failure_reason = 0x80000021;
    return 0;
  });
  const vmm::RunResult result = vcpu->Run();
  CHECK(result.exit == RunExit::kFailed);
  CHECK_THAT(result.detail, Contains("0x80000021") && Contains("invalid guest state"));
}

TEST_CASE_METHOD(KvmFixture, "an exit that nobody knows ends the run with its number", "[kvm]") {
  Start();
  host.NextExit(Reason(99));
  CHECK_THAT(vcpu->Run().detail, Contains("99"));
  host.NextExit([](kvm_run&) { return -EFAULT; });
  CHECK_THAT(vcpu->Run().detail, Contains("Bad address"));
}

TEST_CASE_METHOD(KvmFixture, "a kick before the run ends the run, once", "[kvm]") {
  Start();
  vcpu->Kick();
  CHECK(vcpu->Run().exit == RunExit::kInterrupted);
  host.NextExit(Reason(KVM_EXIT_SHUTDOWN));
  CHECK(vcpu->Run().exit == RunExit::kShutdown);
}

TEST_CASE_METHOD(KvmFixture, "a kick takes a sleeping processor out of the kernel", "[kvm]") {
  Start();
  for (int i = 0; i < 50; ++i) {
    std::thread thread([&] { CHECK(vcpu->Run().exit == RunExit::kInterrupted); });
    if (i % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
    vcpu->Kick();
    thread.join();
  }
}

TEST_CASE_METHOD(KvmFixture, "a kick from a device on the vCPU's own thread ends the run",
                 "[kvm]") {
  Start();
  port_device.on_write = [&] { vcpu->Kick(); };
  host.NextExit(PortAccess(KVM_EXIT_IO_OUT, 0x80, 1, 1, {1}));
  CHECK(vcpu->Run().exit == RunExit::kInterrupted);
}

// 4.16 KVM_INTERRUPT
TEST_CASE_METHOD(KvmFixture, "the 8259 is acknowledged only when the guest can take the vector",
                 "[kvm]") {
  Start();
  pic.intr = true;
  pic.vector = 0x38;
  host.NextExit([this](kvm_run& run) {
    CHECK(run.request_interrupt_window == 1);
    CHECK(host.vcpu(0).interrupts.empty());
    run.exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
    run.ready_for_interrupt_injection = 1;
    return 0;
  });
  host.NextExit([this](kvm_run& run) {
    CHECK(run.request_interrupt_window == 0);
    CHECK(host.vcpu(0).interrupts == std::vector<uint32_t>{0x38});
    run.exit_reason = KVM_EXIT_SHUTDOWN;
    return 0;
  });
  CHECK(vcpu->Run().exit == RunExit::kShutdown);
}

TEST_CASE_METHOD(KvmFixture, "an interrupt of the 8259 wakes a processor that sleeps in the kernel",
                 "[kvm]") {
  Start();
  std::atomic<bool> sleeps{false};
  bool window = false;
  host.NextExit([&](kvm_run& run) {
    sleeps = true;
    while (std::atomic_ref<uint8_t>(run.immediate_exit).load() == 0) std::this_thread::yield();
    return -EINTR;
  });
  host.NextExit([&](kvm_run& run) {
    window = run.request_interrupt_window;
    run.exit_reason = KVM_EXIT_SHUTDOWN;
    return 0;
  });
  std::thread device([&] {
    while (!sleeps) std::this_thread::yield();
    pic.intr = true;
    vm->ExtIntChanged();
  });
  CHECK(vcpu->Run().exit == RunExit::kShutdown);
  device.join();
  CHECK(window);
}

// 5, immediate_exit: "complete pending operations ... before reading state".
TEST_CASE_METHOD(KvmFixture, "before state is read, a half-done access is completed", "[kvm]") {
  Start();
  port_device.on_write = [&] { vcpu->Kick(); };
  host.NextExit(PortAccess(KVM_EXIT_IO_OUT, 0x80, 1, 1, {1}));
  vcpu->Run();
  CHECK(host.vcpu(0).immediate_exits == 0);
  vmm::CpuState state;
  REQUIRE(vcpu->Save(state));
  CHECK(host.vcpu(0).immediate_exits == 1);
  REQUIRE(vcpu->Save(state));
  CHECK(host.vcpu(0).immediate_exits == 1);  // nothing is half done any more
}

TEST_CASE_METHOD(KvmFixture, "before state is loaded, the old state's access is completed",
                 "[kvm]") {
  Start();
  port_device.on_write = [&] { vcpu->Kick(); };
  host.NextExit(PortAccess(KVM_EXIT_IO_OUT, 0x80, 1, 1, {1}));
  vcpu->Run();
  REQUIRE(vcpu->Load(vmm::CpuState{}));
  CHECK(host.vcpu(0).immediate_exits == 1);
}

TEST_CASE_METHOD(KvmFixture,
                 "a vector given to KVM and not yet seen by the guest is injected first", "[kvm]") {
  Start();
  pic.intr = true;
  host.NextExit([](kvm_run& run) {
    run.ready_for_interrupt_injection = 1;
    return -EINTR;
  });
  host.NextExit([this](kvm_run&) {  // the guest is never entered: a kick
    vcpu->Kick();
    return -EINTR;
  });
  CHECK(vcpu->Run().exit == RunExit::kInterrupted);
  bool tried = false;
  host.NextExit([](kvm_run&) { return -EINTR; });  // ends a HLT only
  host.NextExit([&](kvm_run& run) {
    tried = true;
    CHECK(run.immediate_exit == 0);
    host.vcpu(0).events.interrupt.injected = 1;
    host.vcpu(0).events.interrupt.nr = 0x30;
    return -EINTR;
  });
  vmm::CpuState state;
  REQUIRE(vcpu->Save(state));
  CHECK(tried);
  CHECK(state.events.interrupt_pending);
  CHECK(state.events.interrupt_vector == 0x30);
}

}  // namespace
}  // namespace kvm::test
