// Four-level paging: permissions, error codes, accessed and dirty bits, large pages, the TLB.
// [SDM 3A] 4.5 to 4.10
#include "lib/guest.h"

using namespace guest;

namespace {

// Error code bits of a page fault. [SDM 3A] 4.7
enum Error : uint64_t { kP = 1, kW = 2, kU = 4, kRsvd = 8, kI = 16 };
// RSVD is only ever set with P; QEMU TCG forgets P.
uint64_t reserved_entry = kP | kRsvd;

void Write(uint64_t address) {
  WriteMemory<uint32_t>(address, 0x12345678);
}
void Read(uint64_t address) {
  ReadMemory<uint32_t>(address);
}
void Call(uint64_t address) {
  asm volatile("call *%0" : : "r"(address) : "memory");
}

#define EXPECT_FAULT(trap, error_, address) \
  do {                                      \
    const Trap fault = (trap);              \
    EXPECT_TRAP(fault, kPF, error_);        \
    EXPECT_EQ(fault.cr2, address);          \
  } while (false)

void Supervisor() {
  Section("supervisor");
  const uint64_t page = WindowPage(0), frame = ScratchPage(0);
  EXPECT_FAULT(Try([=] { Read(page + 0x10); }), 0, page + 0x10);
  EXPECT_FAULT(Try([=] { Write(page + 0xffc); }), kW, page + 0xffc);
  EXPECT_FAULT(Try([=] { Call(page); }), kI, page);

  MapWindow(0, frame | kPresent);
  EXPECT_NO_TRAP(Try([=] { Read(page); }));
  EXPECT_FAULT(Try([=] { Write(page); }), kP | kW, page);
  WriteCr0(ReadCr0() & ~0x10000ull);  // without CR0.WP a supervisor writes anywhere
  EXPECT_NO_TRAP(Try([=] { Write(page); }));
  WriteCr0(ReadCr0() | 0x10000);
  EXPECT_FAULT(Try([=] { Write(page); }), kP | kW, page);

  MapWindow(0, frame | kPresent | kWrite);
  EXPECT_NO_TRAP(Try([=] { Write(page); }));
  EXPECT_EQ(ReadMemory<uint32_t>(frame), 0x12345678);
}

void NoExecute() {
  Section("no-execute");
  const uint64_t page = WindowPage(0), frame = ScratchPage(0);
  WriteMemory<uint8_t>(frame, 0xc3);  // RET
  MapWindow(0, frame | kPresent | kWrite);
  EXPECT_NO_TRAP(Try([=] { Call(page); }));
  MapWindow(0, frame | kPresent | kWrite | kNoExecute);
  EXPECT_NO_TRAP(Try([=] { Read(page); }));
  EXPECT_FAULT(Try([=] { Call(page); }), kP | kI, page);
  WriteMsr(0xc0000080, ReadMsr(0xc0000080) & ~0x800ull);  // without EFER.NXE the bit is reserved
  MapWindow(0, frame | kPresent | kWrite | kNoExecute);
  EXPECT_FAULT(Try([=] { Read(page); }), reserved_entry, page);
  WriteMsr(0xc0000080, ReadMsr(0xc0000080) | 0x800);
}

void ReservedBits() {
  Section("reserved bits");
  const uint64_t page = WindowPage(0);
  const unsigned width = Cpuid(0x80000008).eax & 0xff;
  if (width < 52) {
    MapWindow(0, ScratchPage(0) | kPresent | kWrite | 1ull << width);
    EXPECT_FAULT(Try([=] { Read(page); }), reserved_entry, page);
    EXPECT_FAULT(Try([=] { Write(page); }), reserved_entry | kW, page);
  } else {
    Skip("52-bit addresses leave no reserved bit");
  }
  // Bits 20:13 of an entry for a 2 MiB page.
  const uint64_t pde = WindowPde();
  WindowPde() = 0x200000 | kLarge | kPresent | kWrite | kUser | 0x2000;
  WriteCr3(ReadCr3());
  EXPECT_FAULT(Try([=] { Read(page); }), reserved_entry, page);
  WindowPde() = pde;
  WriteCr3(ReadCr3());
}

USER_CODE(R"(
    .global user_read, user_write, user_call, user_ret, user_move, user_invpcid
user_invpcid:
    invpcid (%rdi), %rax
user_read:
    mov   (%rdi), %eax
    int   $0x80
user_write:
    mov   %eax, (%rdi)
    int   $0x80
user_call:
    jmp   *%rdi
user_move:                      # read at RSI, write at RDI
    mov   (%rsi), %eax
    mov   %eax, (%rdi)
    int   $0x80
)");
extern "C" const char user_read[], user_write[], user_call[], user_invpcid[];

void User() {
  Section("user");
  const uint64_t page = WindowPage(1), frame = ScratchPage(1);
  EXPECT_FAULT(RunUser(user_read, page), kU, page);
  EXPECT_FAULT(RunUser(user_write, page), kU | kW, page);
  EXPECT_FAULT(RunUser(user_call, page), kU | kI, page);
  MapWindow(1, frame | kPresent | kWrite);
  EXPECT_FAULT(RunUser(user_read, page), kU | kP, page);
  EXPECT_FAULT(RunUser(user_write, page), kU | kW | kP, page);
  EXPECT_FAULT(RunUser(user_call, page), kU | kI | kP, page);
  MapWindow(1, frame | kPresent | kUser);
  EXPECT_TRAP(RunUser(user_read, page), 0x80, 0);
  EXPECT_FAULT(RunUser(user_write, page), kU | kW | kP, page);
  WriteCr0(ReadCr0() & ~0x10000ull);  // CR0.WP is nothing to a user
  EXPECT_FAULT(RunUser(user_write, page), kU | kW | kP, page);
  WriteCr0(ReadCr0() | 0x10000);
  MapWindow(1, frame | kPresent | kUser | kWrite);
  EXPECT_TRAP(RunUser(user_write, page), 0x80, 0);
  // The right must be given on every level.
  const uint64_t pde = WindowPde();
  WindowPde() = pde & ~uint64_t{kWrite};
  WriteCr3(ReadCr3());
  EXPECT_FAULT(RunUser(user_write, page), kU | kW | kP, page);
  WindowPde() = pde;
  WriteCr3(ReadCr3());
  EXPECT_FAULT(RunUser(user_read, 0x100000), kU | kP, 0x100000);  // identity map: supervisor only
}

void AccessedAndDirty() {
  Section("accessed and dirty bits");  // [SDM 3A] 4.8
  const uint64_t page = WindowPage(2), frame = ScratchPage(2);
  MapWindow(2, frame | kPresent | kWrite);
  EXPECT_EQ(WindowPte(2) & (kAccessed | kDirty), 0);
  Read(page);
  EXPECT_EQ(WindowPte(2) & (kAccessed | kDirty), kAccessed);
  Write(page);
  EXPECT_EQ(WindowPte(2) & (kAccessed | kDirty), kAccessed | kDirty);
  EXPECT(WindowPde() & kAccessed);
  // A fault sets no dirty bit.
  MapWindow(2, frame | kPresent);
  EXPECT_FAULT(Try([=] { Write(page); }), kP | kW, page);
  EXPECT_EQ(WindowPte(2) & kDirty, 0);
  // Cleared and invalidated, they are set again.
  MapWindow(2, frame | kPresent | kWrite | kAccessed | kDirty);
  Write(page);
  MapWindow(2, frame | kPresent | kWrite | kAccessed);
  Write(page);
  EXPECT_EQ(WindowPte(2) & kDirty, kDirty);
}

void Crossing() {
  Section("accesses across pages");
  const uint64_t first = WindowPage(3), second = WindowPage(4);
  MapWindow(3, ScratchPage(3) | kPresent | kWrite);
  MapWindow(4, 0);
  WriteMemory<uint32_t>(ScratchPage(3) + 0xffc, 0);
  // The fault is on the second page, and nothing is written to the first.
  EXPECT_FAULT(Try([=] { WriteMemory<uint32_t>(second - 2, 0xaabbccdd); }), kW, second);
  EXPECT_EQ(ReadMemory<uint32_t>(ScratchPage(3) + 0xffc), 0);
  MapWindow(4, ScratchPage(5) | kPresent | kWrite);  // not the next frame
  WriteMemory<uint32_t>(second - 2, 0xaabbccdd);
  EXPECT_EQ(ReadMemory<uint16_t>(ScratchPage(3) + 0xffe), 0xccdd);
  EXPECT_EQ(ReadMemory<uint16_t>(ScratchPage(5)), 0xaabb);
  EXPECT_EQ(ReadMemory<uint32_t>(second - 2), 0xaabbccdd);
  // An instruction across the border: MOV EAX, imm32; RET.
  const uint8_t code[] = {0xb8, 1, 2, 3, 4, 0xc3};
  for (unsigned i = 0; i < 6; ++i)
    WriteMemory<uint8_t>(i < 3 ? ScratchPage(3) + 0xffd + i : ScratchPage(5) + i - 3, code[i]);
  uint32_t result = 0;
  const Trap trap = Try([&] {
    asm volatile("call *%1\n mov %%eax, %0" : "=m"(result) : "r"(second - 3) : "rax", "memory");
  });
  EXPECT_NO_TRAP(trap);
  EXPECT_EQ(result, 0x04030201);
  MapWindow(4, ScratchPage(5) | kPresent | kNoExecute);
  const Trap fault = Try([=] { Call(second - 3); });
  EXPECT_TRAP(fault, kPF, kP | kI);
  EXPECT_EQ(fault.cr2, second);
  EXPECT_EQ(fault.rip, second - 3);
  (void)first;
}

void Tlb() {
  Section("translation caches");  // [SDM 3A] 4.10.4
  const uint64_t page = WindowPage(5);
  WriteMemory<uint32_t>(ScratchPage(6), 0x66666666);
  WriteMemory<uint32_t>(ScratchPage(7), 0x77777777);
  MapWindow(5, ScratchPage(6) | kPresent | kWrite);
  EXPECT_EQ(ReadMemory<uint32_t>(page), 0x66666666);
  MapWindow(5, ScratchPage(7) | kPresent | kWrite);  // with INVLPG
  EXPECT_EQ(ReadMemory<uint32_t>(page), 0x77777777);
  WindowPte(5) = ScratchPage(6) | kPresent | kWrite;
  WriteCr3(ReadCr3());
  EXPECT_EQ(ReadMemory<uint32_t>(page), 0x66666666);
  // A global page outlives CR3 (or not), but not INVLPG or a change of CR4.PGE.
  WriteCr4(ReadCr4() | 0x80);
  MapWindow(5, ScratchPage(6) | kPresent | kWrite | kGlobal);
  EXPECT_EQ(ReadMemory<uint32_t>(page), 0x66666666);
  WindowPte(5) = ScratchPage(7) | kPresent | kWrite | kGlobal;
  WriteCr4(ReadCr4() & ~0x80ull);
  EXPECT_EQ(ReadMemory<uint32_t>(page), 0x77777777);
  // More rights need no invalidation: the fault is taken by the new entry. [SDM 3A] 4.10.4.3
  MapWindow(5, ScratchPage(6) | kPresent);
  ReadMemory<uint32_t>(page);
  WindowPte(5) = ScratchPage(6) | kPresent | kWrite;
  const Trap trap = Try([=] { Write(page); });
  if (trap.taken) EXPECT_FAULT(trap, kP | kW, page);
  EXPECT_NO_TRAP(Try([=] { Write(page); }));
}

// What is looked up first after a flush must not be found in an empty entry.
void Edges() {
  Section("the edges of the address space");
  for (uint64_t page : {0xfffffffffffff000ull, 0xffff800000000000ull, 0x00007ffffffff000ull}) {
    WriteCr3(ReadCr3());
    EXPECT_FAULT(Try([=] { Read(page + 0xff8); }), 0, page + 0xff8);
    EXPECT_FAULT(Try([=] { Write(page + 0xff8); }), kW, page + 0xff8);
    EXPECT_FAULT(Try([=] { Call(page + 0xff8); }), kI, page + 0xff8);
  }
  for (uint64_t page : {0xffff7ffffffff000ull, 0x8000000000000000ull, 0x0000800000000000ull}) {
    EXPECT_TRAP(Try([=] { Read(page + 0xff8); }), kGP, 0);
    EXPECT_TRAP(Try([=] { Write(page + 0xff8); }), kGP, 0);
  }
}

void LargePages() {
  Section("large pages");
  const uint64_t pde = WindowPde();
  WriteMemory<uint32_t>(0x1000000, 0x16161616);  // 16 MiB
  WindowPde() = 0x1000000 | kLarge | kPresent | kWrite;
  WriteCr3(ReadCr3());
  EXPECT_EQ(ReadMemory<uint32_t>(kWindow), 0x16161616);
  EXPECT_EQ(WindowPde() & (kAccessed | kDirty), kAccessed);
  WriteMemory<uint32_t>(kWindow + 0x1ffffc, 0x26262626);
  EXPECT_EQ(ReadMemory<uint32_t>(0x11ffffc), 0x26262626);
  EXPECT_EQ(WindowPde() & (kAccessed | kDirty), kAccessed | kDirty);
  WindowPde() = pde;
  WriteCr3(ReadCr3());
}

// Kernel code may not touch the user's pages. [SDM 3A] 4.6
void SmepAndSmap() {
  Section("SMEP and SMAP");
  const uint64_t page = WindowPage(6), frame = ScratchPage(8);
  const uint32_t features = Cpuid(0).eax >= 7 ? Cpuid(7).ebx : 0;
  WriteMemory<uint8_t>(frame, 0xc3);
  MapWindow(6, frame | kPresent | kWrite | kUser);
  EXPECT_NO_TRAP(Try([=] { Call(page); }));
  if (features & (1u << 7)) {
    WriteCr4(ReadCr4() | 1u << 20);
    EXPECT_FAULT(Try([=] { Call(page); }), kP | kI, page);
    EXPECT_NO_TRAP(Try([=] { Read(page); }));
    WriteCr4(ReadCr4() & ~(1ull << 20));
  } else {
    Skip("SMEP");
    EXPECT_TRAP(Try([] { WriteCr4(ReadCr4() | 1u << 20); }), kGP, 0);
  }
  if (features & (1u << 20)) {
    EXPECT_NO_TRAP(Try([] { asm volatile("stac\n clac"); }));  // CR4.SMAP does not matter
    WriteCr4(ReadCr4() | 1u << 21);
    EXPECT_FAULT(Try([=] { Read(page); }), kP, page);
    EXPECT_FAULT(Try([=] { Write(page); }), kP | kW, page);
    EXPECT_NO_TRAP(Try([=] {
      asm volatile("stac\n mov (%0), %%eax\n clac" : : "r"(page) : "rax");
    }));
    WriteCr4(ReadCr4() & ~(1ull << 21));
  } else {
    Skip("SMAP");
  }
}

// [SDM 3A] 4.10.1, 4.10.4.1; [SDM 2A] INVPCID
void AddressSpaces() {
  Section("PCID");
  constexpr uint64_t kPcide = 1 << 17, kNoFlush = 1ull << 63;
  if (!(Cpuid(1).ecx & kPcide)) {
    if (!UnderTcg()) EXPECT_TRAP(Try([] { WriteCr4(ReadCr4() | kPcide); }), kGP, 0);
    return Skip("PCID");
  }
  const uint64_t cr3 = ReadCr3(), page = WindowPage(7);
  EXPECT_TRAP(Try([=] { WriteCr3(cr3 | kNoFlush); }), kGP, 0);  // reserved without PCIDE
  WriteCr3(cr3 | 8);                                            // PWT is a PCID bit then
  EXPECT_TRAP(Try([] { WriteCr4(ReadCr4() | kPcide); }), kGP, 0);
  WriteCr3(cr3);
  WriteCr4(ReadCr4() | kPcide);
  EXPECT_TRAP(Try([] { WriteCr0(ReadCr0() & ~0x80000000ull); }), kGP, 0);
  const uint64_t first = ScratchPage(9) | kPresent | kWrite;
  const uint64_t second = ScratchPage(10) | kPresent | kWrite;
  WriteMemory<uint32_t>(ScratchPage(9), 0x99999999);
  WriteMemory<uint32_t>(ScratchPage(10), 0x10101010);
  // Each of `invalidate` must take away what PCID 5 knows of the page.
  const auto expect_gone = [&](auto invalidate, int line) {
    WindowPte(7) = first;
    WriteCr3(cr3 | 5);
    EXPECT_EQ(ReadMemory<uint32_t>(page), 0x99999999);
    WriteCr3(cr3 | 6);
    WindowPte(7) = second;
    invalidate();
    WriteCr3(cr3 | 5 | kNoFlush);
    EXPECT_EQ(ReadCr3(), cr3 | 5);
    ExpectEqual(ReadMemory<uint32_t>(page), 0x10101010, "paging.cc", line, "page");
  };
  expect_gone([=] { WriteCr3(cr3 | 5); }, __LINE__);
  WriteCr3(cr3 | 6);
  EXPECT_EQ(ReadMemory<uint32_t>(page), 0x10101010);
  // More address spaces than any TLB has room for: none may see another's.
  for (unsigned round = 0; round < 2; ++round) {
    for (uint64_t pcid = 1; pcid <= 40; ++pcid) {
      WindowPte(7) = pcid & 1 ? first : second;
      WriteCr3(cr3 | pcid);
      EXPECT_EQ(ReadMemory<uint32_t>(page), pcid & 1 ? 0x99999999 : 0x10101010);
    }
  }
  if (Cpuid(7).ebx & 1u << 10) {
    expect_gone([=] { Invpcid(0, 5, page + 8); }, __LINE__);
    expect_gone([=] { Invpcid(1, 5, 0); }, __LINE__);
    expect_gone([=] { Invpcid(2, 0, 0); }, __LINE__);
    expect_gone([=] { Invpcid(3, 0, 0); }, __LINE__);
    EXPECT_TRAP(Try([] { Invpcid(4, 0, 0); }), kGP, 0);
    EXPECT_TRAP(Try([] { Invpcid(1, 0x1000, 0); }), kGP, 0);
    EXPECT_TRAP(Try([] { Invpcid(0, 1, 1ull << 63); }), kGP, 0);
    EXPECT_TRAP(RunUser(user_invpcid, UserAddress(user_invpcid)), kGP, 0);
  } else {
    Skip("INVPCID");
  }
  WriteCr3(cr3);
  WriteCr4(ReadCr4() & ~kPcide);
  EXPECT_EQ(ReadMemory<uint32_t>(page), 0x10101010);
  if (Cpuid(7).ebx & 1u << 10) EXPECT_TRAP(Try([] { Invpcid(1, 5, 0); }), kGP, 0);
}

}  // namespace

void GuestMain() {
  if (UnderTcg()) reserved_entry = kRsvd;
  Supervisor();
  NoExecute();
  ReservedBits();
  User();
  AccessedAndDirty();
  Crossing();
  Tlb();
  Edges();
  LargePages();
  SmepAndSmap();
  AddressSpaces();
}
