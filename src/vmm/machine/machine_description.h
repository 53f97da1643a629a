// What a machine is made of, as plain data: filled by Machine::Describe(), printed by
// `vmm inspect`, turned into a flattened device tree by BuildDeviceTree().
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/core/base/types.h"

namespace vmm {

struct MachineDescription {
  struct Memory {
    enum class Kind : uint8_t { kRam, kReserved, kAcpi };
    GuestPhys start;
    uint64_t size = 0;  // bytes
    Kind kind = Kind::kRam;
  };
  struct Range {
    uint64_t start = 0;  // port number or guest-physical address
    uint64_t length = 0;
  };
  struct DeviceEntry {
    std::string name;  // Device::name()
    std::vector<Range> ports;
    std::vector<Range> mmio;
    std::vector<Gsi> irqs;
  };
  struct PciEntry {
    uint8_t device = 0;  // on bus 0
    uint8_t function = 0;
    uint16_t vendor_id = 0;
    uint16_t device_id = 0;
    uint32_t class_code = 0;  // class, subclass, programming interface: 0x060000
    std::string name;
  };

  std::string name;  // of the machine: Config::name
  unsigned cpus = 1;
  std::string cpu_model;                  // Config::cpu
  std::vector<std::string> cpu_features;  // that CPUID shows; empty before the engine is chosen
  uint64_t tsc_hz = 0;                    // 0: not known before the engine starts
  std::vector<Memory> memory;             // as the guest's memory map says, in address order
  std::vector<DeviceEntry> devices;
  std::vector<PciEntry> pci;
  std::vector<Gsi> level_irqs;  // ISA interrupts that are levels, active high; the others are edges
};

}  // namespace vmm
