// Blocks with several accesses through one base, at every place around the end of a page: each of
// them that may not be made faults, with all before it done and nothing after it. [SDM 3A] 4.7,
// 6.5 (faults are restartable)
#include "lib/code.h"
#include "lib/guest.h"

using namespace guest;

namespace {

constexpr uint64_t kValue = 0x1122334455667788;

asm(R"(
    .global fields, fields_0, fields_1, fields_2, fields_3, fields_4
    .global pushes, pushes_0, pushes_1, pushes_2, pushes_3
    .global devices
fields:                                 # a structure that RDI points to
    movabs $0x1122334455667788, %rsi
    xor   %eax, %eax
fields_0:
    mov   (%rdi), %eax
fields_1:
    mov   %rsi, 8(%rdi)
    add   $16, %rdi
    cmp   %eax, %eax                    # flags that live across the next accesses
fields_2:
    movb  $7, -13(%rdi)
fields_3:
    sbb   $-4, %rax
    mov   -8(%rdi), %rsi
fields_4:
    adcl  $3, (%rdi)
    add   %rsi, %rax
    ret
pushes:                                 # a frame of which RDI is the top
    mov   %rsp, %rsi
    mov   $0x55, %eax
    mov   %rdi, %rsp
pushes_0:
    push  %rsi
pushes_1:
    push  $5
pushes_2:
    push  8(%rsp)
    sub   $8, %rsp
pushes_3:
    mov   %rax, (%rsp)
    pop   %rcx
    pop   %rdx
    add   $8, %rsp
    pop   %rsi
    mov   %rsi, %rsp
    lea   (%rcx,%rdx), %rax
    ret
devices:                                # C++ runs between the accesses
    mov   $0xfee00030, %edx
    mov   (%rdi), %eax
    mov   (%rdx), %ecx
    add   8(%rdi), %eax
    mov   (%rdx), %ecx
    mov   %eax, 16(%rdi)
    ret
)");
extern "C" const char fields[], fields_0[], fields_1[], fields_2[], fields_4[];
extern "C" const char fields_3[];
extern "C" const char pushes[], pushes_0[], pushes_1[], pushes_2[], pushes_3[];
extern "C" const char devices[];

uint64_t At(const char* label) {
  return reinterpret_cast<uint64_t>(label);
}

struct Access {
  const char* at;
  int64_t offset;  // from RDI
  unsigned size;
  bool write;
};

// Both pages of the window, by their identity-mapped addresses.
uint8_t& Byte(uint64_t linear) {
  const unsigned page = linear >= WindowPage(1) ? 1 : 0;
  return *reinterpret_cast<uint8_t*>(ScratchPage(page) + (linear & 4095));
}
void Fill() {
  for (int64_t i = -128; i < 128; ++i)
    Byte(WindowPage(1) + static_cast<uint64_t>(i)) = static_cast<uint8_t>(i);
}
uint64_t Load(uint64_t linear, unsigned size) {
  uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i) value |= uint64_t{Byte(linear + i)} << (8 * i);
  return value;
}

struct Pages {
  uint64_t flags[2];  // 0: absent
};

// The first access that `pages` do not allow; `accesses` + `count`: none.
const Access* FirstFault(const Access* accesses, unsigned count, uint64_t rdi, const Pages& pages,
                         uint64_t& address, uint64_t& error) {
  for (unsigned i = 0; i < count; ++i) {
    const Access& access = accesses[i];
    const uint64_t begin = rdi + static_cast<uint64_t>(access.offset);
    for (uint64_t at = begin; at < begin + access.size; ++at) {
      const uint64_t flags = pages.flags[at >= WindowPage(1)];
      if ((flags & kPresent) && (!access.write || (flags & kWrite))) continue;
      address = at;
      // TCG reads first what it will write to, and says so where the page is absent.
      const bool read = UnderTcg() && access.at == fields_4 && !(flags & kPresent);
      error = (flags & kPresent) | (access.write && !read ? 2 : 0);
      return &access;
    }
  }
  return accesses + count;
}

template <class AllDone, class Partly>
void Everywhere(const char* code, const Access* accesses, unsigned count, AllDone all_done,
                Partly partly) {
  constexpr uint64_t kReadWrite = kPresent | kWrite;
  constexpr Pages kCases[] = {{{kReadWrite, kReadWrite}}, {{kReadWrite, 0}},
                              {{0, kReadWrite}},          {{kReadWrite, kPresent}},
                              {{kPresent, kReadWrite}},   {{kPresent, kPresent}}};
  for (int64_t where = -64; where <= 64; ++where) {
    const uint64_t rdi = WindowPage(1) + static_cast<uint64_t>(where);
    for (const Pages& pages : kCases) {
      for (unsigned page = 0; page < 2; ++page)
        MapWindow(page, pages.flags[page] ? ScratchPage(page) | pages.flags[page] : 0);
      uint64_t address = 0, error = 0;
      const Access* fault = FirstFault(accesses, count, rdi, pages, address, error);
      for (int round = 0; round < 3; ++round) {
        Fill();
        uint64_t result = 0;
        const Trap trap = Try([&] { result = Call(At(code), rdi); });
        if (fault == accesses + count) {
          EXPECT_NO_TRAP(trap);
          all_done(rdi, result);
          continue;
        }
        EXPECT_TRAP(trap, kPF, error);
        EXPECT_EQ(trap.rip, At(fault->at));
        EXPECT_EQ(trap.cr2, address);
        partly(rdi, static_cast<unsigned>(fault - accesses), trap);
      }
    }
  }
}

