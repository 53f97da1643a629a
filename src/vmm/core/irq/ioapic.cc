#include "vmm/core/irq/ioapic.h"

#include "vmm/core/base/bytes.h"
#include "vmm/core/base/check.h"
#include "vmm/core/irq/local_apic_regs.h"

namespace vmm {

using namespace ioapic;
using apic::DeliveryMode;

namespace {

constexpr bool Has(uint64_t entry, RTE bit) {
  return (entry & static_cast<uint32_t>(bit)) != 0;
}
constexpr uint64_t kRemoteIrr = static_cast<uint32_t>(RTE::Remote_IRR);
constexpr uint64_t kMasked = static_cast<uint32_t>(RTE::Interrupt_Mask);

// Only these may be level triggered, whatever the entry says. [IOAPIC] 3.2.4 (DELMOD)
constexpr bool IsLevel(uint64_t entry) {
  const auto mode = static_cast<DeliveryMode>(entry >> 8 & 7);
  return Has(entry, RTE::Trigger_Mode) &&
         (mode == DeliveryMode::kFixed || mode == DeliveryMode::kLowestPriority);
}

// [SDM 3A] 10.11
constexpr MsiMessage MessageOf(uint64_t entry) {
  constexpr uint64_t kLogical = 1u << 2;
  constexpr uint32_t kAssert = 1u << 14, kLevel = 1u << 15;
  MsiMessage message;
  message.address = apic::kDefaultBase | (entry >> kDestinationShift) << 12 |
                    (Has(entry, RTE::DESTMOD) ? kLogical : 0);
  message.data = static_cast<uint32_t>(entry & 0x7FF) | (IsLevel(entry) ? kLevel | kAssert : 0);
  return message;
}

}  // namespace

Ioapic::Ioapic(IoapicOutput& output) : output_(output) {
  state_.IOREDTBL.fill(kMasked);
}

void Ioapic::Set(unsigned pin, bool level) {
  CHECK(pin < kPins);
  std::lock_guard lock(mutex_);
  const uint32_t bit = 1u << pin;
  if (((state_.lines & bit) != 0) == level) return;
  state_.lines ^= bit;
  if (!level) return;
  const uint64_t entry = state_.IOREDTBL[pin];
  if (IsLevel(entry)) {
    Serve(pin);
  } else if (!(entry & kMasked)) {
    Send(pin);
  }
}

void Ioapic::Send(unsigned pin) {
  output_.SendMsi(MessageOf(state_.IOREDTBL[pin]));
}

void Ioapic::Serve(unsigned pin) {
  uint64_t& entry = state_.IOREDTBL[pin];
  if (!(state_.lines >> pin & 1) || !IsLevel(entry) || (entry & (kMasked | kRemoteIrr))) return;
  entry |= kRemoteIrr;
  Send(pin);
}

void Ioapic::Publish(unsigned pin) {
  const uint64_t entry = state_.IOREDTBL[pin];
  output_.IoapicRouteChanged(pin, MessageOf(entry), entry & kMasked, IsLevel(entry));
}

void Ioapic::PublishRoutes() {
  std::lock_guard lock(mutex_);
  for (unsigned pin = 0; pin < kPins; ++pin) Publish(pin);
}

void Ioapic::OnEoi(uint8_t vector) {
  std::lock_guard lock(mutex_);
  EndOfInterrupt(vector);
}

// [IOAPIC] 3.2.4 (Remote IRR)
void Ioapic::EndOfInterrupt(uint8_t vector) {
  for (unsigned pin = 0; pin < kPins; ++pin) {
    uint64_t& entry = state_.IOREDTBL[pin];
    if (!(entry & kRemoteIrr) || static_cast<uint8_t>(entry) != vector) continue;
    entry &= ~kRemoteIrr;
    Serve(pin);
  }
}

uint32_t Ioapic::ReadIndex() const {
  switch (static_cast<Index>(state_.IOREGSEL)) {
    case Index::IOAPICID:
    case Index::IOAPICARB:
      return state_.IOAPICID;
    case Index::IOAPICVER:
      return ioapic::kVersion;
    default:
      break;
  }
  const unsigned at = state_.IOREGSEL - static_cast<unsigned>(Index::IOREDTBL);
  if (at >= 2 * kPins) return 0;
  return static_cast<uint32_t>(state_.IOREDTBL[at / 2] >> (at % 2 * 32));
}

void Ioapic::WriteIndex(uint32_t value) {
  if (state_.IOREGSEL == static_cast<uint8_t>(Index::IOAPICID)) {
    state_.IOAPICID = value & kIdMask;
    return;
  }
  const unsigned at = state_.IOREGSEL - static_cast<unsigned>(Index::IOREDTBL);
  if (at < 2 * kPins) WriteEntry(at / 2, at % 2, value);
}

void Ioapic::WriteEntry(unsigned pin, bool high, uint32_t value) {
  uint64_t& entry = state_.IOREDTBL[pin];
  if (high) {
    entry = uint64_t{value & 0xFF000000} << 32 | static_cast<uint32_t>(entry);
  } else {
    entry = (entry & ~uint64_t{kRteWritable}) | (value & kRteWritable);
    // An entry made edge triggered forgets the level it waited for: how drivers of chips without
    // the EOI register end an interrupt.
    if (!IsLevel(entry)) entry &= ~kRemoteIrr;
  }
  Publish(pin);
  Serve(pin);
}

void Ioapic::Read(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  const uint64_t at = offset & ~uint64_t{3};
  uint32_t value = 0;
  if (at == static_cast<uint64_t>(Reg::IOREGSEL)) {
    value = state_.IOREGSEL;
  } else if (at == static_cast<uint64_t>(Reg::IOWIN)) {
    value = ReadIndex();
  }
  StoreLittleEndian(data, value >> (8 * (offset & 3)));
}

// The window takes 32 bits at once. [IOAPIC] 3.1.2
void Ioapic::Write(uint64_t offset, std::span<const uint8_t> data) {
  std::lock_guard lock(mutex_);
  const auto value = static_cast<uint32_t>(LoadLittleEndian(data));
  if (offset == static_cast<uint64_t>(Reg::IOREGSEL)) {
    state_.IOREGSEL = static_cast<uint8_t>(value);
  } else if (offset == static_cast<uint64_t>(Reg::IOWIN)) {
    if (data.size() >= 4) WriteIndex(value);
  } else if (offset == static_cast<uint64_t>(Reg::EOI)) {
    EndOfInterrupt(static_cast<uint8_t>(value));
  }
}

void Ioapic::Reset() {
  std::lock_guard lock(mutex_);
  const uint32_t lines = state_.lines;
  state_ = {};
  state_.lines = lines;
  state_.IOREDTBL.fill(kMasked);
  for (unsigned pin = 0; pin < kPins; ++pin) Publish(pin);
}

IoapicState Ioapic::Save() const {
  std::lock_guard lock(mutex_);
  return state_;
}

Result<void> Ioapic::Load(const IoapicState& state) {
  bool possible = state.version == IoapicState::kVersion && (state.IOAPICID & ~kIdMask) == 0 &&
                  state.lines >> kPins == 0;
  for (const uint64_t entry : state.IOREDTBL) {
    possible = possible && (entry & ~kRteStored) == 0 && (!(entry & kRemoteIrr) || IsLevel(entry));
  }
  if (!possible) {
    return Fail(ExitCode::kConfigInvalid, "ioapic: the saved state is not one of an I/O APIC");
  }
  std::lock_guard lock(mutex_);
  state_ = state;
  for (unsigned pin = 0; pin < kPins; ++pin) {
    Publish(pin);
    Serve(pin);
  }
  return {};
}

}  // namespace vmm
