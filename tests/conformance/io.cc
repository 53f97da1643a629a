// Port and memory accesses of every size, at odd places, where somebody is and where nobody is.
// [SDM 1] 18.3
#include "lib/apic.h"
#include "lib/guest.h"

using namespace guest;

namespace {

constexpr uint16_t kNobody = 0x5a0;       // ports
constexpr uint64_t kHole = 0xf0000000;    // memory
constexpr uint16_t kCom1Scratch = 0x3ff;  // [16550] SCR

// What memory without a device reads as: ones. QEMU reads zeros.
uint64_t nothing = ~0ull;

void Ports() {
  Section("ports without a device");
  EXPECT_EQ(In8(kNobody), 0xff);
  EXPECT_EQ(In16(kNobody), 0xffff);
  EXPECT_EQ(In32(kNobody), 0xffffffff);
  if (!UnderTcg()) {  // which reads zeros there
    EXPECT_EQ(In16(kNobody + 1), 0xffff);
    EXPECT_EQ(In32(kNobody + 3), 0xffffffff);
  }
  EXPECT_EQ(In8(0xffff), 0xff);
  EXPECT_NO_TRAP(Try([] {
    Out8(kNobody, 1);
    Out16(kNobody + 1, 2);
    Out32(kNobody + 3, 3);
    Out32(0xfffc, 4);
  }));
  // EAX above what was read stays.
  uint64_t rax = 0x1122334455667788;
  asm volatile("inb %%dx, %%al" : "+a"(rax) : "d"(kNobody));
  EXPECT_EQ(rax, 0x11223344556677ff);
  asm volatile("inw %%dx, %%ax" : "+a"(rax) : "d"(kNobody));
  EXPECT_EQ(rax, 0x112233445566ffff);
  asm volatile("inl %%dx, %%eax" : "+a"(rax) : "d"(kNobody));
  EXPECT_EQ(rax, 0xffffffff);

  Section("ports with a device");
  Out8(kCom1Scratch, 0x5a);
  EXPECT_EQ(In8(kCom1Scratch), 0x5a);
  Out8(kCom1Scratch, 0xa5);
  EXPECT_EQ(In8(kCom1Scratch), 0xa5);
  // A wider access is one of single bytes to an 8-bit device; behind it is nobody.
  EXPECT_EQ(In16(kCom1Scratch - 1) >> 8, 0xa5);
  if (!UnderTcg()) EXPECT_EQ(In16(kCom1Scratch) & 0xff, 0xa5);  // QEMU 7.2 dies of it
  // A 32-bit register takes all 32 bits.
  Out32(0xcf8, 0x80000000);
  EXPECT_EQ(In32(0xcf8), 0x80000000);
  EXPECT_EQ(In32(0xcfc), 0x12378086);  // [I440FX] VID, DID
  EXPECT_EQ(In16(0xcfc), 0x8086);
  EXPECT_EQ(In16(0xcfe), 0x1237);
  EXPECT_EQ(In8(0xcff), 0x12);
  Out32(0xcf8, 0);
  EXPECT_EQ(In32(0xcfc), 0xffffffff);
}

void StringPorts() {
  Section("string port instructions");
  static uint8_t bytes[16];
  void* to = bytes;
  uint64_t n = 16;
  asm volatile("rep insb" : "+D"(to), "+c"(n) : "d"(kNobody) : "memory");
  EXPECT_EQ(n, 0);
  EXPECT_EQ(bytes[0], 0xff);
  EXPECT_EQ(bytes[15], 0xff);
  EXPECT_EQ(static_cast<uint8_t*>(to) - bytes, 16);
  static const uint8_t values[4] = {1, 2, 3, 0x77};
  const void* from = values;
  n = 4;
  asm volatile("rep outsb" : "+S"(from), "+c"(n) : "d"(kCom1Scratch) : "memory");
  EXPECT_EQ(n, 0);
  EXPECT_EQ(In8(kCom1Scratch), 0x77);
  // Backwards.
  from = values + 3;
  n = 4;
  asm volatile("std\n rep outsb\n cld" : "+S"(from), "+c"(n) : "d"(kCom1Scratch) : "memory");
  EXPECT_EQ(In8(kCom1Scratch), 1);
  // A count of zero does nothing.
  from = values;
  n = 0;
  asm volatile("rep outsb" : "+S"(from), "+c"(n) : "d"(kCom1Scratch) : "memory");
  EXPECT_EQ(In8(kCom1Scratch), 1);
  // A page fault in the middle: what was done is done, and RCX and RDI say how far.
  MapWindow(10, ScratchPage(0) | kPresent | kWrite);
  MapWindow(11, 0);
  const Trap trap = Try([] {
    uint64_t left = 8;
    void* at = reinterpret_cast<void*>(WindowPage(11) - 4);
    asm volatile("rep insb" : "+D"(at), "+c"(left) : "d"(kNobody) : "memory");
  });
  EXPECT_TRAP(trap, kPF, 2);
  EXPECT_EQ(trap.cr2, WindowPage(11));
  EXPECT_EQ(trap.frame.rcx, 4);
  EXPECT_EQ(trap.frame.rdi, WindowPage(11));
}

template <class T>
void MemoryOfSize(uint64_t hole) {
  for (uint64_t offset : {0, 1, 3, 7}) {
    EXPECT_EQ(ReadMemory<T>(hole + offset), static_cast<T>(nothing));
    EXPECT_NO_TRAP(Try([=] { WriteMemory<T>(hole + offset, 0); }));
    EXPECT_EQ(ReadMemory<T>(hole + offset), static_cast<T>(nothing));
  }
}

void MemoryOfEverySize(uint64_t hole) {
  MemoryOfSize<uint8_t>(hole);
  MemoryOfSize<uint16_t>(hole);
  MemoryOfSize<uint32_t>(hole);
  MemoryOfSize<uint64_t>(hole);
  EXPECT_EQ(ReadMemory<uint32_t>(hole + 0xffe), static_cast<uint32_t>(nothing));  // across pages
}

void Memory() {
  Section("memory without a device");
  MemoryOfEverySize(kHole);
  // Far above 4 GiB, up to the last pages that an address has bits for.
  const uint64_t end = uint64_t{1} << (Cpuid(0x80000008).eax & 0xff);
  for (uint64_t far : {uint64_t{3} << 32, end / 2, end - 0x2000}) {
    MapWindow(20, far | kPresent | kWrite);
    MapWindow(21, (far + 0x1000) | kPresent | kWrite);
    MemoryOfEverySize(WindowPage(20));
  }
  uint64_t value = 5;
  asm volatile("addq (%1), %0" : "+r"(value) : "r"(kHole) : "cc");
  EXPECT_EQ(value, 5 + nothing);
  asm volatile("movzwl (%1), %k0" : "=r"(value) : "r"(kHole));
  EXPECT_EQ(value, nothing & 0xffff);
  asm volatile("movsbq (%1), %0" : "=r"(value) : "r"(kHole));
  EXPECT_EQ(value, nothing);

  Section("memory with a device");
  EnableApic();
  WriteApic(Apic::TPR, 0x20);
  EXPECT_EQ(ReadApic(Apic::TPR), 0x20);
  asm volatile("orl $0x10, (%0)" : : "r"(kApicPage + 0x80) : "memory", "cc");
  EXPECT_EQ(ReadApic(Apic::TPR), 0x30);
  uint32_t old = 0x40;
  asm volatile("xchgl %0, (%1)" : "+r"(old) : "r"(kApicPage + 0x80) : "memory");
  EXPECT_EQ(old, 0x30);
  EXPECT_EQ(ReadApic(Apic::TPR), 0x40);
  asm volatile("movl $0x50, (%0)" : : "r"(kApicPage + 0x80) : "memory");
  EXPECT_EQ(ReadApic(Apic::TPR), 0x50);
  WriteApic(Apic::TPR, 0);
  WriteMemory<uint32_t>(kIoapic, 1);
  EXPECT_EQ(ReadMemory<uint32_t>(kIoapic), 1);

  Section("copies to and from memory without RAM");
  static uint8_t buffer[64] = {0x55};
  void* to = buffer;
  const void* from = reinterpret_cast<const void*>(kHole);
  uint64_t n = 64;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
  EXPECT_EQ(buffer[0], nothing & 0xff);
  EXPECT_EQ(buffer[63], nothing & 0xff);
  to = reinterpret_cast<void*>(kHole);
  n = 8;
  EXPECT_NO_TRAP(Try([&] { asm volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(0) : "memory"); }));
  EXPECT_EQ(n, 0);
}

// The last bytes of RAM and what is behind them.
void EndOfMemory() {
  Section("the end of RAM");
  uint64_t end = 2 << 20;
  while (end < 0xb0000000) {  // RAM keeps what it is given
    WriteMemory<uint32_t>(end, 0x600df00d);
    if (ReadMemory<uint32_t>(end) != 0x600df00d) break;
    end += 1 << 20;
  }
  EXPECT(end < 0xb0000000);
  WriteMemory<uint32_t>(end - 4, 0x44332211);
  EXPECT_EQ(ReadMemory<uint32_t>(end), nothing & 0xffffffff);
  EXPECT_EQ(ReadMemory<uint32_t>(end - 2), (nothing & 0xffff) << 16 | 0x4433);
  WriteMemory<uint32_t>(end - 2, 0xaabbccdd);
  EXPECT_EQ(ReadMemory<uint32_t>(end - 4), 0xccdd2211);
}

}  // namespace

void GuestMain() {
  if (UnderTcg()) nothing = 0;
  Ports();
  StringPorts();
  Memory();
  EndOfMemory();
}
