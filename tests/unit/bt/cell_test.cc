// User code in a process of its own: that it is there, and what becomes of it when that goes wrong.
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bt/cell/cell_tier.h"
#include "bt/interp/interpreter.h"
#include "tests/support/fake_clock.h"

namespace {

using Code = std::vector<uint8_t>;

struct NoPic final : vmm::ExtIntSource {
  bool IntrAsserted() const override { return false; }
  uint8_t AcknowledgeInterrupt() override { return 0xff; }
};
struct NoIoapic final : vmm::EoiListener {
  void OnEoi(uint8_t) override {}
};

std::unique_ptr<bt::Tier> MakeTier(bt::Cpu& cpu) {
  return std::make_unique<bt::CellTier>(cpu);
}

// Of this process: the one that has a mapping of that name, and where; 0: there is none.
struct CellSeen {
  pid_t pid = 0;
  uint64_t address = 0;
};
CellSeen FindCell() {
  std::ifstream children("/proc/self/task/" + std::to_string(gettid()) + "/children");
  for (pid_t pid; children >> pid;) {
    std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
    for (std::string line; std::getline(maps, line);) {
      if (line.find("memfd:vmm-cell") != std::string::npos)
        return {pid, std::strtoull(line.c_str(), nullptr, 16)};
    }
  }
  return {};
}

// A processor in 64-bit mode at CPL 3, which runs in the cell whatever that is worth; linear
// addresses of the first 2 MiB are physical.
class UserMachine {
 public:
  static constexpr uint64_t kCode = 0x20000, kData = 0x30000, kStack = 0x40800;

  explicit UserMachine(vmm::UserCells cells = vmm::UserCells::kAlways) {
    vmm::VmParts parts{memory_, ports_, mmio_, clock_, timers_, pic_, ioapic_, cpuid_, 1};
    parts.user_cells = cells;
    vm_ = std::make_unique<bt::InterpreterVm>(parts, &MakeTier);
    vcpu_ = std::move(*vm_->CreateVcpu(0));
    cpu_ = static_cast<bt::Cpu*>(vcpu_.get());
    SetEntry(0x1000, 0x2000 | kUser);
    SetEntry(0x2000, 0x3000 | kUser);
    SetEntry(0x3000, 0x4000 | kUser);
    for (uint64_t page = 0; page < 512; ++page) SetEntry(0x4000 + page * 8, page << 12 | kUser);
    vmm::CpuState state;
    vmm::ResetCpuState(state, 0, cpuid_.signature());
    state.cr0 = 0x80050033;
    state.cr3 = 0x1000;
    state.cr4 = bt::cr4::PAE | bt::cr4::OSFXSR | bt::cr4::OSXMMEXCPT | bt::cr4::OSXSAVE;
    state.xcr0 = 7;
    state.msr.efer = bt::efer::LME | bt::efer::LMA;
    for (vmm::SegmentState& segment : state.seg) segment.access = 0xc0f3;
    state.seg[static_cast<unsigned>(vmm::Seg::CS)].access = 0xa0fb;
    REQUIRE(vcpu_->Load(state).has_value());
  }

  // Runs `code` from its start to its end, or to a fault; RDI points to data.
  void Run(const Code& code) {
    uint8_t* at = memory_.Host(vmm::GuestPhys(kCode), 64);
    std::fill_n(at, 64, 0x06);  // no instruction: it ends the block
    std::ranges::copy(code, at);
    vm_->OnHostWrite(vmm::GuestPhys(kCode), 64);
    Again(code.size());
  }
  // The same without having written it anew.
  void Again(size_t size) {
    std::array<uint8_t, 512> fx{};
    fx[0] = 0x7f;
    fx[1] = 0x03;
    fx[24] = 0x80;
    fx[25] = 0x1f;
    std::array<uint64_t, 16> gpr{};
    gpr[4] = kStack;
    gpr[7] = kData;
    cpu_->ResetForTest(gpr, kCode, 2, fx);
    for (unsigned turn = 0; turn < 50; ++turn) {
      if (cpu_->fault_.active || cpu_->r[bt::kRip] - kCode >= size) break;
      cpu_->RunHotForTest();
    }
  }
  // The guest maps its data there as well.
  void MapAt(uint64_t linear) {
    SetEntry(0x1000 + (linear >> 39 & 511) * 8, 0x5000 | kUser);
    SetEntry(0x5000 + (linear >> 30 & 511) * 8, 0x6000 | kUser);
    SetEntry(0x6000 + (linear >> 21 & 511) * 8, 0x7000 | kUser);
    SetEntry(0x7000 + (linear >> 12 & 511) * 8, kData | kUser);
  }
  uint64_t HandOvers() const {
    for (const vmm::Statistic& statistic : cpu_->Statistics()) {
      if (statistic.name == "hand-overs to the cell") return statistic.count;
    }
    return 0;
  }
  bt::Cpu& cpu() { return *cpu_; }
  uint32_t Data() const {
    uint32_t value;
    std::memcpy(&value, memory_.Host(vmm::GuestPhys(kData), 4), 4);
    return value;
  }

