// Which pages hold code, and who may write to them: InterpreterVm::MarkCode() and MayWrite().
#include <sys/stat.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "tests/unit/bt/bare_machine.h"

namespace {

// Three processors as reset leaves them: addresses are physical.
struct Machine {
  static constexpr uint64_t kPage = 0x5000;

  Machine() {
    for (unsigned i = 0; i < 3; ++i) {
      vcpus[i] = std::move(*vm.CreateVcpu(i));
      cpus[i] = static_cast<bt::Cpu*>(vcpus[i].get());
    }
  }
  bool CanWriteFast(unsigned cpu) { return cpus[cpu]->WritePointer(kPage, 1) != nullptr; }
  bool Write(unsigned cpu) { return cpus[cpu]->Store<uint8_t>(kPage, 1); }

  BareBoard board{3};
  bt::InterpreterVm vm{board.parts};
  std::unique_ptr<vmm::Vcpu> vcpus[3];
  bt::Cpu* cpus[3];
};

}  // namespace

TEST_CASE("a page with code is written by no fast path", "[interp]") {
  Machine machine;
  for (unsigned i = 0; i < 3; ++i) {
    REQUIRE(machine.Write(i));
    CHECK(machine.CanWriteFast(i));
  }
  machine.vm.EnterGuest(*machine.cpus[1]);
  machine.vm.MarkCode(*machine.cpus[1], Machine::kPage);
  machine.vm.LeaveGuest(*machine.cpus[1]);
  for (unsigned i = 0; i < 3; ++i) CHECK_FALSE(machine.CanWriteFast(i));
  for (unsigned i : {0, 2}) {
    REQUIRE(machine.Write(i));
    CHECK_FALSE(machine.CanWriteFast(i));
  }
  // Processor 1 finds no block there, and takes its mark away.
  REQUIRE(machine.Write(1));
  CHECK(machine.vm.CodeMask(Machine::kPage) == 0);
  CHECK(machine.Write(0));
  CHECK(machine.CanWriteFast(0));
}

TEST_CASE("the second to fetch from a page waits until nobody can write to it", "[interp]") {
  Machine machine;
  REQUIRE(machine.Write(2));
  REQUIRE(machine.CanWriteFast(2));
  for (bt::Cpu* cpu : machine.cpus) machine.vm.EnterGuest(*cpu);
  std::atomic<bool> second_done{false}, still_writable{false};
  const auto fetch = [&](unsigned cpu) {
    machine.vm.MarkCode(*machine.cpus[cpu], Machine::kPage);
    if (machine.CanWriteFast(2)) still_writable = true;
    if (cpu == 1) second_done = true;
    machine.vm.LeaveGuest(*machine.cpus[cpu]);
  };
  std::thread first(fetch, 0);
  while (!(machine.vm.CodeMask(Machine::kPage) & 1)) std::this_thread::yield();
  std::thread second(fetch, 1);
  // Processor 2 runs on for a while: the others have to wait for it.
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  while (!second_done && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  CHECK_FALSE(second_done);
  machine.vm.LeaveGuest(*machine.cpus[2]);
  first.join();
  second.join();
  CHECK_FALSE(still_writable);
}

TEST_CASE("around a page that is written RAM is allocated ahead", "[interp][threads]") {
  if (!vmm::RamAhead::IsWorthIt()) {
    WARN("skipped: one processor");
    return;
  }
  Machine machine;
  machine.vm.AllocateRamAhead();
  REQUIRE(machine.Write(0));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  struct stat about{};
  do {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(fstat(machine.board.memory.fd(), &about) == 0);
  } while (about.st_blocks * 512 < static_cast<long>(vmm::RamAhead::kChunk) &&
           std::chrono::steady_clock::now() < end);
  CHECK(about.st_blocks * 512 == static_cast<long>(vmm::RamAhead::kChunk));
}
