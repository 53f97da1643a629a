#include "vmm/core/pci/pci_interrupts.h"

#include <algorithm>

#include "vmm/core/base/bytes.h"
#include "vmm/core/base/check.h"
#include "vmm/core/pci/pci_regs.h"

namespace vmm {
namespace {

// Address, upper address, data, vector control. The two lowest bits of the address are zero, and
// of the vector control one bit is there. [PCI] 6.8.2.6 to 6.8.2.9
constexpr std::array<uint32_t, 4> kEntryBits{0xFFFF'FFFC, 0xFFFF'FFFF, 0xFFFF'FFFF,
                                             pci::msix::kEntryMasked};

void MaskAll(PciInterruptsState& state) {
  for (auto& entry : state.table) entry[3] = pci::msix::kEntryMasked;
}

}  // namespace

PciInterrupts::PciInterrupts(IrqLine& pin, MsiSink& sink, unsigned vectors)
    : pin_(pin),
      sink_(sink),
      vectors_(vectors),
      table_("msix-table", *this, &PciInterrupts::ReadTable, &PciInterrupts::WriteTable),
      pending_bits_("msix-pending", *this, &PciInterrupts::ReadPending,
                    &PciInterrupts::IgnoreWrite) {
  CHECK(vectors <= kMaxVectors);
  MaskAll(state_);
}

void PciInterrupts::SetPin(bool asserted) {
  const std::lock_guard lock(mutex_);
  state_.pin = asserted;
  Update();
}

bool PciInterrupts::pin() const {
  const std::lock_guard lock(mutex_);
  return state_.pin;
}

void PciInterrupts::Send(unsigned vector) {
  CHECK(vector < vectors_);
  const std::lock_guard lock(mutex_);
  if (control_.mode == Mode::kPin) return;
  // Of MSI fewer vectors may have been granted than were asked for. [PCI] 6.8.1.3
  if (control_.mode == Mode::kMsi) vector &= control_.msi_vectors - 1;
  state_.pending |= uint64_t{1} << vector;
  Update();
}

PciInterrupts::Mode PciInterrupts::mode() const {
  const std::lock_guard lock(mutex_);
  return control_.mode;
}

uint64_t PciInterrupts::pending() const {
  const std::lock_guard lock(mutex_);
  return state_.pending;
}

void PciInterrupts::SetControl(const Control& control) {
  const std::lock_guard lock(mutex_);
  control_ = control;
  Update();
}

bool PciInterrupts::Masked(unsigned vector) const {
  if (!control_.may_send) return true;
  if (control_.mode == Mode::kMsi) return (control_.msi_masked >> vector & 1) != 0;
  return control_.all_masked || (state_.table[vector][3] & pci::msix::kEntryMasked) != 0;
}

MsiMessage PciInterrupts::MessageOf(unsigned vector) const {
  if (control_.mode == Mode::kMsi) {
    return {control_.msi.address, (control_.msi.data & ~(control_.msi_vectors - 1)) | vector};
  }
  const auto& entry = state_.table[vector];
  return {uint64_t{entry[1]} << 32 | entry[0], entry[2]};
}

// A message that is masked is pending until it isn't. [PCI] 6.8.3.5
void PciInterrupts::Update() {
  const bool high = state_.pin && !control_.pin_disabled && control_.mode == Mode::kPin;
  if (high != pin_is_high_) pin_.Set(pin_is_high_ = high);
  if (control_.mode == Mode::kPin) return;
  const unsigned most = control_.mode == Mode::kMsi ? pci::msi::kMaxVectors : vectors_;
  for (unsigned vector = 0; vector < most && state_.pending != 0; ++vector) {
    const uint64_t bit = uint64_t{1} << vector;
    if ((state_.pending & bit) == 0 || Masked(vector)) continue;
    state_.pending &= ~bit;
    sink_.SendMsi(MessageOf(vector));
  }
}

void PciInterrupts::ReadTable(uint64_t offset, std::span<uint8_t> data) {
  const std::lock_guard lock(mutex_);
  for (uint8_t& byte : data) {
    const uint64_t entry = offset / pci::msix::kEntrySize;
    byte = entry < vectors_ ? ByteOf(state_.table[entry][offset / 4 % 4], offset % 4) : 0;
    ++offset;
  }
}

void PciInterrupts::WriteTable(uint64_t offset, std::span<const uint8_t> data) {
  const std::lock_guard lock(mutex_);
  for (const uint8_t byte : data) {
    const uint64_t entry = offset / pci::msix::kEntrySize, word = offset / 4 % 4;
    if (entry < vectors_) {
      uint32_t& value = state_.table[entry][word];
      value = WithByte(value, offset % 4, byte) & kEntryBits[word];
    }
    ++offset;
  }
  Update();
}

void PciInterrupts::ReadPending(uint64_t offset, std::span<uint8_t> data) {
  const std::lock_guard lock(mutex_);
  for (uint8_t& byte : data) byte = offset < 8 ? ByteOf(state_.pending, offset++) : 0;
}

void PciInterrupts::Reset() {
  const std::lock_guard lock(mutex_);
  state_ = {};
  MaskAll(state_);
  Update();
}

PciInterruptsState PciInterrupts::Save() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

Result<void> PciInterrupts::Load(const PciInterruptsState& state) {
  bool possible = state.version == PciInterruptsState::kVersion &&
                  (vectors_ == kMaxVectors || state.pending >> vectors_ == 0);
  for (const auto& entry : state.table) {
    for (unsigned i = 0; i < 4; ++i) possible = possible && (entry[i] & ~kEntryBits[i]) == 0;
  }
  if (!possible) {
    return Fail(ExitCode::kConfigInvalid, "the saved interrupts are not this function's");
  }
  const std::lock_guard lock(mutex_);
  state_ = state;
  Update();
  return {};
}

}  // namespace vmm
