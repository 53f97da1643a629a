// Lock-step notices what is wrong with translated code, and nothing else.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bt/interp/cpu.h"
#include "bt/interp/interpreter.h"
#include "bt/translator/translator.h"
#include "tests/support/fake_clock.h"

namespace {

using bt::LeaveOut;
using Code = std::vector<uint8_t>;

struct NoPic final : vmm::ExtIntSource {
  bool IntrAsserted() const override { return false; }
  uint8_t AcknowledgeInterrupt() override { return 0xff; }
};
struct NoIoapic final : vmm::EoiListener {
  void OnEoi(uint8_t) override {}
};

bt::Translator::Trial g_trial;
std::vector<std::string> g_reports;

std::unique_ptr<bt::Tier> MakeTier(bt::Cpu& cpu) {
  return std::make_unique<bt::Translator>(cpu, g_trial);
}

// A processor in 64-bit mode at CPL 0; linear addresses of the first 2 MiB are physical. Page
// kReadOnly cannot be written to.
class Machine {
 public:
  static constexpr uint64_t kCode = 0x10000, kData = 0x20000, kStack = 0x30800, kReadOnly = 0x40000;

  explicit Machine(LeaveOut leave_out = LeaveOut::kNothing) {
    g_trial = {leave_out, [](const std::string& report) { g_reports.push_back(report); }};
    g_reports.clear();
    vmm::VmParts parts{memory_, ports_, mmio_, clock_, timers_, pic_, ioapic_, cpuid_, 1};
    parts.lockstep = true;
    vm_ = std::make_unique<bt::InterpreterVm>(parts, &MakeTier);
    vcpu_ = std::move(*vm_->CreateVcpu(0));
    cpu_ = static_cast<bt::Cpu*>(vcpu_.get());
    SetEntry(0x1000, 0x2003);
    SetEntry(0x2000, 0x3003);
    SetEntry(0x3000, 0x4003);
    for (uint64_t page = 0; page < 512; ++page)
      SetEntry(0x4000 + page * 8, page << 12 | (page << 12 == kReadOnly ? 1 : 3));
    vmm::CpuState state;
    vmm::ResetCpuState(state, 0, cpuid_.signature());
    state.cr0 = 0x80050033;  // with WP
    state.cr3 = 0x1000;
    state.cr4 = bt::cr4::PAE | bt::cr4::OSFXSR | bt::cr4::OSXMMEXCPT;
    state.msr.efer = bt::efer::LME | bt::efer::LMA;
    for (vmm::SegmentState& segment : state.seg) segment.access = 0xc093;
    state.seg[static_cast<unsigned>(vmm::Seg::CS)].access = 0xa09b;
    REQUIRE(vcpu_->Load(state).has_value());
  }

  // Runs `code`, `times` over, from its start to its end.
  void Run(const Code& code, unsigned times, uint64_t rdi = kData) {
    uint8_t* at = memory_.Host(vmm::GuestPhys(kCode), 64);
    std::fill_n(at, 64, 0x06);  // no instruction: it ends the block
    std::ranges::copy(code, at);
    vm_->OnHostWrite(vmm::GuestPhys(kCode), 64);
    std::array<uint8_t, 512> fx{};
    fx[0] = 0x7f;
    fx[1] = 0x03;
    fx[24] = 0x80;
    fx[25] = 0x1f;
    for (; times > 0; --times) {
      std::array<uint64_t, 16> gpr{};
      for (unsigned i = 0; i < 16; ++i) gpr[i] = i;
      gpr[4] = kStack;
      gpr[6] = kData + 0x100;
      gpr[7] = rdi;
      cpu_->ResetForTest(gpr, kCode, 2, fx);
      for (unsigned turn = 0; turn < 200; ++turn) {
        const uint64_t rip = cpu_->r[bt::kRip];
        if (cpu_->fault_.active || rip - kCode >= code.size()) break;
        cpu_->RunHotForTest();
      }
    }
  }
  uint64_t Compared() const {
    for (const vmm::Statistic& statistic : cpu_->Statistics()) {
      if (statistic.name == "instructions compared") return statistic.count;
    }
    return 0;
  }
  uint8_t* Data() { return memory_.Host(vmm::GuestPhys(kData), vmm::kPageSize); }

 private:
  void SetEntry(uint64_t at, uint64_t entry) {
    std::memcpy(memory_.Host(vmm::GuestPhys(at), 8), &entry, 8);
  }

