// A machine on the fake KVM: RAM, buses that record, an 8259 and an IOAPIC that a test drives.
#pragma once

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "kvm/kvm_accelerator.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_kvm.h"
#include "tests/unit/core/irq_fakes.h"
#include "vmm/core/accel/accelerator.h"

namespace kvm::test {

// Answers reads with 0x11, 0x22, ... and remembers every access.
class RecordingDevice final : public vmm::Device {
 public:
  struct Access {
    bool write;
    uint64_t offset;
    std::vector<uint8_t> bytes;
    friend bool operator==(const Access&, const Access&) = default;
  };
  std::string_view name() const override { return "recorder"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    for (uint8_t& byte : data) byte = next_ += 0x11;
    accesses.push_back({false, offset, {data.begin(), data.end()}});
  }
  void Write(uint64_t offset, std::span<const uint8_t> data) override {
    accesses.push_back({true, offset, {data.begin(), data.end()}});
    if (on_write) on_write();
  }
  std::vector<Access> accesses;
  std::function<void()> on_write;

 private:
  uint8_t next_ = 0;
};

struct KvmFixture {
  KvmFixture() {
    REQUIRE(ports.Attach(0x80, 8, port_device));
    REQUIRE(mmio.Attach(0xfed00000, 0x1000, mmio_device));
  }

  // Makes VM and CPU 0; call after the fake was told what it is like.
  void Start() {
    auto made = KvmAccelerator::Create(host);
    REQUIRE(made);
    accelerator = std::move(*made);
    vmm::VmParts parts{memory, ports, mmio, clock, timers, pic, ioapic, cpuid, 2};
    parts.rescuer = rescuer;
    auto created = accelerator->CreateVm(parts);
    REQUIRE(created);
    vm = std::move(*created);
    auto cpu = vm->CreateVcpu(0);
    REQUIRE(cpu);
    vcpu = std::move(*cpu);
  }

  vmm::test::FakeKvm host;
  vmm::GuestMemory memory = *vmm::GuestMemory::Create(4 * vmm::kMiB);
  vmm::Bus ports{0x10000}, mmio{uint64_t{1} << 40};
  vmm::FakeClock clock{2'000'000'000};
  vmm::FakeTimers timers{clock};
  vmm::test::FakePic pic;
  vmm::test::FakeEoiListener ioapic;
  vmm::CpuidPolicy cpuid = vmm::CpuidPolicy::Build({.cpu_count = 2});
  RecordingDevice port_device, mmio_device;
  vmm::InstructionRescuer* rescuer = nullptr;

  std::unique_ptr<KvmAccelerator> accelerator;
  std::unique_ptr<vmm::Vm> vm;
  std::unique_ptr<vmm::Vcpu> vcpu;
};

// Exits for FakeKvm::NextExit.
inline auto PortAccess(int direction, uint16_t port, uint8_t size, uint32_t count,
                       std::vector<uint8_t> bytes) {
  return [=](kvm_run& run) {
    run.exit_reason = KVM_EXIT_IO;
    run.io.direction = static_cast<uint8_t>(direction);
    run.io.port = port;
    run.io.size = size;
    run.io.count = count;
    run.io.data_offset = 4096;
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<uint8_t*>(&run) + 4096);
    return 0;
  };
}

inline auto MemoryAccess(bool write, uint64_t address, std::vector<uint8_t> bytes) {
  return [=](kvm_run& run) {
    run.exit_reason = KVM_EXIT_MMIO;
    run.mmio.is_write = write;
    run.mmio.phys_addr = address;
    run.mmio.len = static_cast<uint32_t>(bytes.size());
    std::copy(bytes.begin(), bytes.end(), run.mmio.data);
    return 0;
  };
}

inline auto Reason(uint32_t reason) {
  return [reason](kvm_run& run) {
    run.exit_reason = reason;
    return 0;
  };
}

}  // namespace kvm::test