 private:
  static constexpr uint64_t kUser = 0x67;  // present, writable, accessed, dirty
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

const Code kIncrement = {0xff, 0x07};  // INC DWORD [RDI]

}  // namespace

TEST_CASE("user code runs in a process of its own", "[cell]") {
  UserMachine machine;
  machine.Run(kIncrement);
  machine.Again(kIncrement.size());
  CHECK(machine.Data() == 2);
  CHECK(machine.HandOvers() >= 2);
  CHECK(FindCell().pid != 0);
}

TEST_CASE("user code stays in the monitor's process where the machine wants it there", "[cell]") {
  setenv("VMM_CELL", "always", 1);  // which is for machines that leave it open
  UserMachine machine(vmm::UserCells::kNever);
  unsetenv("VMM_CELL");
  machine.Run(kIncrement);
  machine.Again(kIncrement.size());
  CHECK(machine.Data() == 2);
  CHECK(machine.HandOvers() == 0);
  CHECK(FindCell().pid == 0);
}

TEST_CASE("a loop in a cell ends when its vCPU is wanted", "[cell]") {
  UserMachine machine;
  // XOR EAX, EAX; L: INC RAX; CMP RAX, 1; JMP L, and what leads back by its flags.
  for (const Code& code :
       {Code{0x31, 0xc0, 0x48, 0xff, 0xc0, 0x48, 0x83, 0xf8, 0x01, 0xeb, 0xf7},
        Code{0x31, 0xc0, 0x48, 0xff, 0xc0, 0x48, 0x83, 0xf8, 0x01, 0x73, 0xf7}}) {
    std::atomic<bool> over{false};
    std::thread caller([&] {
      while (!over) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        machine.cpu().Kick();
      }
    });
    for (unsigned i = 0; i < 20; ++i) {
      machine.Run(code);  // 50 turns at most: each kick ends one
      CHECK_FALSE(machine.cpu().fault_.active);
    }
    over = true;
    caller.join();
    CHECK(machine.cpu().r[0] > 1);
    // CMP of more than 1 with 1: CF, ZF and SF are clear.
    CHECK((machine.cpu().Rflags() & 0xc1) == 0);
  }
  CHECK(FindCell().pid != 0);
}

TEST_CASE("a bell takes its page away from who listens, and brings it back", "[cell]") {
  const std::unique_ptr<bt::Bell> bell = bt::Bell::Create();
  REQUIRE(bell);
  auto* pages =
      static_cast<char*>(mmap(nullptr, 2 * vmm::kPageSize, PROT_READ, MAP_SHARED, bell->fd(), 0));
  REQUIRE(pages != MAP_FAILED);
  char byte;
  iovec local{&byte, 1}, remote{pages + vmm::kPageSize, 1};
  const auto there = [&] { return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1; };
  const auto rung = [&] { return pages[0] != 0; };
  CHECK(there());
  bell->Ring();  // nobody listens
  CHECK((there() && rung()));
  for (unsigned i = 0; i < 3; ++i) {
    const bt::Bell::Listener listener(*bell);
    CHECK((there() && !rung()));
    bell->Ring();
    bell->Ring();
    CHECK((!there() && rung()));
  }
  bell->FoundGone();
  const bt::Bell::Listener listener(*bell);
  CHECK(there());
  munmap(pages, 2 * vmm::kPageSize);
}

TEST_CASE("a cell that is killed costs the guest's program a fault, and no more", "[cell]") {
  UserMachine machine;
  machine.Run(kIncrement);
  const CellSeen cell = FindCell();
  REQUIRE(cell.pid != 0);
  REQUIRE(kill(cell.pid, SIGKILL) == 0);
  machine.Again(kIncrement.size());
  CHECK(machine.cpu().fault_.active);
  CHECK(machine.cpu().fault_.vector == bt::kGP);
  CHECK(machine.cpu().r[bt::kRip] == UserMachine::kCode);
  CHECK(machine.Data() == 1);
  machine.Again(kIncrement.size());  // in this process
  CHECK_FALSE(machine.cpu().fault_.active);
  CHECK(machine.Data() == 2);
  CHECK(FindCell().pid == 0);
}

TEST_CASE("a cell makes room where the guest puts something", "[cell]") {
  UserMachine machine;
  machine.Run(kIncrement);
  const CellSeen before = FindCell();
  REQUIRE(before.pid != 0);
  machine.MapAt(before.address + vmm::kPageSize);
  for (unsigned i = 0; i < 3; ++i) machine.Again(kIncrement.size());
  CHECK(machine.Data() == 4);
  const CellSeen after = FindCell();
  CHECK(after.pid != before.pid);
  CHECK(after.address != before.address);
}
