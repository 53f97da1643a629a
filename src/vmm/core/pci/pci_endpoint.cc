#include "vmm/core/pci/pci_endpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "vmm/core/base/bit_register.h"
#include "vmm/core/base/bytes.h"
#include "vmm/core/base/check.h"

namespace vmm {
namespace {

using Command = BitRegister<pci::Command>;

constexpr uint32_t Bit(pci::Bar bit) {
  return static_cast<uint32_t>(bit);
}

}  // namespace

PciEndpoint::PciEndpoint(std::string name, const Identity& identity, Subsystem subsystem,
                         const Socket& socket, unsigned vectors)
    : PciFunction(std::move(name), identity),
      decoder_(socket.decoder),
      interrupts_(socket.pin, socket.messages, vectors) {
  PciConfigSpace& c = config();
  c.Define16(
      pci::kCommand, 0,
      Command::Mask(pci::Command::BusMaster, pci::Command::Serr, pci::Command::InterruptDisable));
  c.Define16(pci::kStatus, 0, 0, pci::kStatusErrors);
  c.Define8(pci::kCacheLineSize, 0, 0xFF);
  c.Define16(pci::kSubsystemVendorId, subsystem.vendor);
  c.Define16(pci::kSubsystemId, subsystem.device);
  c.Define8(pci::kInterruptLine, 0, 0xFF);
  c.Define8(pci::kInterruptPin, 1);
}

PciEndpoint::~PciEndpoint() {
  for (const Bar& bar : bars_) {
    if (bar.device != nullptr) decoder_.Place(*bar.device, {}, std::nullopt, 0);
  }
}

void PciEndpoint::DefineBar(unsigned index, BarKind kind, uint64_t size, Device& device) {
  const bool ports = kind == BarKind::kPorts, wide = kind == BarKind::kMemory64;
  CHECK(std::has_single_bit(size) && size >= (ports ? 4 : 16));
  CHECK(index + (wide ? 1 : 0) < pci::kBars && bars_[index].device == nullptr);
  bars_[index] = {kind, size, &device, std::nullopt};
  PciConfigSpace& c = config();
  const auto low = static_cast<uint32_t>(~(size - 1));
  if (ports) {
    CHECK(size <= 256);  // [PCI] 6.2.5.1
    c.Define32(BarOffset(index), Bit(pci::Bar::Io), low & 0xFFFF & pci::kIoBarBase);
  } else {
    CHECK(wide || size <= uint64_t{1} << 31);
    const uint32_t type = wide ? Bit(pci::Bar::Memory64) | Bit(pci::Bar::Prefetchable) : 0;
    c.Define32(BarOffset(index), type, low & pci::kMemoryBarBase);
    if (wide) c.Define32(BarOffset(index + 1), 0, static_cast<uint32_t>(~(size - 1) >> 32));
  }
  const auto decode = ports ? pci::Command::IoSpace : pci::Command::MemorySpace;
  c.AddWritable16(pci::kCommand, Command::Mask(decode));
}

uint16_t PciEndpoint::DefineCapability(pci::Capability kind, uint16_t size) {
  const uint16_t at = next_capability_;
  next_capability_ = static_cast<uint16_t>((at + size + 3) & ~3);
  CHECK(next_capability_ <= pci::kConfigSize);
  PciConfigSpace& c = config();
  c.Define8(at, static_cast<uint8_t>(kind));
  c.Define8(static_cast<uint16_t>(at + 1), c.Get8(pci::kCapabilities));
  c.Define8(pci::kCapabilities, static_cast<uint8_t>(at));
  c.Define16(pci::kStatus, static_cast<uint16_t>(pci::Status::CapabilitiesList), 0,
             pci::kStatusErrors);
  return at;
}

void PciEndpoint::DefineMsi() {
  using namespace pci::msi;
  const unsigned vectors = interrupts_.vectors();
  CHECK(msi_ == 0 && vectors != 0 && vectors <= kMaxVectors);
  msi_ = DefineCapability(pci::Capability::Msi, kSize);
  const auto capable = static_cast<uint16_t>(std::bit_width(vectors - 1) << kCapableShift);
  PciConfigSpace& c = config();
  const auto at = [this](Offset offset) { return static_cast<uint16_t>(msi_ + offset); };
  c.Define16(at(kControl),
             static_cast<uint16_t>(capable |
                                   BitRegister<Control>::Mask(Control::Address64, Control::Masks)),
             static_cast<uint16_t>(kEnabledMask | BitRegister<Control>::Mask(Control::Enable)));
  c.Define32(at(kAddress), 0, 0xFFFF'FFFC);
  c.Define32(at(kUpperAddress), 0, 0xFFFF'FFFF);
  c.Define16(at(kData), 0, 0xFFFF);
  c.Define32(at(kMask), 0, vectors == 32 ? ~0u : (1u << vectors) - 1);
}

void PciEndpoint::DefineMsix(unsigned bar, uint32_t table, uint32_t pending_bits) {
  using namespace pci::msix;
  CHECK(msix_ == 0 && interrupts_.vectors() != 0 && bars_[bar].device != nullptr);
  CHECK(table % 8 == 0 && pending_bits % 8 == 0);
  msix_ = DefineCapability(pci::Capability::Msix, kSize);
  PciConfigSpace& c = config();
  const auto at = [this](Offset offset) { return static_cast<uint16_t>(msix_ + offset); };
  c.Define16(at(kControl), static_cast<uint16_t>(interrupts_.vectors() - 1),
             BitRegister<Control>::Mask(Control::Enable, Control::FunctionMask));
  c.Define32(at(kTable), table | bar);
  c.Define32(at(kPending), pending_bits | bar);
}

Result<void> PciEndpoint::AssignResources(PciAddressPlan& plan, uint8_t interrupt_line) {
  const std::lock_guard lock(mutex());
  PciConfigSpace& c = config();
  Command decode;
  for (unsigned i = 0; i < pci::kBars; ++i) {
    const Bar& bar = bars_[i];
    if (bar.device == nullptr) continue;
    const bool ports = bar.kind == BarKind::kPorts;
    const uint64_t start = ports ? plan.TakePorts(bar.size) : plan.TakeMemory(bar.size);
    if (start == 0) {
      return Fail(ExitCode::kInternal, fmt::format("{}: no room for BAR {}", name(), i));
    }
    c.SetInitial32(BarOffset(i), static_cast<uint32_t>(start));
    decode.Set(ports ? pci::Command::IoSpace : pci::Command::MemorySpace);
  }
  c.SetInitial32(pci::kCommand, decode.raw());
  c.SetInitial32(pci::kInterruptLine, interrupt_line);
  OnConfigWritten(0, pci::kConfigSize);
  return {};
}

// A base of zero is no place: no driver would look there. [PCI] 6.2.5.1
std::optional<uint64_t> PciEndpoint::WhereIs(unsigned index) const {
  const Bar& bar = bars_[index];
  const Command command(config().Get16(pci::kCommand));
  const bool ports = bar.kind == BarKind::kPorts;
  if (!command.Has(ports ? pci::Command::IoSpace : pci::Command::MemorySpace)) return {};
  const uint32_t low = config().Get32(BarOffset(index));
  uint64_t base = low & (ports ? pci::kIoBarBase : pci::kMemoryBarBase);
  if (bar.kind == BarKind::kMemory64) base |= uint64_t{config().Get32(BarOffset(index + 1))} << 32;
  if (base == 0) return {};
  return base;
}

void PciEndpoint::PlaceBars() {
  for (unsigned i = 0; i < pci::kBars; ++i) {
    Bar& bar = bars_[i];
    if (bar.device == nullptr) continue;
    const std::optional<uint64_t> wanted = WhereIs(i);
    if (wanted == bar.placed) continue;
    bar.placed = wanted;
    const auto space =
        bar.kind == BarKind::kPorts ? PciDecoder::Space::kPorts : PciDecoder::Space::kMemory;
    decoder_.Place(*bar.device, space, wanted, bar.size,
                   [this, i](std::optional<uint64_t> start) { OnBarPlaced(i, start); });
  }
}

PciInterrupts::Control PciEndpoint::ReadControl() const {
  const PciConfigSpace& c = config();
  const Command command(c.Get16(pci::kCommand));
  PciInterrupts::Control control;
  control.pin_disabled = command.Has(pci::Command::InterruptDisable);
  control.may_send = command.Has(pci::Command::BusMaster);
  if (msi_ != 0) {
    using namespace pci::msi;
    const auto at = [this](Offset offset) { return static_cast<uint16_t>(msi_ + offset); };
    const uint16_t value = c.Get16(at(kControl));
    if (BitRegister<Control>(value).Has(Control::Enable)) control.mode = PciInterrupts::Mode::kMsi;
    // More than was offered is not granted.
    const unsigned granted = 1u << std::min((value & kEnabledMask) >> kEnabledShift, 5);
    control.msi_vectors = std::min(granted, std::bit_ceil(interrupts_.vectors()));
    control.msi = {uint64_t{c.Get32(at(kUpperAddress))} << 32 | c.Get32(at(kAddress)),
                   c.Get16(at(kData))};
    control.msi_masked = c.Get32(at(kMask));
  }
  if (msix_ != 0) {
    using namespace pci::msix;
    const BitRegister<Control> value(c.Get16(static_cast<uint16_t>(msix_ + kControl)));
    if (value.Has(Control::Enable)) control.mode = PciInterrupts::Mode::kMsix;
    control.all_masked = value.Has(Control::FunctionMask);
  }
  return control;
}

void PciEndpoint::OnConfigWritten(uint16_t, size_t) {
  PlaceBars();
  is_bus_master_.store(Command(config().Get16(pci::kCommand)).Has(pci::Command::BusMaster),
                       std::memory_order_release);
  interrupts_.SetControl(ReadControl());
}

void PciEndpoint::OnConfigRead(uint16_t offset, std::span<uint8_t> data) {
  const auto put = [&](uint16_t reg, unsigned size, uint32_t bits) {
    for (unsigned i = 0; i < size; ++i) {
      const unsigned at = reg + i;
      if (at >= offset && at - offset < data.size()) data[at - offset] |= ByteOf(bits, i);
    }
  };
  if (interrupts_.pin()) put(pci::kStatus, 2, static_cast<uint32_t>(pci::Status::InterruptStatus));
  if (msi_ != 0) {
    put(static_cast<uint16_t>(msi_ + pci::msi::kPending), 4,
        static_cast<uint32_t>(interrupts_.pending()));
  }
}

void PciEndpoint::ResetEndpoint() {
  interrupts_.Reset();
  Reset();
}

PciEndpointState PciEndpoint::SaveEndpoint() const {
  return {.function = Save(), .interrupts = interrupts_.Save()};
}

Result<void> PciEndpoint::LoadEndpoint(const PciEndpointState& state) {
  if (state.version != PciEndpointState::kVersion) {
    return Fail(ExitCode::kConfigInvalid,
                fmt::format("{}: the saved state is of another version", name()));
  }
  auto loaded = Load(state.function).and_then([&] { return interrupts_.Load(state.interrupts); });
  if (!loaded) {
    return tl::unexpected(std::move(loaded.error()).WithContext(std::string(name())));
  }
  return loaded;
}

}  // namespace vmm
