#include "vmm/machine/saved_machine.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "vmm/core/state/cpu_state_check.h"
#include "vmm/machine/device_tree.h"
#include "vmm/machine/machine_difference.h"

namespace vmm::test {
namespace {

std::vector<uint8_t> Tree(const std::function<void(MachineDescription&)>& change = {}) {
  MachineDescription machine;
  machine.cpus = 2;
  machine.tsc_hz = 1'000'000'000;
  machine.memory = {{GuestPhys(0), 64 * kMiB, MachineDescription::Memory::Kind::kRam}};
  machine.devices = {{"serial0", {{0x3f8, 8}}, {}, {Gsi(4)}}};
  if (change) change(machine);
  return BuildDeviceTree(machine).value();
}

TEST_CASE("The difference of two machines is told in words") {
  const auto here = Tree();
  CHECK(DescribeDifference(Tree(), here).empty());
  CHECK(DescribeDifference(Tree([](auto& m) { m.name = "renamed"; }), here) == "");
  CHECK(DescribeDifference(Tree([](auto& m) { m.cpus = 1; }), here) ==
        "it has cpus = 1, this one 2");
  CHECK(DescribeDifference(Tree([](auto& m) { m.memory[0].size = 32 * kMiB; }), here) ==
        "its guest has 32 MiB of RAM, this one's 64 MiB");
  CHECK(DescribeDifference(Tree([](auto& m) { m.devices.clear(); }), here)
            .starts_with("it has no /isa/serial@i3f8"));
  CHECK(DescribeDifference(Tree([](auto& m) { m.devices[0].irqs = {Gsi(3)}; }), here)
            .starts_with("/isa/serial@i3f8 interrupts is <0x3 "));
}

TEST_CASE("A description that is no device tree is told as damaged") {
  const auto here = Tree();
  CHECK(DescribeDifference({}, here) == "its description is damaged");
  for (size_t i = 0; i < here.size(); i += 3) {
    auto bad = here;
    bad[i] ^= 0xff;
    DescribeDifference(bad, here);  // whatever it says, it comes back
    DescribeDifference(std::span(here).first(i), here);
  }
}

TEST_CASE("States that no processor can be in are refused by name") {
  const CpuidPolicy cpuid = CpuidPolicy::Build({});
  CpuState good;
  ResetCpuState(good, 0, cpuid.signature());
  REQUIRE(CheckCpuState(good, cpuid));
  const auto refused = [&](auto change) {
    CpuState state = good;
    change(state);
    auto checked = CheckCpuState(state, cpuid);
    REQUIRE_FALSE(checked);
    CHECK(checked.error().code == ExitCode::kConfigInvalid);
    return checked.error().message.substr(checked.error().message.find(": ") + 2);
  };
  CHECK(refused([](CpuState& s) { s.rflags = 0; }) == "RFLAGS");
  CHECK(refused([](CpuState& s) { s.rflags |= uint64_t{1} << 40; }) == "RFLAGS");
  CHECK(refused([](CpuState& s) { s.rflags |= 1 << 17; }) == "RFLAGS.VM");
  CHECK(refused([](CpuState& s) { s.cr0 |= 0x80000000; }) == "CR0");
  CHECK(refused([](CpuState& s) { s.cr0 = uint64_t{1} << 33; }) == "CR0");
  CHECK(refused([](CpuState& s) { s.cr3 = ~uint64_t{0}; }) == "CR3");
  CHECK(refused([](CpuState& s) { s.cr4 = uint64_t{1} << 60; }) == "CR4");
  CHECK(refused([](CpuState& s) { s.cr8 = 16; }) == "CR8");
  CHECK(refused([](CpuState& s) { s.msr.efer = 0x400; }) == "EFER");
  CHECK(refused([](CpuState& s) { s.msr.efer = 0x500; }) == "EFER");
  CHECK(refused([](CpuState& s) {
          s.msr.efer = 0x500;
          s.cr0 = 0x80000011;
        }) == "CR4.PAE");
  CHECK(refused([](CpuState& s) { s.dr7 = uint64_t{1} << 32; }) == "DR6 or DR7");
  CHECK(refused([](CpuState& s) { s.seg[3].access = 1 << 20; }) == "a segment's access rights");
  CHECK(refused([](CpuState& s) {
          s.events = {.exception_pending = true, .exception_vector = 200};
        }) == "a pending exception");
  CHECK(refused([](CpuState& s) { s.activity = Activity{7}; }) == "its activity");
  CHECK(refused([](CpuState& s) { s.xcr0 = 0; }) == "XCR0");
  // What would fault in the host's own FXRSTOR or XRSTOR. [SDM 1] 10.5.1.2, 13.8.1
  CHECK(refused([](CpuState& s) { s.xsave.bytes[27] = 1; }) == "MXCSR");
  CHECK(refused([](CpuState& s) { s.xsave.bytes[519] = 0x80; }) == "XSTATE_BV");
  CHECK(refused([](CpuState& s) { s.xsave.bytes[527] = 0x80; }) == "the header of the XSAVE area");
}

// The bytes of a section belong to its version: whoever changes a struct counts kVersion up, and
// this line with it.
TEST_CASE("The saved form of a processor has not changed without its version") {
  FieldWriter writer;
  writer.Put(CpuState{});
  CHECK(writer.Take().size() == 5969);
  CHECK(CpuState::kVersion == 1);
}

}  // namespace
}  // namespace vmm::test
