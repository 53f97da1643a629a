#include "vmm/cli/inspect_text.h"

#include <fmt/format.h>

#include "vmm/config/value_parsers.h"

namespace vmm {
namespace {

std::string_view KindText(MachineDescription::Memory::Kind kind) {
  using Kind = MachineDescription::Memory::Kind;
  switch (kind) {
    case Kind::kRam:
      return "RAM";
    case Kind::kReserved:
      return "reserved";
    case Kind::kAcpi:
      return "ACPI tables";
  }
  return "";
}

// "0x3f8-0x3ff, 0x2f8": inclusive ends, as the kernel's /proc/ioports has them.
std::string Ranges(const std::vector<MachineDescription::Range>& ranges) {
  std::string text;
  for (const auto& [start, length] : ranges) {
    text += text.empty() ? "" : ", ";
    text += length <= 1 ? fmt::format("{:#x}", start)
                        : fmt::format("{:#x}-{:#x}", start, start + length - 1);
  }
  return text;
}

std::string DeviceText(const MachineDescription::DeviceEntry& device) {
  std::string text;
  const auto add = [&](std::string_view title, const std::string& value) {
    if (!value.empty()) text += fmt::format("{}{} {}", text.empty() ? "" : "; ", title, value);
  };
  add("ports", Ranges(device.ports));
  add("memory", Ranges(device.mmio));
  std::string irqs;
  for (const Gsi irq : device.irqs)
    irqs += fmt::format("{}{}", irqs.empty() ? "" : ", ", irq.value);
  add("IRQ", irqs);
  return text;
}

}  // namespace

std::string InspectText(const MachineDescription& machine) {
  std::string text = fmt::format("machine: {}\nCPUs: {}\n", machine.name, machine.cpus);
  if (!machine.cpu_model.empty()) text += fmt::format("CPU model: {}\n", machine.cpu_model);
  if (!machine.cpu_features.empty())
    text += fmt::format("CPU features: {}\n", fmt::join(machine.cpu_features, " "));
  if (machine.tsc_hz != 0) {
    text += fmt::format("TSC: {}.{:03} MHz\n", machine.tsc_hz / 1'000'000,
                        machine.tsc_hz / 1000 % 1000);
  }
  text += "\nmemory:\n";
  for (const auto& [start, size, kind] : machine.memory) {
    text += fmt::format("  {:#014x}-{:#014x}  {:>8}  {}\n", start.value, start.value + size - 1,
                        FormatSize(size), KindText(kind));
  }
  text += "\ndevices:\n";
  for (const auto& device : machine.devices) {
    text += fmt::format("  {:<14}  {}\n", device.name, DeviceText(device));
  }
  if (!machine.pci.empty()) text += "\nPCI:\n";
  for (const auto& entry : machine.pci) {
    text +=
        fmt::format("  00:{:02x}.{:x}  {:04x}:{:04x}  class {:06x}  {}\n", entry.device,
                    entry.function, entry.vendor_id, entry.device_id, entry.class_code, entry.name);
  }
  return text;
}

}  // namespace vmm
