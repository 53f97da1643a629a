#include "guest_cpu.h"

#include <algorithm>
#include <cstring>

#include "bt/interp/cpu.h"
#include "bt/interp/interpreter.h"
#include "bt/translator/translator_accelerator.h"
#include "neighbours.h"
#include "vmm/core/base/check.h"

namespace difftest {

class GuestCpu::NoPic final : public vmm::ExtIntSource {
 public:
  bool IntrAsserted() const override { return false; }
  uint8_t AcknowledgeInterrupt() override { return 0xff; }
};

class GuestCpu::NoIoapic final : public vmm::EoiListener {
 public:
  void OnEoi(uint8_t) override {}
};

namespace {

constexpr unsigned kYmmHigh = 576;  // in the XSAVE area

vmm::GuestMemory MakeMemory() {
  auto memory = vmm::GuestMemory::Create(vmm::GuestMemory::kMinSize);
  CHECK(memory.has_value());
  return std::move(*memory);
}

vmm::SegmentState UserSegment(uint16_t selector) {
  vmm::SegmentState state;
  state.selector = selector;
  state.access = selector == 0x33 ? 0xa0fb : selector == 0x23 ? 0xc0fb : 0xc0f3;
  state.limit = 0xffffffff;
  return state;
}

}  // namespace

GuestCpu::GuestCpu(Engine engine, bt::CodeSize code_size)
    : pic_(new NoPic),
      ioapic_(new NoIoapic),
      memory_(MakeMemory()),
      cpuid_(vmm::CpuidPolicy::Build({.cpu_count = 1, .tsc_hz = 1'000'000'000})),
      ram_(memory_.Host(vmm::GuestPhys(0), vmm::GuestMemory::kMinSize)) {
  BuildPageTables();
  vmm::VmParts parts{memory_, ports_, mmio_, clock_, timers_, *pic_, *ioapic_, cpuid_, 1};
  parts.user_cells = engine == Engine::kCell ? vmm::UserCells::kAlways : vmm::UserCells::kNever;
  if (engine == Engine::kInterpreter)
    vm_ = std::make_unique<bt::InterpreterVm>(parts);
  else
    vm_ = std::move(*bt::TranslatorAccelerator().CreateVm(parts));
  vcpu_ = std::move(*vm_->CreateVcpu(0));
  cpu_ = static_cast<bt::Cpu*>(vcpu_.get());

  LoadState(code_size);
}

void GuestCpu::LoadState(bt::CodeSize code_size) {
  vmm::ResetCpuState(state_, 0, cpuid_.signature());
  state_.cr0 = 0x80050033;
  state_.cr3 = 0x1000;
  state_.cr4 = bt::cr4::PAE | bt::cr4::OSFXSR | bt::cr4::OSXMMEXCPT;
  if (cpuid_.Has("xsave")) state_.cr4 |= bt::cr4::OSXSAVE;
  state_.xcr0 = std::max<uint64_t>(cpuid_.xcr0_mask(), 1);
  state_.msr.efer = bt::efer::LME | bt::efer::LMA | bt::efer::NXE | bt::efer::SCE;
  for (vmm::SegmentState& segment : state_.seg) segment = UserSegment(0x2b);
  const bool wide = code_size == bt::CodeSize::k64;
  state_.seg[static_cast<unsigned>(vmm::Seg::CS)] = UserSegment(wide ? 0x33 : 0x23);
  state_.tr.limit = 0x60;  // ends before the offset of an I/O bitmap
  state_.activity = vmm::Activity::kRunning;
  CHECK(vcpu_->Load(state_).has_value());
}

const bt::FeatureSet& GuestCpu::features() const {
  return static_cast<bt::InterpreterVm&>(*vm_).features();
}

GuestCpu::~GuestCpu() = default;

void GuestCpu::BuildPageTables() {
  uint64_t next = 0x2000;
  const auto map = [&](uint64_t linear, uint64_t frame, uint64_t flags) {
    uint64_t table = 0x1000;
    for (unsigned shift = 39; shift > 12; shift -= 9) {
      uint64_t entry;
      uint8_t* at = ram_ + table + ((linear >> shift) & 511) * 8;
      std::memcpy(&entry, at, 8);
      if (!entry) {
        entry = next | 7;
        next += 0x1000;
        std::memcpy(at, &entry, 8);
      }
      table = entry & ~0xfffull;
    }
    const uint64_t entry = frame | flags;
    std::memcpy(ram_ + table + ((linear >> 12) & 511) * 8, &entry, 8);
  };
  constexpr uint64_t kNx = 1ull << 63;
  map(kCode, kCodeFrame, 5);
  map(kData + 0x1000, kWritableFrame, 7 | kNx);
  map(kData + 0x2000, kWritableFrame + 0x1000, 7 | kNx);
  map(kData + 0x4000, kReadOnlyFrame, 5 | kNx);
}

void GuestCpu::LoadRegisters(uint64_t rip, const Registers& registers) {
  cpu_->ResetForTest(registers.gpr, rip, registers.rflags | 0x200, registers.fx);
  std::memcpy(cpu_->fpu_.bytes.data() + kYmmHigh, registers.ymm_high.data(), 256);
}

Outcome GuestCpu::StoreRegisters(Registers& registers) {
  registers.rflags = cpu_->Rflags();
  std::copy_n(cpu_->r, 16, registers.gpr.begin());
  std::memcpy(registers.fx.data(), cpu_->fpu_.bytes.data(), 512);
  std::memcpy(registers.ymm_high.data(), cpu_->fpu_.bytes.data() + kYmmHigh, 256);
  Outcome outcome;
  const bt::Fault& fault = cpu_->fault_;
  outcome.faulted = fault.active;
  outcome.rip = cpu_->r[bt::kRip];
  if (fault.active) {
    outcome.vector = fault.vector;
    outcome.error = fault.has_error ? fault.error : 0;
    if (fault.vector == bt::kPF) outcome.cr2 = cpu_->cr2_;
  }
  return outcome;
}

uint64_t GuestCpu::hand_overs() const {
  for (const vmm::Statistic& statistic : vcpu_->Statistics()) {
    if (statistic.name == "hand-overs to the cell") return statistic.count;
  }
  return 0;
}

Outcome GuestCpu::Run(const Case& test, Registers& registers) {
  // INT3 follows, which ends the decoded block.
  constexpr unsigned kRoom = 32;
  std::memcpy(Code(kInsn), test.code.data(), test.code.size());
  std::memset(Code(kInsn) + test.code.size(), 0xcc, kRoom - test.code.size());
  vm_->OnHostWrite(vmm::GuestPhys(kCodeFrame + (kInsn - kCode)), kRoom);
  LoadRegisters(kInsn, registers);
  cpu_->Step();
  return StoreRegisters(registers);
}

void GuestCpu::StoreCode(const Case& test, std::span<const uint8_t> before,
                         std::span<const uint8_t> after) {
  // PUSH ES is #UD in 64-bit mode: it ends the block, and one byte of it is enough. What must be
  // #UD itself meets INT3, as on the host.
  constexpr uint8_t kEnd = 0x06, kInt3 = 0xcc;
  constexpr uint64_t kFirst = kInsn - kMaxNeighbours;
  constexpr unsigned kRoom = 2 * kMaxNeighbours + 32;
  std::memset(Code(kFirst), test.illegal ? kInt3 : kEnd, kRoom);
  std::ranges::copy(before, Code(kInsn - before.size()));
  std::ranges::copy(test.code, Code(kInsn));
  std::ranges::copy(after, Code(kInsn + test.code.size()));
  vm_->OnHostWrite(vmm::GuestPhys(kCodeFrame + (kFirst - kCode)), kRoom);
}

Outcome GuestCpu::RunSteps(const Case& test, std::span<const uint8_t> before,
                           std::span<const uint8_t> after, unsigned steps, Registers& registers) {
  StoreCode(test, before, after);
  LoadRegisters(kInsn - before.size(), registers);
  for (; steps > 0 && !cpu_->fault_.active; --steps) cpu_->Step();
  Outcome outcome = StoreRegisters(registers);
  const uint64_t next = kInsn + test.code.size();
  if (!outcome.faulted && outcome.rip == next + after.size()) outcome.rip = next;
  return outcome;
}

Outcome GuestCpu::RunTranslated(const Case& test, std::span<const uint8_t> before,
                                std::span<const uint8_t> after, Registers& registers) {
  StoreCode(test, before, after);
  const uint64_t start = kInsn - before.size();
  const uint64_t next = kInsn + test.code.size(), end = next + after.size();
  LoadRegisters(start, registers);
  // It may take more than one block, each instruction for itself where an exception of vectors is
  // unmasked, and one more turn where the code had to be forgotten.
  constexpr unsigned kTurns = 64;
  bool translated = false;
  for (unsigned turn = 0; turn < kTurns; ++turn) {
    translated |= cpu_->RunHotForTest();
    const uint64_t rip = cpu_->r[bt::kRip];
    if (cpu_->fault_.active || rip < start || rip >= end) break;
  }
  translated_ += translated;
  Outcome outcome = StoreRegisters(registers);
  if (outcome.rip != end || test.illegal) return outcome;
  return {false, 0, 0, 0, next};
}

}  // namespace difftest
