#include "vmm/machine/device_tree.h"

#include <catch2/catch.hpp>
#include <string>

namespace {

// [DTSpec] 5.2: big-endian words at the start of the blob.
uint32_t Word(const std::vector<uint8_t>& blob, size_t index) {
  uint32_t word = 0;
  for (size_t i = 0; i < 4; ++i) word = word << 8 | blob.at(index * 4 + i);
  return word;
}

bool Holds(const std::vector<uint8_t>& blob, std::string_view text) {
  return std::string_view(reinterpret_cast<const char*>(blob.data()), blob.size()).find(text) !=
         std::string_view::npos;
}

vmm::MachineDescription SmallMachine() {
  vmm::MachineDescription machine;
  machine.name = "web1";
  machine.cpus = 2;
  machine.memory = {
      {vmm::GuestPhys(0), 0x9fc00, vmm::MachineDescription::Memory::Kind::kRam},
      {vmm::GuestPhys(0x100000000), vmm::kGiB, vmm::MachineDescription::Memory::Kind::kRam}};
  machine.devices = {{"serial0", {{0x3f8, 8}}, {}, {vmm::Gsi(4)}},
                     {"local-apic", {}, {{0xfee00000, 0x1000}}, {}},
                     {"ioapic", {}, {{0xfec00000, 0x1000}}, {}}};
  machine.pci = {{1, 0, 0x8086, 0x7000, 0x060100, "piix3"}};
  return machine;
}

}  // namespace

TEST_CASE("the device tree is a flattened tree of version 17 of its own length", "[machine]") {
  const auto blob = vmm::BuildDeviceTree(SmallMachine());
  REQUIRE(blob);
  CHECK(Word(*blob, 0) == 0xd00dfeed);    // magic
  CHECK(Word(*blob, 1) == blob->size());  // totalsize
  CHECK(Word(*blob, 5) == 17);            // version
}

TEST_CASE("the device tree names CPUs, memory, devices and PCI functions", "[machine]") {
  const auto blob = vmm::BuildDeviceTree(SmallMachine());
  REQUIRE(blob);
  for (const char* name :
       {"web1", "cpu@0", "cpu@1", "memory@0", "memory@100000000", "serial@i3f8", "ns16550a",
        "interrupt-controller@fec00000", "lapic@fee00000", "piix3@1"}) {
    INFO(name);
    CHECK(Holds(*blob, name));
  }
  CHECK_FALSE(Holds(*blob, "cpu@2"));
}

TEST_CASE("the device tree tells edges from levels", "[machine]") {
  // "intel,ce4100-ioapic": pin, then 0 = rising edge, 1 = low level, 2 = high level
  vmm::MachineDescription machine = SmallMachine();
  machine.devices.push_back({"acpi-pm", {{0x600, 0x40}}, {}, {vmm::Gsi(9), vmm::Gsi(16)}});
  machine.level_irqs = {vmm::Gsi(9)};
  const auto blob = vmm::BuildDeviceTree(machine);
  REQUIRE(blob);
  using namespace std::string_view_literals;
  CHECK(Holds(*blob, "\0\0\0\x04\0\0\0\0"sv));
  CHECK(Holds(*blob, "\0\0\0\x09\0\0\0\x02\0\0\0\x10\0\0\0\x01"sv));
}

TEST_CASE("the same machine gives the same tree, a different machine another", "[machine]") {
  vmm::MachineDescription machine = SmallMachine();
  const auto first = vmm::BuildDeviceTree(machine);
  CHECK(*vmm::BuildDeviceTree(machine) == *first);
  machine.cpus = 1;
  CHECK(*vmm::BuildDeviceTree(machine) != *first);
}

TEST_CASE("a tree that outgrows its first buffer is built all the same", "[machine]") {
  vmm::MachineDescription machine = SmallMachine();
  for (int i = 0; i < 500; ++i) {
    machine.devices.push_back({"device" + std::to_string(i), {{0x1000U + i * 8U, 8}}, {}, {}});
  }
  const auto blob = vmm::BuildDeviceTree(machine);
  REQUIRE(blob);
  CHECK(Word(*blob, 1) == blob->size());
  CHECK(Holds(*blob, "device499@i1f98"));
}
