#include "vmm/machine/device_tree.h"

#include <fmt/format.h>
#include <libfdt.h>

#include <algorithm>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "vmm/core/memory/guest_memory.h"

namespace vmm {
namespace {

constexpr size_t kFirstSize = 16 * kKiB;  // bytes of the blob; doubled until all fits
constexpr size_t kLargestSize = kMiB;

constexpr uint64_t kIoapicBase = 0xFEC00000;
constexpr uint32_t kIoapicPhandle = 1;

// The senses of Linux's two-cell binding of the IOAPIC ("intel,ce4100-ioapic").
constexpr uint32_t kEdgeRising = 0;
constexpr uint32_t kLevelLow = 1;
constexpr uint32_t kLevelHigh = 2;
constexpr uint32_t kIsaIrqs = 16;

// Address spaces in the first cell of a bus address. [DTSpec] 2.3.8 for ranges; the codes are those
// of the ISA and PCI bus bindings to IEEE 1275.
constexpr uint32_t kIsaIoSpace = 1;  // without `ranges`: ports are no memory of the processor
constexpr uint32_t kPciMemory32 = 0x02000000;

// What drivers know a device by; the names are those of Device::name() without their number.
struct Binding {
  std::string_view device, node, compatible;
};

constexpr Binding kBindings[] = {
    {"serial", "serial", "ns16550a"},
    {"rtc", "rtc", "motorola,mc146818"},
    {"ioapic", "interrupt-controller", "intel,ce4100-ioapic"},
    {"local-apic", "lapic", "intel,ce4100-lapic"},
    {"pic", "interrupt-controller", "intel,i8259"},
    {"pit", "timer", "intel,i8254"},
    {"i8042", "i8042", "intel,i8042"},
};
constexpr uint32_t kSerialClockHz = 1'843'200;  // [16550] 8.3

// libfdt's sequential writer; after a failure the rest does nothing.
class Writer {
 public:
  explicit Writer(std::vector<uint8_t>& blob) : blob_(blob) {
    Note(fdt_create(blob_.data(), static_cast<int>(blob_.size())));
    Note(fdt_finish_reservemap(blob_.data()));
  }

  template <class Body>
  void Node(const std::string& name, Body body) {
    Note(fdt_begin_node(blob_.data(), name.c_str()));
    body();
    Note(fdt_end_node(blob_.data()));
  }
  void Text(const char* name, std::string_view text) {
    const std::string value(text);
    Note(fdt_property_string(blob_.data(), name, value.c_str()));
  }
  void Cells(const char* name, std::span<const uint32_t> cells) {
    std::vector<fdt32_t> big_endian;
    for (const uint32_t cell : cells) big_endian.push_back(cpu_to_fdt32(cell));
    Note(fdt_property(blob_.data(), name, big_endian.data(),
                      static_cast<int>(big_endian.size() * sizeof(fdt32_t))));
  }
  void Cells(const char* name, std::initializer_list<uint32_t> cells) {
    Cells(name, std::span(cells.begin(), cells.size()));
  }
  void Empty(const char* name) { Note(fdt_property(blob_.data(), name, nullptr, 0)); }

  int Finish() {
    Note(fdt_finish(blob_.data()));
    return status_;
  }

 private:
  void Note(int status) {
    if (status_ == 0) status_ = status;
  }