  vmm::GuestMemory memory_ = std::move(*vmm::GuestMemory::Create(vmm::GuestMemory::kMinSize));
  vmm::Bus ports_{0x10000}, mmio_{1ull << 52};
  vmm::FakeClock clock_{2'000'000'000};
  vmm::FakeTimers timers_{clock_};
  NoPic pic_;
  NoIoapic ioapic_;
  vmm::CpuidPolicy cpuid_ = vmm::CpuidPolicy::Build({.cpu_count = 1, .tsc_hz = 1'000'000'000});
  std::unique_ptr<bt::InterpreterVm> vm_;
  std::unique_ptr<vmm::Vcpu> vcpu_;
  bt::Cpu* cpu_ = nullptr;
};

const Code kCompareStoreJump{0x48, 0x39, 0xc8,              // CMP RAX, RCX
                             0x48, 0x89, 0x17,              // MOV [RDI], RDX
                             0x72, 0x00};                   // JB to what follows
const Code kPushPop{0x50, 0x59, 0x53, 0x5b};                // PUSH RAX; POP RCX; PUSH RBX; POP RBX
const Code kMultiply{0x48, 0x0f, 0xaf, 0xc1,                // IMUL RAX, RCX: leaves flags undefined
                     0x48, 0x8b, 0x17};                     // MOV RDX, [RDI]
const Code kStrings{0xf3, 0xaa, 0xb1, 0x05,                 // REP STOSB; MOV CL, 5
                    0xf3, 0xa4, 0x48, 0x01, 0xc8};          // REP MOVSB; ADD RAX, RCX
const Code kLoop{0xff, 0xc1, 0x83, 0xf9, 0x20,              // INC ECX; CMP ECX, 32
                 0x75, 0xf9};                               // JNZ to the start
const Code kVector{0x0f, 0x10, 0x07,                        // MOVUPS XMM0, [RDI]
                   0x0f, 0x58, 0xc0,                        // ADDPS XMM0, XMM0
                   0x0f, 0x11, 0x47, 0x10};                 // MOVUPS [RDI+16], XMM0
const Code kX87{0xdd, 0x07, 0xd8, 0xc0, 0xdd, 0x5f, 0x08};  // FLD [RDI]; FADD; FSTP [RDI+8]
const Code kSystem{0xfa, 0x48, 0x89, 0x07, 0xfb, 0x90};     // CLI; MOV [RDI], RAX; STI; NOP
const Code kCpuid{0x31, 0xc0, 0x0f, 0xa2, 0x01, 0xd8};      // XOR EAX, EAX; CPUID; ADD EAX, EBX

}  // namespace

TEST_CASE("lock-step finds nothing wrong with translated code", "[lockstep]") {
  for (const Code& code :
       {kCompareStoreJump, kPushPop, kMultiply, kStrings, kLoop, kVector, kX87, kSystem, kCpuid}) {
    Machine machine;
    machine.Run(code, 10);
    machine.Run(code, 10, Machine::kData + vmm::kPageSize - 4);  // over the end of the page
    INFO((g_reports.empty() ? "" : g_reports[0]));
    CHECK(g_reports.empty());
    CHECK(machine.Compared() > 10);
  }
}

TEST_CASE("memory is as translated code left it after lock-step", "[lockstep]") {
  Machine machine;
  const Code increment{0xff, 0x07, 0xff, 0x07};  // INC DWORD [RDI], twice
  machine.Run(increment, 10);
  CHECK(machine.Data()[0] == 20);
  CHECK(machine.Compared() >= 16);
}

TEST_CASE("lock-step notices flags that are lost", "[lockstep]") {
  Machine machine(LeaveOut::kFlags);
  // SUB RAX, RCX; MOV [RDI], RDX; JB to what follows
  machine.Run({0x48, 0x29, 0xc8, 0x48, 0x89, 0x17, 0x72, 0x00}, 10);
  REQUIRE_FALSE(g_reports.empty());
  const std::string& report = g_reports[0];
  for (const char* part :
       {"translated code and the interpreter differ", "block at physical 0x10000",
        "RAX            ffffffffffffffff  ffffffffffffffff\n", "  differs\n",
        "guest code\n  0x10000  sub rax, rcx\n  0x10003  mov [rdi], rdx\n", "host code",
        "its cold part"}) {
    INFO(report);
    CHECK(report.find(part) != std::string::npos);
  }
}

TEST_CASE("lock-step notices a write to where only reads are allowed", "[lockstep]") {
  const Code code{0x8b, 0x07, 0x90, 0x48, 0x89, 0x0f};  // MOV EAX, [RDI]; NOP; MOV [RDI], RCX
  Machine machine(LeaveOut::kWrite);
  machine.Run(code, 10, Machine::kReadOnly);
  REQUIRE_FALSE(g_reports.empty());
  CHECK(g_reports[0].find("past one that needs the interpreter") != std::string::npos);
}

TEST_CASE("lock-step notices an access that crosses the end of its page", "[lockstep]") {
  Machine machine(LeaveOut::kCrossing);
  machine.Run({0x48, 0x8b, 0x07}, 1);  // MOV RAX, [RDI]
  machine.Run({0x48, 0x8b, 0x07}, 5, Machine::kData + vmm::kPageSize - 4);
  REQUIRE_FALSE(g_reports.empty());
  CHECK(g_reports[0].find("past one that needs the interpreter") != std::string::npos);
}

TEST_CASE("lock-step notices a span that is looked up for reading alone", "[lockstep]") {
  Machine machine(LeaveOut::kSpanWrite);
  const Code code{0x8b, 0x07, 0x89, 0x4f, 0x08};  // MOV EAX, [RDI]; MOV [RDI+8], ECX
  machine.Run(code, 10, Machine::kReadOnly);
  REQUIRE_FALSE(g_reports.empty());
  CHECK(g_reports[0].find("past one that needs the interpreter") != std::string::npos);
}
