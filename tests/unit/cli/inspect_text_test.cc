#include "vmm/cli/inspect_text.h"

#include <catch2/catch.hpp>

TEST_CASE("vmm inspect shows memory, devices with their places, and PCI functions", "[cli]") {
  using Kind = vmm::MachineDescription::Memory::Kind;
  vmm::MachineDescription machine;
  machine.name = "web1";
  machine.cpus = 2;
  machine.tsc_hz = 2'400'123'456;
  machine.memory = {{vmm::GuestPhys(0), 0x9fc00, Kind::kRam},
                    {vmm::GuestPhys(0xe0000), 0x20000, Kind::kAcpi},
                    {vmm::GuestPhys(0x100000), 255 * vmm::kMiB, Kind::kRam}};
  machine.devices = {{"serial0", {{0x3f8, 8}}, {}, {vmm::Gsi(4)}},
                     {"pic", {{0x20, 2}, {0xa0, 2}, {0x4d0, 1}}, {}, {}},
                     {"ioapic", {}, {{0xfec00000, 0x1000}}, {}}};
  machine.pci = {{0, 0, 0x8086, 0x1237, 0x060000, "host-bridge"}};
  CHECK(vmm::InspectText(machine) ==
        "machine: web1\n"
        "CPUs: 2\n"
        "TSC: 2400.123 MHz\n"
        "\n"
        "memory:\n"
        "  0x000000000000-0x00000009fbff      639K  RAM\n"
        "  0x0000000e0000-0x0000000fffff      128K  ACPI tables\n"
        "  0x000000100000-0x00000fffffff      255M  RAM\n"
        "\n"
        "devices:\n"
        "  serial0         ports 0x3f8-0x3ff; IRQ 4\n"
        "  pic             ports 0x20-0x21, 0xa0-0xa1, 0x4d0\n"
        "  ioapic          memory 0xfec00000-0xfec00fff\n"
        "\n"
        "PCI:\n"
        "  00:00.0  8086:1237  class 060000  host-bridge\n");
}
