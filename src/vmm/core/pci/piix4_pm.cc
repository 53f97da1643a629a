#include "vmm/core/pci/piix4_pm.h"

#include <utility>

namespace vmm {

namespace {

constexpr uint32_t kIoIndicator = 0x1;  // in a base register, read-only
constexpr uint32_t kApmcEn = 1u << 25;  // of DEVACTB: writes to APMC raise an SMI
constexpr uint8_t kEnabled = 0x01;
constexpr uint8_t kSmbusIrq9 = 0x08;

}  // namespace

// There is no SMM. DEVACTB shows APMC_EN set, by which a BIOS knows that SMM was set up by somebody
// else; it would wait for an SMI for ever otherwise.
Piix4Pm::Piix4Pm(std::function<void(Block, Placement)> moved)
    : PciFunction("piix4-pm",
                  {.vendor = 0x8086, .device = 0x7113, .revision = 0x03, .class_code = 0x068000}),
      moved_(std::move(moved)) {
  PciConfigSpace& c = config();
  c.Define16(pci::kCommand, 0x0001, 0x0001);
  c.Define16(pci::kStatus, 0x0280, 0, 0x7800);
  c.Define8(pci::kInterruptLine, 9, 0xFF);
  c.Define8(pci::kInterruptPin, 1);
  c.Define32(kPmba, kDefaultPmBase | kIoIndicator, 0xFFC0);
  c.Define32(kCounta, 0, 0xFFFF'FFFF);
  c.Define32(kCountb, 0, 0xFFFF'FFFF);
  c.Define32(kGpicntl, 0, 0xFFFF'FFFF);
  c.Define32(kDevresd, 0, 0x00FF'FFFF);
  c.Define32(kDevacta, 0, 0xFFFF'FFFF);
  c.Define32(kDevactb, kApmcEn, 0xFFFF'FFFF);
  for (uint16_t at = kDevres; at < kPmregmisc; at += 4) c.Define32(at, 0, 0xFFFF'FFFF);
  c.Define8(kPmregmisc, kEnabled, 0x01);
  c.Define32(kSmbba, kDefaultSmbusBase | kIoIndicator, 0xFFF0);
  c.Define8(kSmbhstcfg, kEnabled | kSmbusIrq9, 0x0F);
  c.Define8(kSmbrev, 0x00);
  placed_ = {Decode(Block::kPowerManagement), Decode(Block::kSmbus)};
}

Piix4Pm::Placement Piix4Pm::Decode(Block block) const {
  const bool pm = block == Block::kPowerManagement;
  const uint16_t base = config().Get16(pm ? kPmba : kSmbba);
  return {Port(static_cast<uint16_t>(base & ~kIoIndicator)),
          (config().Get8(pm ? kPmregmisc : kSmbhstcfg) & kEnabled) != 0};
}

Piix4Pm::Placement Piix4Pm::Where(Block block) const {
  std::lock_guard lock(mutex());
  return Decode(block);
}

void Piix4Pm::OnConfigWritten(uint16_t, size_t) {
  for (Block block : {Block::kPowerManagement, Block::kSmbus}) {
    const Placement now = Decode(block);
    Placement& placed = placed_[block == Block::kPowerManagement ? 0 : 1];
    if (now == placed) continue;
    placed = now;
    moved_(block, now);
  }
}

}  // namespace vmm