void Fields() {
  Section("fields");
  const Access accesses[] = {{fields_0, 0, 4, false},
                             {fields_1, 8, 8, true},
                             {fields_2, 3, 1, true},
                             {fields_3 + 4, 8, 8, false},
                             {fields_4, 16, 4, true}};
  Everywhere(
      fields, accesses, 5,
      [](uint64_t rdi, uint64_t result) {
        const auto first = static_cast<uint8_t>(rdi - WindowPage(1));
        uint64_t loaded = 0, added = 0;
        for (unsigned i = 0; i < 4; ++i) {
          loaded |= uint64_t{static_cast<uint8_t>(first + i)} << (8 * i);
          added |= uint64_t{static_cast<uint8_t>(first + 16 + i)} << (8 * i);
        }
        EXPECT_EQ(result, static_cast<uint32_t>(loaded + 4 + kValue));
        EXPECT_EQ(Load(rdi + 8, 8), kValue);
        EXPECT_EQ(Load(rdi + 3, 1), 7);
        // SBB of -4 borrows: the flag is ADC's.
        EXPECT_EQ(Load(rdi + 16, 4), (added + 3 + 1) & 0xffffffff);
      },
      [](uint64_t rdi, unsigned fault, const Trap& trap) {
        const auto first = static_cast<uint8_t>(rdi - WindowPage(1));
        EXPECT_EQ(trap.frame.rdi, fault < 2 ? rdi : rdi + 16);
        EXPECT_EQ(trap.frame.rsi, kValue);
        EXPECT_EQ(Load(rdi + 8, 1), fault > 1 ? kValue & 0xff : static_cast<uint8_t>(first + 8));
        EXPECT_EQ(Load(rdi + 3, 1), fault > 2 ? 7 : static_cast<uint8_t>(first + 3));
        EXPECT_EQ(Load(rdi + 16, 1), static_cast<uint8_t>(first + 16));
        if (fault == 0) EXPECT_EQ(trap.frame.rax, 0);
        if (fault == 2) EXPECT_EQ(trap.frame.rflags & 0x45, 0x44);  // CMP of equals
        if (fault == 4) EXPECT_EQ(trap.frame.rflags & 1, 1);        // SBB's borrow
      });
}

void Pushes() {
  Section("pushes");
  SetGateStack(kPF, 1);  // the stack is what faults
  const Access accesses[] = {{pushes_0, -8, 8, true},
                             {pushes_1, -16, 8, true},
                             {pushes_2, -8, 8, false},
                             {pushes_2, -24, 8, true},
                             {pushes_3, -32, 8, true}};
  Everywhere(
      pushes, accesses, 5,
      [](uint64_t rdi, uint64_t result) {
        EXPECT_EQ(result, static_cast<uint32_t>(0x55 + Load(rdi - 8, 8)));
        EXPECT_EQ(Load(rdi - 16, 8), 5);
        EXPECT_EQ(Load(rdi - 24, 8), Load(rdi - 8, 8));
        EXPECT_EQ(Load(rdi - 32, 8), 0x55);
      },
      [](uint64_t rdi, unsigned fault, const Trap& trap) {
        const uint64_t rsp[] = {0, 8, 16, 16, 32};
        EXPECT_EQ(trap.frame.rsp, rdi - rsp[fault]);
        EXPECT_EQ(trap.frame.rax, 0x55);
        if (fault > 0) EXPECT_EQ(Load(rdi - 8, 8), trap.frame.rsi);
        if (fault > 1) EXPECT_EQ(Load(rdi - 16, 8), 5);
        EXPECT_EQ(Load(rdi - 32, 1), static_cast<uint8_t>(rdi - 32 - WindowPage(1)));
      });
  SetGateStack(kPF, 0);
}

void Devices() {
  Section("devices between");
  const uint64_t version = ReadMemory<uint32_t>(0xfee00030);
  EXPECT(version != 0);
  for (uint32_t round = 0; round < 20; ++round) {
    const uint64_t page = ScratchPage(2);
    WriteMemory<uint32_t>(page, round);
    WriteMemory<uint32_t>(page + 8, 100);
    WriteMemory<uint32_t>(page + 16, 0);
    EXPECT_EQ(Call(At(devices), page), round + 100);
    EXPECT_EQ(ReadMemory<uint32_t>(page + 16), round + 100);
  }
}

// A page that loses its rights between two rounds of a hot block.
void Revoked() {
  Section("revoked");
  for (uint64_t flags : {uint64_t{kPresent}, uint64_t{0}}) {
    MapWindow(0, ScratchPage(0) | kPresent | kWrite);
    for (int round = 0; round < 20; ++round) {
      Fill();
      EXPECT_NO_TRAP(Try([] { Call(At(fields), WindowPage(0) + 4096 - 64); }));
    }
    MapWindow(0, flags ? ScratchPage(0) | flags : 0);
    const Trap trap = Try([] { Call(At(fields), WindowPage(0) + 4096 - 64); });
    EXPECT_TRAP(trap, kPF, flags ? 3 : 0);
    EXPECT_EQ(trap.rip, At(flags ? fields_1 : fields_0));
  }
}

}  // namespace

void GuestMain() {
  WriteCr0(ReadCr0() | 1u << 16);  // WP: read-only pages are so for CPL 0 as well
  Devices();
  Fields();
  Pushes();
  Revoked();
}
