#include "apic.h"

namespace guest {

void EnableApic() {
  WriteApic(Apic::SVR, 0x1ff);
  WriteApic(Apic::TPR, 0);
  WriteApic(Apic::LVT_LINT0, 0x10000);
}

void SendIpi(uint32_t icr_low, uint8_t destination) {
  WriteApic(Apic::ICR_HIGH, uint32_t{destination} << 24);
  WriteApic(Apic::ICR_LOW, icr_low);
  while (ReadApic(Apic::ICR_LOW) & 0x1000) Pause();  // delivery status
}

uint32_t ReadIoapic(uint8_t index) {
  WriteMemory<uint32_t>(kIoapic, index);
  return ReadMemory<uint32_t>(kIoapic + 0x10);
}

void WriteIoapic(uint8_t index, uint32_t value) {
  WriteMemory<uint32_t>(kIoapic, index);
  WriteMemory<uint32_t>(kIoapic + 0x10, value);
}

void SetIoapicPin(unsigned pin, uint64_t entry) {
  WriteIoapic(static_cast<uint8_t>(0x10 + 2 * pin), kPinMasked);
  WriteIoapic(static_cast<uint8_t>(0x11 + 2 * pin), static_cast<uint32_t>(entry >> 32));
  WriteIoapic(static_cast<uint8_t>(0x10 + 2 * pin), static_cast<uint32_t>(entry));
}

// [8259A] initialization sequence
void InitPics() {
  constexpr uint16_t kMaster = 0x20, kSlave = 0xa0;
  Out8(kMaster, 0x11);  // ICW1: edge, cascade, ICW4
  Out8(kSlave, 0x11);
  Out8(kMaster + 1, 0x20);  // ICW2: vectors
  Out8(kSlave + 1, 0x28);
  Out8(kMaster + 1, 4);  // ICW3: slave at IR2
  Out8(kSlave + 1, 2);
  Out8(kMaster + 1, 1);  // ICW4: 8086 mode
  Out8(kSlave + 1, 1);
  MaskPics();
}

void UnmaskPic(unsigned irq) {
  if (irq < 8) {
    Out8(0x21, static_cast<uint8_t>(In8(0x21) & ~(1 << irq)));
  } else {
    Out8(0x21, static_cast<uint8_t>(In8(0x21) & ~4));
    Out8(0xa1, static_cast<uint8_t>(In8(0xa1) & ~(1 << (irq - 8))));
  }
}

void MaskPics() {
  Out8(0x21, 0xff);
  Out8(0xa1, 0xff);
}

}  // namespace guest