  std::vector<uint8_t>& blob_;
  int status_ = 0;
};

uint32_t High(uint64_t value) {
  return static_cast<uint32_t>(value >> 32);
}
uint32_t Low(uint64_t value) {
  return static_cast<uint32_t>(value);
}

void AddCells(std::vector<uint32_t>& cells, uint64_t value) {
  cells.push_back(High(value));
  cells.push_back(Low(value));
}

void WriteMemory(Writer& writer, const MachineDescription& machine) {
  using Kind = MachineDescription::Memory::Kind;
  for (const auto& [start, size, kind] : machine.memory) {
    if (kind != Kind::kRam) continue;
    std::vector<uint32_t> reg;
    AddCells(reg, start.value);
    AddCells(reg, size);
    writer.Node(fmt::format("memory@{:x}", start.value), [&] {
      writer.Text("device_type", "memory");
      writer.Cells("reg", reg);
    });
  }
}

void WriteCpus(Writer& writer, const MachineDescription& machine) {
  writer.Node("cpus", [&] {
    writer.Cells("#address-cells", {1});
    writer.Cells("#size-cells", {0});
    for (uint32_t cpu = 0; cpu < machine.cpus; ++cpu) {
      writer.Node(fmt::format("cpu@{:x}", cpu), [&] {
        writer.Text("device_type", "cpu");
        writer.Text("compatible", "intel,x86");
        writer.Cells("reg", {cpu});  // the APIC id
        if (machine.tsc_hz != 0) {
          writer.Cells("timebase-frequency", {High(machine.tsc_hz), Low(machine.tsc_hz)});
        }
      });
    }
  });
}

uint32_t SenseOf(const MachineDescription& machine, Gsi irq) {
  if (irq.value >= kIsaIrqs) return kLevelLow;
  const auto& levels = machine.level_irqs;
  return std::find(levels.begin(), levels.end(), irq) == levels.end() ? kEdgeRising : kLevelHigh;
}

void WriteIdentity(Writer& writer, const MachineDescription& machine,
                   const MachineDescription::DeviceEntry& device) {
  const Binding* binding = nullptr;
  for (const Binding& row : kBindings) {
    if (device.name.starts_with(row.device)) binding = &row;
  }
  writer.Text("compatible", binding != nullptr ? std::string(binding->compatible)
                                               : fmt::format("vmm,{}", device.name));
  writer.Text("label", device.name);
  if (binding != nullptr && binding->device == "serial") {
    writer.Cells("clock-frequency", {kSerialClockHz});
  }
  if (device.irqs.empty()) return;
  std::vector<uint32_t> interrupts;
  for (const Gsi irq : device.irqs) {
    interrupts.push_back(irq.value);
    interrupts.push_back(SenseOf(machine, irq));
  }
  writer.Cells("interrupts", interrupts);
}

std::string NodeName(const MachineDescription::DeviceEntry& device) {
  for (const Binding& row : kBindings) {
    if (device.name.starts_with(row.device)) return std::string(row.node);
  }
  return device.name;
}

// Devices in the port space, as the ISA bus binding has them: node@iPORT.
void WriteIsaDevices(Writer& writer, const MachineDescription& machine) {
  writer.Node("isa", [&] {
    writer.Text("compatible", "isa");
    writer.Cells("#address-cells", {2});
    writer.Cells("#size-cells", {1});
    for (const auto& device : machine.devices) {
      if (device.ports.empty()) continue;
      writer.Node(fmt::format("{}@i{:x}", NodeName(device), device.ports.front().start), [&] {
        std::vector<uint32_t> reg;
        for (const auto& [start, length] : device.ports) {
          reg.insert(reg.end(), {kIsaIoSpace, Low(start), Low(length)});
        }
        writer.Cells("reg", reg);
        WriteIdentity(writer, machine, device);
      });
    }
  });
}

void WriteIoapic(Writer& writer) {
  writer.Empty("interrupt-controller");
  writer.Cells("#address-cells", {0});
  writer.Cells("#interrupt-cells", {2});
  writer.Cells("phandle", {kIoapicPhandle});
}

// Devices in the memory space, the interrupt controllers first of all.
void WriteMemoryDevices(Writer& writer, const MachineDescription& machine) {
  writer.Node("soc", [&] {
    writer.Text("compatible", "simple-bus");
    writer.Cells("#address-cells", {2});
    writer.Cells("#size-cells", {2});
    writer.Empty("ranges");
    for (const auto& device : machine.devices) {
      if (device.mmio.empty()) continue;
      const uint64_t first = device.mmio.front().start;
      writer.Node(fmt::format("{}@{:x}", NodeName(device), first), [&] {
        std::vector<uint32_t> reg;
        for (const auto& [start, length] : device.mmio) {
          AddCells(reg, start);
          AddCells(reg, length);
        }
        writer.Cells("reg", reg);
        WriteIdentity(writer, machine, device);
        if (first == kIoapicBase) WriteIoapic(writer);
      });
    }
  });
}

void WritePci(Writer& writer, const MachineDescription& machine) {
  if (machine.pci.empty()) return;
  constexpr uint32_t kHole = static_cast<uint32_t>(GuestMemory::kLowRamEnd);
  writer.Node(fmt::format("pci@{:x}", kHole), [&] {
    writer.Text("compatible", "intel,i440fx");
    writer.Text("device_type", "pci");
    writer.Cells("#address-cells", {3});
    writer.Cells("#size-cells", {2});
    writer.Cells("bus-range", {0, 0});
    writer.Cells("ranges",
                 {kPciMemory32, 0, kHole, 0, kHole, 0, static_cast<uint32_t>(kIoapicBase) - kHole});
    for (const auto& entry : machine.pci) {
      const std::string address = entry.function == 0
                                      ? fmt::format("{:x}", entry.device)
                                      : fmt::format("{:x},{:x}", entry.device, entry.function);
      writer.Node(fmt::format("{}@{}", entry.name.empty() ? "function" : entry.name, address), [&] {
        const uint32_t place =
            static_cast<uint32_t>(entry.device) << 11 | static_cast<uint32_t>(entry.function) << 8;
        writer.Cells("reg", {place, 0, 0, 0, 0});
        writer.Cells("vendor-id", {entry.vendor_id});
        writer.Cells("device-id", {entry.device_id});
        writer.Cells("class-code", {entry.class_code});
      });
    }
  });
}

int WriteTree(std::vector<uint8_t>& blob, const MachineDescription& machine) {
  Writer writer(blob);
  writer.Node("", [&] {
    writer.Text("compatible", "vmm,pc");
    writer.Text("model", machine.name);
    writer.Cells("#address-cells", {2});
    writer.Cells("#size-cells", {2});
    writer.Cells("interrupt-parent", {kIoapicPhandle});
    WriteCpus(writer, machine);
    WriteMemory(writer, machine);
    WriteMemoryDevices(writer, machine);
    WriteIsaDevices(writer, machine);
    WritePci(writer, machine);
  });
  return writer.Finish();
}

}  // namespace

Result<std::vector<uint8_t>> BuildDeviceTree(const MachineDescription& machine) {
  for (size_t size = kFirstSize; size <= kLargestSize; size *= 2) {
    std::vector<uint8_t> blob(size);
    const int status = WriteTree(blob, machine);
    if (status == 0) {
      blob.resize(fdt_totalsize(blob.data()));
      return blob;
    }
    if (status != -FDT_ERR_NOSPACE) {
      return Fail(ExitCode::kInternal,
                  fmt::format("can't build the device tree: {}", fdt_strerror(status)));
    }
  }
  return Fail(ExitCode::kInternal, "the device tree of this machine is longer than 1 MiB");
}

}  // namespace vmm
