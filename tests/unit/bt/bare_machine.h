// Processors of the software engines without a machine around them.
#pragma once

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "bt/interp/cpu.h"
#include "bt/interp/interpreter.h"
#include "tests/support/fake_clock.h"

// What a VM is made of, and 2 MiB of memory; nothing interrupts.
struct BareBoard {
  explicit BareBoard(unsigned cpus)
      : cpuid(vmm::CpuidPolicy::Build({.cpu_count = cpus, .tsc_hz = 1'000'000'000})),
        parts{memory, ports, mmio, clock, timers, pic, ioapic, cpuid, cpus} {}

  struct NoPic final : vmm::ExtIntSource {
    bool IntrAsserted() const override { return false; }
    uint8_t AcknowledgeInterrupt() override { return 0xff; }
  };
  struct NoIoapic final : vmm::EoiListener {
    void OnEoi(uint8_t) override {}
  };

  vmm::GuestMemory memory = std::move(*vmm::GuestMemory::Create(vmm::GuestMemory::kMinSize));
  vmm::Bus ports{0x10000}, mmio{1ull << 52};
  vmm::FakeClock clock{2'000'000'000};
  vmm::FakeTimers timers{clock};
  NoPic pic;
  NoIoapic ioapic;
  vmm::CpuidPolicy cpuid;
  vmm::VmParts parts;
};

// A processor in 64-bit mode; linear addresses of the first 2 MiB are physical, by tables from
// 0x1000 to 0x4fff.
class LongModeMachine {
 public:
  using Code = std::vector<uint8_t>;
  using Registers = std::array<uint64_t, 16>;

  bt::Cpu& cpu() { return *cpu_; }

 protected:
  static constexpr uint64_t kTable = 0x1000, kCr4 = bt::cr4::PAE | bt::cr4::OSFXSR |
                                                    bt::cr4::OSXMMEXCPT | bt::cr4::OSXSAVE;

  // `rights`: the lowest bits of its page table entries. It runs at CPL 3 if they are a user's.
  LongModeMachine(uint64_t rights, bt::InterpreterVm::MakeTierFunction make_tier,
                  const std::function<void(vmm::VmParts&)>& adjust)
      : rights_(rights) {
    adjust(board_.parts);
    vm_ = std::make_unique<bt::InterpreterVm>(board_.parts, make_tier);
    vcpu_ = std::move(*vm_->CreateVcpu(0));
    cpu_ = static_cast<bt::Cpu*>(vcpu_.get());
    for (uint64_t table = kTable; table < 0x4000; table += 0x1000)
      SetEntry(table, (table + 0x1000) | rights);
    for (uint64_t page = 0; page < 512; ++page) SetEntry(0x4000 + page * 8, page << 12 | rights);
    constexpr uint64_t kUserBit = 4;
    const uint16_t dpl = rights & kUserBit ? 0x60 : 0;
    vmm::CpuState state;
    vmm::ResetCpuState(state, 0, board_.cpuid.signature());
    state.cr0 = 0x80050033;  // with WP
    state.cr3 = kTable;
    state.cr4 = kCr4;
    state.xcr0 = 7;
    state.msr.efer = bt::efer::LME | bt::efer::LMA;
    for (vmm::SegmentState& segment : state.seg) segment.access = 0xc093 | dpl;
    state.seg[static_cast<unsigned>(vmm::Seg::CS)].access = 0xa09b | dpl;
    REQUIRE(vcpu_->Load(state).has_value());
  }

  void SetEntry(uint64_t at, uint64_t entry) { std::memcpy(Host(at), &entry, sizeof(entry)); }
  uint8_t* Host(uint64_t phys) { return board_.memory.Host(vmm::GuestPhys(phys), 8); }
  void Store(uint64_t phys, const Code& code) {
    std::fill_n(Host(phys), 64, 0x06);  // no instruction: it ends the block
    std::ranges::copy(code, Host(phys));
    vm_->OnHostWrite(vmm::GuestPhys(phys), 64);
  }
  // From there to `size` bytes behind it, or to a fault, or so many turns.
  void RunHot(uint64_t rip, size_t size, const Registers& registers, unsigned turns) {
    std::array<uint8_t, 512> fx{};
    fx[0] = 0x7f;
    fx[1] = 0x03;
    fx[24] = 0x80;
    fx[25] = 0x1f;
    cpu_->ResetForTest(registers, rip, 2, fx);
    for (; turns > 0; --turns) {
      if (cpu_->fault_.active || cpu_->r[bt::kRip] - rip >= size) break;
      cpu_->RunHotForTest();
    }
  }
  uint64_t Counted(std::string_view name) const {
    for (const vmm::Statistic& statistic : cpu_->Statistics()) {
      if (statistic.name == name) return statistic.count;
    }
    return 0;
  }

  const uint64_t rights_;

 private:
  BareBoard board_{1};
  std::unique_ptr<bt::InterpreterVm> vm_;
  std::unique_ptr<vmm::Vcpu> vcpu_;
  bt::Cpu* cpu_ = nullptr;
};
