// User code in a process of its own: that it is there, and what becomes of it when that goes wrong.
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

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
#include "tests/unit/bt/bare_machine.h"

namespace {

using Code = std::vector<uint8_t>;

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
class UserMachine : public LongModeMachine {
 public:
  static constexpr uint64_t kCode = 0x20000, kData = 0x30000, kStack = 0x40800;

  explicit UserMachine(vmm::UserCells cells = vmm::UserCells::kAlways)
      : LongModeMachine(0x67, &MakeTier,  // present, writable, the user's, accessed, dirty
                        [cells](vmm::VmParts& parts) { parts.user_cells = cells; }) {}

  // Runs `code` from its start to its end, or to a fault; RDI points to data.
  void Run(const Code& code) {
    Store(kCode, code);
    Again(code.size());
  }
  // The same without having written it anew. RBP is `stack` as well.
  void Again(size_t size, uint64_t stack = kStack) {
    Registers gpr{};
    gpr[4] = gpr[5] = stack;
    gpr[7] = kData;
    RunHot(kCode, size, gpr, 50);
  }
  // The guest maps its data there as well.
  void MapAt(uint64_t linear) {
    SetEntry(kTable + (linear >> 39 & 511) * 8, 0x5000 | rights_);
    SetEntry(0x5000 + (linear >> 30 & 511) * 8, 0x6000 | rights_);
    SetEntry(0x6000 + (linear >> 21 & 511) * 8, 0x7000 | rights_);
    SetEntry(0x7000 + (linear >> 12 & 511) * 8, kData | rights_);
  }
  uint64_t HandOvers() const { return Counted("hand-overs to the cell"); }
  uint32_t Data() {
    uint32_t value;
    std::memcpy(&value, Host(kData), sizeof(value));
    return value;
  }
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

TEST_CASE("registers keep their values where they share the host's with ours", "[cell]") {
  UserMachine machine;
  machine.Run({0xb9, 0xe8, 3,    0,    0,     // MOV ECX, 1000
               0x45, 0x31, 0xc9,              // XOR R9D, R9D
               0x41, 0xba, 1,    0,    0, 0,  // MOV R10D, 1
               0x49, 0x89, 0xfb,              // MOV R11, RDI
               0x4d, 0x01, 0xd1,              // again: ADD R9, R10
               0x49, 0x83, 0xd2, 0,           // ADC R10, 0
               0x4d, 0x89, 0x4b, 8,           // MOV [R11+8], R9
               0x4d, 0x03, 0x4b, 8,           // ADD R9, [R11+8]
               0x4f, 0x8d, 0x0c, 0x11,        // LEA R9, [R9+R10]
               0xff, 0xc9,                    // DEC ECX
               0x75, 0xe9,                    // JNZ again
               0xe8, 0,    0,    0,    0,     // CALL next
               0x59,                          // POP RCX
               0x44, 0x89, 0x0f});            // MOV [RDI], R9D
  uint64_t sum = 0, more = 1;
  for (unsigned i = 0; i < 1000; ++i) {
    more += __builtin_add_overflow(sum, more, &sum);
    sum = 2 * sum + more;
  }
  CHECK(machine.Data() == static_cast<uint32_t>(sum));
  CHECK(machine.cpu().r[10] == more);
  CHECK(machine.cpu().r[11] == UserMachine::kData);
  CHECK(machine.cpu().r[4] == UserMachine::kStack);
  CHECK(machine.HandOvers() > 0);
}

TEST_CASE("a loop in a cell ends when its vCPU is wanted", "[cell]") {
  UserMachine machine;
  // XOR EAX, EAX; L: INC RAX; CMP RAX, 1; JMP L, and what leads back by its flags.
  const Code by_jump = {0x31, 0xc0, 0x48, 0xff, 0xc0, 0x48, 0x83, 0xf8, 0x01, 0xeb, 0xf7};
  const Code by_flags = {0x31, 0xc0, 0x48, 0xff, 0xc0, 0x48, 0x83, 0xf8, 0x01, 0x73, 0xf7};
  // TEST AL, 1; JZ M; CMP RAX, 1; JAE L; M: CMP RAX, 1; JAE L
  const Code by_two_ways = {0x31, 0xc0, 0x48, 0xff, 0xc0, 0xa8, 0x01, 0x74, 0x06, 0x48, 0x83,
                            0xf8, 0x01, 0x73, 0xf3, 0x48, 0x83, 0xf8, 0x01, 0x73, 0xed};
  // LEA RDX, [L]; PUSH RDX; RET
  const Code by_return = {0x31, 0xc0, 0x48, 0xff, 0xc0, 0x48, 0x83, 0xf8, 0x01,
                          0x48, 0x8d, 0x15, 0xf2, 0xff, 0xff, 0xff, 0x52, 0xc3};
  for (const Code& code : {by_jump, by_flags, by_two_ways, by_return}) {
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

TEST_CASE("the guest's stack is the cell's", "[cell]") {
  UserMachine machine;
  machine.Run({0x54, 0x59, 0x89, 0x0f});  // PUSH RSP; POP RCX; MOV [RDI], ECX
  CHECK(machine.Data() == UserMachine::kStack);
  machine.Run({0x6a, 0x2a, 0xff, 0x34, 0x24, 0x8f, 0x07, 0x5c});  // PUSH 42; PUSH [RSP]; POP [RDI]
  CHECK(machine.Data() == 42);                                    // POP RSP
  CHECK(machine.cpu().r[4] == 42);
  machine.Run({0xc8, 0x10, 0, 0, 0xff, 0x37, 0xc9});  // ENTER 16, 0; PUSH [RDI]; LEAVE
  CHECK(machine.cpu().r[4] == UserMachine::kStack);
  CHECK(machine.HandOvers() > 0);
}

TEST_CASE("a stack that is not there is the guest's fault, before anything is done", "[cell]") {
  struct Sample {
    const char* what;
    Code code;
  };
  const Sample samples[] = {{"PUSH RBX", {0x53}},
                            {"PUSH 1", {0x6a, 0x01}},
                            {"PUSH QWORD [RDI]", {0xff, 0x37}},
                            {"PUSHFQ", {0x9c}},
                            {"POP RCX", {0x59}},
                            {"LEAVE", {0xc9}},
                            {"CALL next", {0xe8, 0, 0, 0, 0}},
                            {"CALL RDI", {0xff, 0xd7}},
                            {"RET", {0xc3}},
                            {"RET 8", {0xc2, 8, 0}}};
  // No page of the guest's; no address at all, which the host tells by another signal.
  const std::pair<uint64_t, uint8_t> stacks[] = {{0x300800, bt::kPF}, {0x800000000800, bt::kSS}};
  for (const Sample& sample : samples) {
    for (const auto& [stack, vector] : stacks) {
      INFO(sample.what << " at " << std::hex << stack);
      UserMachine machine;
      machine.Run(sample.code);  // with a stack
      machine.Again(sample.code.size(), stack);
      const bt::Cpu& cpu = machine.cpu();
      CHECK(cpu.fault_.active);
      CHECK(cpu.fault_.vector == vector);
      CHECK(cpu.r[bt::kRip] == UserMachine::kCode);
      CHECK(cpu.r[4] == stack);
      CHECK(cpu.r[5] == stack);
      CHECK(machine.HandOvers() > 0);
    }
  }
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

TEST_CASE("a cell leaves before a program that feels its way meets it", "[cell]") {
  for (const int64_t distance : {-(int64_t{1} << 29), int64_t{1} << 29, int64_t{1} << 33}) {
    UserMachine machine;
    machine.Run(kIncrement);
    const CellSeen before = FindCell();
    REQUIRE(before.pid != 0);
    Code touch = {0x48, 0xb8, 0, 0, 0,    0,
                  0,    0,    0, 0, 0xff, 0x00};  // MOV RAX, there; INC DWORD [RAX]
    const uint64_t there = before.address + static_cast<uint64_t>(distance);
    std::memcpy(&touch[2], &there, sizeof(there));
    machine.Run(touch);
    CHECK(machine.cpu().fault_.vector == bt::kPF);
    for (unsigned i = 0; i < 3; ++i) machine.Run(kIncrement);
    CHECK(machine.Data() == 4);
    const CellSeen after = FindCell();
    const bool far = distance > int64_t{1} << 32;
    CHECK((after.pid == before.pid) == far);
    CHECK((after.address == before.address) == far);
  }
}
