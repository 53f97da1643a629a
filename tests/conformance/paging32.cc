// The two forms of paging outside long mode: 32-bit and PAE. [SDM 3A] 4.3, 4.4
#include "lib32/guest.h"

using namespace guest;

namespace {

enum Entry : uint32_t {
  kPresent = 1,
  kWrite = 2,
  kUser = 4,
  kAccessed = 0x20,
  kDirty = 0x40,
  kLarge = 0x80,
  kGlobal = 0x100,
};
enum Error : uint32_t { kP = 1, kW = 2, kU = 4, kRsvd = 8, kI = 16 };
enum Cr4 : uint32_t { kPSE = 0x10, kPAE = 0x20, kPGE = 0x80 };
constexpr uint64_t kNoExecute = 1ull << 63;
constexpr uint32_t kPG = 0x80000000, kWP = 0x10000;

alignas(4096) uint32_t directory[1024], table[1024];
alignas(4096) uint64_t pointers[512], pae_directories[4][512], pae_table[512];
alignas(4096) uint8_t frames[4][4096];
constexpr uint32_t kWindow = 0xc0000000;  // the only part that is not identity-mapped

uint32_t Address(const volatile void* at) {
  return reinterpret_cast<uint32_t>(at);
}
uint32_t Frame(unsigned index) {
  return Address(frames[index]);
}
uint32_t WindowPage(unsigned index) {
  return kWindow + index * 4096;
}
void Read(uint32_t address) {
  ReadMemory<uint32_t>(address);
}
void Write(uint32_t address) {
  WriteMemory<uint32_t>(address, 1);
}

#define EXPECT_FAULT(trap, error_, address) \
  do {                                      \
    const Trap fault = (trap);              \
    EXPECT_TRAP(fault, kPF, error_);        \
    EXPECT_EQ(fault.cr2, address);          \
  } while (false)

extern "C" void UserRead();
extern "C" void UserWrite();
asm(R"(
    .global UserRead, UserWrite
UserRead:
    mov (%edi), %eax
    int $0x80
UserWrite:
    mov %eax, (%edi)
    int $0x80
)");

void Legacy() {
  Section("32-bit paging");
  WriteCr4(ReadCr4() | kPSE);
  for (uint32_t i = 0; i < 1024; ++i) directory[i] = i << 22 | kLarge | kPresent | kWrite | kUser;
  directory[kWindow >> 22] = Address(table) | kPresent | kWrite | kUser;
  for (unsigned i = 0; i < 4; ++i) table[i] = Frame(i) | kPresent | kWrite | kUser;
  WriteCr3(Address(directory));
  WriteCr0(ReadCr0() | kPG | kWP);
  WriteMemory<uint32_t>(Frame(0), 0x11111111);
  EXPECT_EQ(ReadMemory<uint32_t>(WindowPage(0)), 0x11111111);
  EXPECT_EQ(table[0] & (kAccessed | kDirty), kAccessed);
  Write(WindowPage(0));
  EXPECT_EQ(table[0] & (kAccessed | kDirty), kAccessed | kDirty);
  EXPECT(directory[kWindow >> 22] & kAccessed);
  EXPECT_EQ(directory[kWindow >> 22] & kDirty, 0);
  EXPECT(directory[0] & kDirty);  // a large page has it in the directory

  EXPECT_FAULT(Try([] { Read(WindowPage(5) + 4); }), 0, WindowPage(5) + 4);
  EXPECT_FAULT(Try([] { Write(WindowPage(5)); }), kW, WindowPage(5));
  table[1] = Frame(1) | kPresent;
  InvalidatePage(WindowPage(1));
  EXPECT_FAULT(Try([] { Write(WindowPage(1)); }), kP | kW, WindowPage(1));
  WriteCr0(ReadCr0() & ~kWP);
  EXPECT_NO_TRAP(Try([] { Write(WindowPage(1)); }));
  WriteCr0(ReadCr0() | kWP);
  const auto* read = reinterpret_cast<const void*>(&UserRead);
  const auto* write = reinterpret_cast<const void*>(&UserWrite);
  EXPECT_FAULT(RunUser(read, 2, WindowPage(1)), kP | kU, WindowPage(1));
  EXPECT_TRAP(RunUser(write, 2, WindowPage(2)), 0x80, 0);
  // The user bit counts on both levels.
  directory[kWindow >> 22] &= ~kUser;
  WriteCr3(ReadCr3());
  EXPECT_FAULT(RunUser(write, 2, WindowPage(2)), kP | kU | kW, WindowPage(2));
  directory[kWindow >> 22] |= kUser;

  // Bit 21 of a large page's entry is reserved.
  const uint32_t high = 0xb0000000;
  directory[high >> 22] |= 1 << 21;
  WriteCr3(ReadCr3());
  EXPECT_FAULT(Try([] { Read(high); }), UnderTcg() ? +kRsvd : kP | kRsvd, high);
  directory[high >> 22] &= ~(1u << 21);
  WriteCr0(ReadCr0() & ~(kPG | kWP));
  WriteCr4(ReadCr4() & ~kPSE);
}

void LoadPae() {
  for (unsigned i = 0; i < 4; ++i) pointers[i] = Address(pae_directories[i]) | kPresent;
  for (uint32_t i = 0; i < 2048; ++i)
    pae_directories[i / 512][i % 512] = uint64_t{i} << 21 | kLarge | kPresent | kWrite | kUser;
  pae_directories[3][0] = Address(pae_table) | kPresent | kWrite | kUser;
  for (unsigned i = 0; i < 4; ++i) pae_table[i] = Frame(i) | kPresent | kWrite | kUser;
}

void Pae() {
  Section("PAE paging");
  LoadPae();
  WriteCr3(Address(pointers));
  WriteCr4(ReadCr4() | kPAE);
  WriteCr0(ReadCr0() | kPG | kWP);
  WriteMemory<uint32_t>(Frame(0), 0x22222222);
  EXPECT_EQ(ReadMemory<uint32_t>(WindowPage(0)), 0x22222222);
  if (!UnderTcg()) EXPECT_EQ(pointers[3] & (kAccessed | kDirty), 0);  // these have no such bits
  EXPECT_FAULT(Try([] { Read(WindowPage(9)); }), 0, WindowPage(9));

  Section("PDPTEs");  // [SDM 3A] 4.4.1
  const uint64_t reserved[] = {2, 4, 0x20, 0x40, 0x80, 0x100, kNoExecute, 1ull << 62};
  if (!UnderTcg()) {
    for (uint64_t bit : reserved) {
      pointers[2] |= bit;
      EXPECT_TRAP(Try([] { WriteCr3(ReadCr3()); }), kGP, 0);
      pointers[2] &= ~bit;
    }
    // They are not looked at in an entry that is not present.
    pointers[2] = 2;
    EXPECT_NO_TRAP(Try([] { WriteCr3(ReadCr3()); }));
    EXPECT_FAULT(Try([] { Read(0x80000000); }), 0, 0x80000000);
    // They are registers: a change in memory waits for CR3.
    pointers[2] = Address(pae_directories[2]) | kPresent;
    EXPECT_FAULT(Try([] { Read(0x80000000); }), 0, 0x80000000);
    WriteCr3(ReadCr3());
    EXPECT_NO_TRAP(Try([] { Read(0x80000000); }));
    // A CR3 that is refused changes nothing.
    alignas(32) static uint64_t bad[4] = {2 | kPresent};
    EXPECT_TRAP(Try([] { WriteCr3(Address(bad)); }), kGP, 0);
    EXPECT_EQ(ReadCr3(), Address(pointers));
    EXPECT_NO_TRAP(Try([] { Read(WindowPage(0)); }));
  } else {
    Skip("PDPTE registers (QEMU TCG walks them)");
  }

  Section("reserved bits and NX");
  const uint32_t reserved_error = UnderTcg() ? +kRsvd : kP | kRsvd;
  pae_table[1] |= 1ull << 62;
  InvalidatePage(WindowPage(1));
  if (!UnderTcg()) EXPECT_FAULT(Try([] { Read(WindowPage(1)); }), reserved_error, WindowPage(1));
  pae_table[1] &= ~(1ull << 62);
  pae_table[1] |= kNoExecute;
  InvalidatePage(WindowPage(1));
  EXPECT_FAULT(Try([] { Read(WindowPage(1)); }), reserved_error, WindowPage(1));
  if (!(Cpuid(0x80000001).edx & 1 << 20)) return Skip("NX");
  WriteMsr(0xc0000080, ReadMsr(0xc0000080) | 0x800);
  WriteMemory<uint8_t>(Frame(1), 0xc3);
  EXPECT_NO_TRAP(Try([] { Read(WindowPage(1)); }));
  EXPECT_FAULT(Try([] {
                 asm volatile("call *%0" : : "r"(WindowPage(1)) : "memory");
               }),
               kP | kI, WindowPage(1));
  WriteMsr(0xc0000080, ReadMsr(0xc0000080) & ~0x800ull);
  pae_directories[2][1] |= 1 << 13;  // bits 20:13 of a large page
  WriteCr3(ReadCr3());
  EXPECT_FAULT(Try([] { Read(0x80200000); }), reserved_error, 0x80200000);
  pae_directories[2][1] &= ~(1ull << 13);
  WriteCr0(ReadCr0() & ~(kPG | kWP));
  WriteCr4(ReadCr4() & ~kPAE);
}

}  // namespace

void GuestMain() {
  Legacy();
  Pae();
}
