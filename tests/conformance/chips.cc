// The interrupt controllers' own registers and rules: 8259s, IOAPIC, local APIC.
// [8259A], [IOAPIC] 3, [SDM 3A] 10
#include "lib/apic.h"
#include "lib/guest.h"

using namespace guest;

namespace {

constexpr uint16_t kCom1 = 0x3f8, kMaster = 0x20, kSlave = 0xa0;

// --- Lines that can be raised at will: keyboard (1), serial (4), RTC (8). ---
void Raise1() {
  Out8(0x64, 0xd2);  // the byte that follows is as if from the keyboard
  Out8(0x60, 0x1e);
}
void Lower1() {
  In8(0x60);
}
void Raise4() {
  Out8(kCom1 + 1, 2);  // IER: transmitter empty
}
void Lower4() {
  Out8(kCom1 + 1, 0);
}
uint8_t ReadRtc(uint8_t index) {
  Out8(0x70, index);
  return In8(0x71);
}
void WriteRtc(uint8_t index, uint8_t value) {
  Out8(0x70, index);
  Out8(0x71, value);
}
uint8_t Irr(uint16_t chip) {
  Out8(chip, 0x0a);  // OCW3
  return In8(chip);
}
uint8_t Isr(uint16_t chip) {
  Out8(chip, 0x0b);
  return In8(chip);
}
void Raise8() {
  ReadRtc(0xc);
  WriteRtc(0xb, ReadRtc(0xb) | 0x40);  // periodic; up until register C is read
  EXPECT(WaitFor([] { return (Irr(kSlave) & 1) != 0; }));
}
void Lower8() {
  WriteRtc(0xb, static_cast<uint8_t>(ReadRtc(0xb) & ~0x70));
  ReadRtc(0xc);
}
void SetUpLines() {
  WaitFor([] { return (In8(kCom1 + 5) & 0x60) == 0x60; });
  Out8(kCom1 + 4, 0x0b);  // OUT2 lets the serial line's interrupt out
  Out8(0x64, 0x60);       // the keyboard controller's command byte: interrupts
  Out8(0x60, 0x45);
  WriteRtc(0xa, 0x26);  // 1024 Hz
  Lower4(), Lower8(), Lower1();
}

// --- 8259 ---
void StartPics(uint8_t icw4 = 1) {
  Out8(kMaster, 0x11);
  Out8(kMaster + 1, 0x23);  // the low three bits count for nothing
  Out8(kMaster + 1, 4);
  Out8(kMaster + 1, icw4);
  Out8(kSlave, 0x11);
  Out8(kSlave + 1, 0x28);
  Out8(kSlave + 1, 2);
  Out8(kSlave + 1, 1);
}
uint8_t Poll(uint16_t chip) {
  Out8(chip, 0x0c);
  return In8(chip);
}
constexpr uint8_t kEoi = 0x20, kSpecificEoi = 0x60, kRotateEoi = 0xa0, kSetPriority = 0xc0;

void PicPriorities() {
  Section("8259, priorities");
  StartPics();
  EXPECT_EQ(In8(kMaster + 1), 0);  // ICW1 clears the mask
  Out8(kMaster + 1, 0xed);
  EXPECT_EQ(In8(kMaster + 1), 0xed);
  EXPECT_EQ(Irr(kMaster), 0);
  EXPECT_EQ(Poll(kMaster) & 0x80, 0);
  Raise1();
  Raise4();
  EXPECT_EQ(Irr(kMaster), 0x12);
  EXPECT_EQ(Poll(kMaster), 0x81);
  EXPECT_EQ(Isr(kMaster), 0x02);
  EXPECT_EQ(Irr(kMaster), 0x10);
  EXPECT_EQ(Poll(kMaster) & 0x80, 0);  // 4 is below what is in service
  Out8(kMaster, kEoi);
  EXPECT_EQ(Poll(kMaster), 0x84);
  EXPECT_EQ(Irr(kMaster), 0);  // the line is still up: edges count
  Lower1();
  Raise1();
  EXPECT_EQ(Poll(kMaster), 0x81);  // a higher one nests
  EXPECT_EQ(Isr(kMaster), 0x12);
  Out8(kMaster, kSpecificEoi | 4);
  EXPECT_EQ(Isr(kMaster), 0x02);
  Out8(kMaster, kEoi);
  EXPECT_EQ(Isr(kMaster), 0);
  Lower1(), Lower4();

  Section("8259, mask");
  Out8(kMaster + 1, 0xff);
  Raise4();
  EXPECT_EQ(Irr(kMaster), 0x10);
  EXPECT_EQ(Poll(kMaster) & 0x80, 0);
  Out8(kMaster + 1, 0xed);
  EXPECT_EQ(Poll(kMaster), 0x84);
  // Special mask mode: what is in service, and masked, holds nobody back.
  Lower4();
  Out8(kMaster, kEoi);
  Raise1();
  EXPECT_EQ(Poll(kMaster), 0x81);
  Raise4();
  Out8(kMaster + 1, 0xef);
  EXPECT_EQ(Poll(kMaster) & 0x80, 0);
  Out8(kMaster, 0x68);
  EXPECT_EQ(Poll(kMaster), 0x84);
  EXPECT_EQ(Isr(kMaster), 0x12);
  Out8(kMaster, kSpecificEoi | 4);
  Out8(kMaster, 0x48);
  Out8(kMaster, kSpecificEoi | 1);
  Lower1(), Lower4();

  Section("8259, rotation");
  Out8(kMaster + 1, 0xed);
  Out8(kMaster, kSetPriority | 3);  // 3 is the lowest, so 4 the highest
  Raise1();
  Raise4();
  EXPECT_EQ(Poll(kMaster), 0x84);
  Lower4();
  Raise4();
  Out8(kMaster, kRotateEoi);  // and now 4 is the lowest
  EXPECT_EQ(Poll(kMaster), 0x81);
  EXPECT_EQ(Poll(kMaster) & 0x80, 0);
  Out8(kMaster, kRotateEoi);
  EXPECT_EQ(Poll(kMaster), 0x84);
  Out8(kMaster, kSetPriority | 7);
  Out8(kMaster, kEoi);
  EXPECT_EQ(Isr(kMaster), 0);
  Lower1(), Lower4();

  Section("8259, automatic end");
  StartPics(3);
  Out8(kMaster + 1, 0xed);
  Raise4();
  EXPECT_EQ(Poll(kMaster), 0x84);
  EXPECT_EQ(Isr(kMaster), 0);
  Lower4();

  Section("8259, level");
  StartPics();
  Out8(kMaster + 1, 0xed);
  Out8(0x4d0, 0x10);
  EXPECT_EQ(In8(0x4d0), 0x10);
  Raise4();
  EXPECT_EQ(Poll(kMaster), 0x84);
  Out8(kMaster, kEoi);
  EXPECT_EQ(Poll(kMaster), 0x84);  // the line is still up
  Lower4();
  EXPECT_EQ(Irr(kMaster), 0);
  Out8(kMaster, kEoi);
  EXPECT_EQ(Poll(kMaster) & 0x80, 0);
  Out8(0x4d0, 0);
}

volatile unsigned count = 0;
volatile uint8_t order[8];
void Note(const Frame& frame) {
  if (count < 8) order[count] = static_cast<uint8_t>(frame.vector);
  count = count + 1;
}

void PicCascade() {
  Section("8259, cascade");
  StartPics();
  Out8(kMaster + 1, 0xe9);
  Out8(kSlave + 1, 0xfe);
  Raise8();
  EXPECT_EQ(Irr(kMaster), 0x04);
  EXPECT_EQ(Poll(kMaster), 0x82);
  EXPECT_EQ(Poll(kSlave), 0x80);
  EXPECT_EQ(Isr(kMaster), 0x04);
  EXPECT_EQ(Isr(kSlave), 0x01);
  Out8(kSlave, kEoi);
  Out8(kMaster, kEoi);
  Lower8();

  // All three by the processor: 1, then the slave's, then 4.
  EnableApic();
  WriteApic(Apic::LVT_LINT0, 0x700);  // ExtINT
  SetHandler(0x21, [](Frame& frame) {
    Note(frame);
    Lower1();
    Out8(kMaster, kEoi);
  });
  SetHandler(0x24, [](Frame& frame) {
    Note(frame);
    Lower4();
    Out8(kMaster, kEoi);
  });
  SetHandler(0x28, [](Frame& frame) {
    Note(frame);
    Lower8();
    Out8(kSlave, kEoi);
    Out8(kMaster, kEoi);
  });
  count = 0;
  Raise4(), Raise8(), Raise1();
  EnableInterrupts();
  EXPECT(WaitFor([] { return count >= 3; }));
  Delay(2);
  DisableInterrupts();
  EXPECT_EQ(count, 3);
  EXPECT_EQ(order[0], 0x21);
  EXPECT_EQ(order[1], 0x28);
  EXPECT_EQ(order[2], 0x24);
  // A handler is interrupted by a higher one only.
  SetHandler(0x24, [](Frame& frame) {
    Note(frame);
    Raise1();
    EnableInterrupts();
    EXPECT(WaitFor([] { return count == 2; }));
    DisableInterrupts();
    Lower4();
    Out8(kMaster, kEoi);
  });
  count = 0;
  Raise4();
  EnableInterrupts();
  EXPECT(WaitFor([] { return count >= 2; }));
  DisableInterrupts();
  EXPECT_EQ(order[0], 0x24);
  EXPECT_EQ(order[1], 0x21);
  EXPECT_EQ(Isr(kMaster), 0);
  MaskPics();
  WriteApic(Apic::LVT_LINT0, 0x10000);
}

// --- IOAPIC ---
uint64_t Entry(unsigned pin) {
  const uint64_t low = ReadIoapic(static_cast<uint8_t>(0x10 + 2 * pin));
  return low | uint64_t{ReadIoapic(static_cast<uint8_t>(0x11 + 2 * pin))} << 32;
}
bool Comes(unsigned wanted, uint32_t milliseconds) {
  EnableInterrupts();
  const bool came = WaitFor([=] { return count >= wanted; }, milliseconds);
  DisableInterrupts();
  return came;
}

void IoApic() {
  Section("IOAPIC");
  SetHandler(0x64, [](Frame& frame) {
    Note(frame);
    Lower4();
    EndOfInterrupt();
  });
  SetIoapicPin(4, kPinMasked | 0x5064);  // delivery status and remote IRR are not for writing
  EXPECT_EQ(Entry(4) & 0x15fff, kPinMasked | 0x64);
  EXPECT_EQ(ReadIoapic(2) & 0xf0ffffff, 0);  // the arbitration register

  count = 0;  // an edge at a masked pin is lost
  Raise4();
  SetIoapicPin(4, 0x64);
  EXPECT(!Comes(1, 5));
  Lower4();
  Raise4();
  EXPECT(Comes(1, 1000));
  EXPECT_EQ(Entry(4) & 0x4000, 0);  // edges set no remote IRR

  count = 0;  // a level is not
  SetIoapicPin(4, 0x64 | kPinLevel | kPinMasked);
  Raise4();
  EXPECT(!Comes(1, 5));
  EXPECT_EQ(Entry(4) & 0x4000, 0);
  SetIoapicPin(4, 0x64 | kPinLevel);
  EXPECT_EQ(Entry(4) & 0x4000, 0x4000);
  EXPECT(Comes(1, 1000));
  EXPECT(!Comes(2, 5));
  EXPECT_EQ(Entry(4) & 0x4000, 0);
  EXPECT(!ApicBit(Apic::ISR, 0x64));

  count = 0;  // a level that comes back before the EOI comes once more
  SetHandler(0x64, [](Frame& frame) {
    Note(frame);
    Lower4();
    if (count == 1) Raise4();
    EndOfInterrupt();
  });
  Raise4();
  EXPECT(Comes(2, 1000));
  EXPECT(!Comes(3, 5));

  Section("IOAPIC, destinations");
  WriteApic(Apic::LDR, 0x02000000);
  WriteApic(Apic::DFR, 0xffffffff);
  const auto arrives = [](uint64_t entry, uint32_t milliseconds = 1000) {
    count = 1;
    SetIoapicPin(4, entry | 0x64);
    Raise4();
    const bool came = Comes(2, milliseconds);
    Lower4();
    SetIoapicPin(4, kPinMasked);
    return came;
  };
  constexpr uint64_t kLogical = 0x800, kLowest = 0x100;
  const uint64_t id = ReadApic(Apic::ID) >> 24;
  EXPECT(arrives(id << 56));
  EXPECT(!arrives((id + 9) << 56, 5));
  EXPECT(arrives(0xffull << 56));
  EXPECT(arrives(kLogical | 2ull << 56));
  EXPECT(arrives(kLogical | kLowest | 2ull << 56));
  EXPECT(!arrives(kLogical | 4ull << 56, 5));
}

// --- Local APIC ---
void Self(uint8_t vector) {
  SendIpi(kSelf | kAssert | vector);
}

void LocalApicPriorities() {
  Section("APIC, priorities");
  for (const uint8_t vector : {uint8_t{0x2f}, uint8_t{0x31}, uint8_t{0x52}, uint8_t{0x5e}}) {
    SetHandler(vector, [](Frame& frame) {
      Note(frame);
      EndOfInterrupt();
    });
  }
  count = 0;
  WriteApic(Apic::TPR, 0x25);
  EXPECT_EQ(ReadCr8(), 2);
  EXPECT_EQ(ReadApic(Apic::PPR), 0x25);
  Self(0x2f);
  EXPECT(!Comes(1, 5));
  Self(0x31);
  EXPECT(Comes(1, 1000));
  EXPECT_EQ(order[0], 0x31);
  EXPECT(ApicBit(Apic::IRR, 0x2f));
  WriteApic(Apic::TPR, 0x1f);
  EXPECT(Comes(2, 1000));
  EXPECT_EQ(order[1], 0x2f);
  WriteApic(Apic::TPR, 0);

  // Within a class the higher vector goes first, but does not interrupt.
  static volatile uint32_t ppr;
  SetHandler(0x52, [](Frame& frame) {
    Note(frame);
    Self(0x5e);
    EnableInterrupts();
    WaitFor([] { return count >= 2; }, 5);
    DisableInterrupts();
    EXPECT_EQ(count, 1);
    ppr = ReadApic(Apic::PPR);
    EndOfInterrupt();
  });
  count = 0;
  Self(0x52);
  EXPECT(Comes(2, 1000));
  EXPECT_EQ(ppr, 0x50);
  EXPECT_EQ(order[1], 0x5e);
  EXPECT_EQ(ReadApic(Apic::PPR), 0);

  Section("APIC, end of interrupt");  // of the highest in service, whoever asks
  static volatile bool low_stays, high_ended;
  SetHandler(0x52, [](Frame&) {
    SetHandler(0x91, [](Frame& frame) {
      EndOfInterrupt();
      high_ended = !ApicBit(Apic::ISR, 0x91);
      low_stays = ApicBit(Apic::ISR, 0x52);
      Note(frame);
    });
    Self(0x91);
    EnableInterrupts();
    WaitFor([] { return count >= 1; });
    DisableInterrupts();
    EndOfInterrupt();
  });
  count = 0;
  Self(0x52);
  EXPECT(Comes(1, 1000));
  EXPECT(low_stays);
  EXPECT(high_ended);
  EXPECT(!ApicBit(Apic::ISR, 0x52));
  EndOfInterrupt();  // nothing in service: nothing happens
  EXPECT_EQ(ReadApic(Apic::PPR), 0);
}

void LocalApicErrors() {
  Section("APIC, errors");  // [SDM 3A] 10.5.3
  WriteApic(Apic::ESR, 0);
  WriteApic(Apic::ESR, 0);
  EXPECT_EQ(ReadApic(Apic::ESR), 0);
  SetHandler(0x81, [](Frame& frame) {
    Note(frame);
    EndOfInterrupt();
  });
  WriteApic(Apic::LVT_ERROR, 0x81);
  count = 0;
  uint32_t errors = 0;
  if (!UnderTcg()) {               // which delivers it
    SendIpi(kSelf | kAssert | 5);  // vectors below 16 are not for this
    WriteApic(Apic::ESR, 0);
    errors = ReadApic(Apic::ESR);
  }
  if (errors == 0 && !Comes(1, 5)) {
    Skip("APIC errors: this one tells none (nor does KVM's)");
  } else {
    EXPECT_EQ(errors & 0x20, 0x20);  // send illegal vector
    EXPECT(Comes(1, 1000));
    WriteApic(Apic::ESR, 0);
    EXPECT_EQ(ReadApic(Apic::ESR), 0);
  }
  WriteApic(Apic::LVT_ERROR, 0x10081);
  EXPECT_EQ(ReadApic(Apic::LVT_ERROR), 0x10081);

  Section("APIC, software disabled");  // [SDM 3A] 10.4.7.2
  if (UnderTcg()) return Skip("LVT masks of a disabled APIC (QEMU TCG sets none)");
  WriteApic(Apic::LVT_TIMER, 0x40);
  WriteApic(Apic::LVT_LINT1, 0x400);
  WriteApic(Apic::SVR, 0xff);
  EXPECT_EQ(ReadApic(Apic::LVT_TIMER), 0x10040);
  EXPECT_EQ(ReadApic(Apic::LVT_LINT1), 0x10400);
  WriteApic(Apic::LVT_TIMER, 0x40);
  EXPECT_EQ(ReadApic(Apic::LVT_TIMER), 0x10040);  // no way to unmask it
  WriteApic(Apic::SVR, 0x1ff);
  EXPECT_EQ(ReadApic(Apic::LVT_TIMER), 0x10040);
  WriteApic(Apic::LVT_TIMER, 0x10000);
  WriteApic(Apic::LVT_LINT1, 0x10000);
}

void X2Apic() {
  Section("x2APIC");  // [SDM 3A] 10.12.9
  if ((Cpuid(1).ecx & (1u << 21)) == 0) return Skip("x2APIC");
  WriteMsr(0x1b, ReadMsr(0x1b) | 0x400);
  SetHandler(0x41, [](Frame& frame) {
    Note(frame);
    WriteMsr(0x80b, 0);
  });
  const auto arrives = [](uint64_t icr, uint32_t milliseconds = 1000) {
    count = 0;
    WriteMsr(0x830, icr | kAssert | 0x41);
    return Comes(1, milliseconds);
  };
  const uint64_t ldr = ReadMsr(0x80d), id = ReadMsr(0x802);
  EXPECT(arrives(id << 32));
  EXPECT(!arrives((id + 9) << 32, 5));
  EXPECT(arrives(0xffffffffull << 32));
  EXPECT(arrives(0x800 | ldr << 32));
  EXPECT(!arrives(0x800 | (ldr ^ 3) << 32, 5));  // another processor of the cluster
  EXPECT(arrives(kSelf));
  EXPECT(arrives(kAll));
  EXPECT(!arrives(kOthers, 5));
  WriteMsr(0x808, 0x50);
  EXPECT_EQ(ReadCr8(), 5);
  EXPECT(!arrives(kSelf, 5));
  WriteCr8(0);
  EXPECT(Comes(1, 1000));
  EXPECT_EQ(ReadMsr(0x808), 0);
  EXPECT_TRAP(Try([] { WriteMsr(0x802, 0); }), kGP, 0);  // the id is read-only
  EXPECT_TRAP(Try([] { ReadMsr(0x80e); }), kGP, 0);      // no DFR
}

}  // namespace

void GuestMain() {
  SetUpLines();
  PicPriorities();
  PicCascade();
  IoApic();
  LocalApicPriorities();
  LocalApicErrors();
  X2Apic();
}
