// Code that changes under the processor: written by itself, through other addresses; mapped
// elsewhere, protected, run in another mode. [SDM 3A] 8.1.3, 4.10.4, 11.6
#include "lib/code.h"

#include "lib/guest.h"

using namespace guest;

namespace {

constexpr uint64_t kAccess = kPresent | kWrite;

asm(R"(
    .global code_ahead, code_next, code_longer, code_itself, code_itself_at, code_behind
    .global code_ahead_at, code_next_at, code_longer_at, code_behind_at
code_ahead:                             # some instructions ahead in the same block
    movl  %edi, code_ahead_at + 1(%rip)
    xor   %ecx, %ecx
    inc   %ecx
code_ahead_at:
    mov   $0, %eax
    ret
code_next:                              # the next instruction
    movl  %edi, code_next_at + 1(%rip)
code_next_at:
    mov   $0, %eax
    ret
code_longer:                            # other instructions, other lengths
    xor   %eax, %eax
    mov   %rdi, code_longer_at(%rip)
code_longer_at:
    nop
    nop
    nop
    nop
    nop
    nop
    nop
    nop
    ret
code_itself:                            # the instruction that stores: it still ends as it was
    xor   %eax, %eax
code_itself_at:
    mov   %rdi, code_itself_at(%rip)
    nop
    ret
code_behind:                            # a loop changes its own beginning, each time round
    xor   %eax, %eax
    mov   $10, %ecx
1:
code_behind_at:
    add   $1, %eax
    addb  $1, code_behind_at + 2(%rip)
    dec   %ecx
    jnz   1b
    movb  $1, code_behind_at + 2(%rip)
    ret
)");
extern "C" const char code_ahead[], code_next[], code_longer[], code_itself[], code_behind[];
extern "C" const char code_itself_at[];
extern "C" uint64_t boot_pml4[], boot_pdpt[];

uint64_t At(const char* label) {
  return reinterpret_cast<uint64_t>(label);
}

void OwnBlock() {
  Section("own block");
  for (uint32_t round = 1; round <= 100; ++round) {
    EXPECT_EQ(Call(At(code_ahead), round), round);
    EXPECT_EQ(Call(At(code_next), round * 3), round * 3);
    EXPECT_EQ(Call(At(code_longer), 0x9090909090c0ff90), 1);  // inc %eax between NOPs
    EXPECT_EQ(Call(At(code_longer), 0xc0ffc0ffc0ffc0ff), 4);  // four of them
    EXPECT_EQ(Call(At(code_longer), 0x909000000007b890), 7);  // mov $7, %eax
    EXPECT_EQ(Call(At(code_longer), 0xc0ffc0ffc0ff06eb), 0);  // a jump over three of them
    EXPECT_EQ(Call(At(code_behind)), 55);
  }
  const auto saved = ReadMemory<uint64_t>(At(code_itself_at));
  for (unsigned round = 0; round < 10; ++round) {
    EXPECT_EQ(Call(At(code_itself), 0x909090909090c0ff), 0);
    EXPECT_EQ(Call(At(code_itself)), 1);  // inc %eax and NOPs
    Put(At(code_itself_at), saved);
  }
}

void ExecutedBlock() {
  Section("executed before");
  const uint64_t page = ScratchPage(0);
  for (uint32_t round = 0; round < 200; ++round) {
    Put(page, Returning(round));
    for (int i = 0; i < 5; ++i) EXPECT_EQ(Call(page), round);
  }
  // One byte of an immediate, then of the next one.
  for (uint32_t byte = 0; byte < 4; ++byte) {
    Put(page, Returning(0));
    EXPECT_EQ(Call(page), 0);
    WriteMemory<uint8_t>(page + 1 + byte, 0x5a);
    EXPECT_EQ(Call(page), 0x5au << (8 * byte));
  }
  // Data beside the code, changed by the code.
  PutBytes(page, {0xb9, 0xe8, 3,  0, 0,     // mov $1000, %ecx
                  0xff, 0x05, 20, 0, 0, 0,  // 1: incl 20(%rip): at 31
                  0xff, 0xc9,               // dec %ecx
                  0x75, 0xf6,               // jnz 1b
                  0x8b, 0x05, 10, 0, 0, 0,  // mov 10(%rip), %eax
                  0xc3});
  WriteMemory<uint32_t>(page + 31, 5);
  EXPECT_EQ(Call(page), 1005);

  Section("breakpoint");  // as debuggers plant them
  for (unsigned round = 0; round < 20; ++round) {
    Put(page, Returning(round));
    EXPECT_EQ(Call(page), round);
    WriteMemory<uint8_t>(page, 0xcc);
    const Trap trap = Try([=] { Call(page); });
    EXPECT_TRAP(trap, kBP, 0);
    EXPECT_EQ(trap.rip, page + 1);
    WriteMemory<uint8_t>(page, 0xb8);
    EXPECT_EQ(Call(page), round);
  }
}

void PageEnd() {
  Section("over a page end");
  // Two pages that are neighbours only by their mapping.
  MapWindow(0, ScratchPage(4) | kAccess);
  MapWindow(1, ScratchPage(2) | kAccess);
  for (unsigned before = 1; before <= 7; ++before) {  // bytes on the first page
    const uint64_t code = WindowPage(1) - before;
    for (uint32_t round = 0; round < 10; ++round) {
      Put(code, Returning(0x01010101 * round));  // one store over both pages
      EXPECT_EQ(Call(code), 0x01010101 * round);
      for (unsigned byte = 0; byte < 4; ++byte) {
        WriteMemory<uint8_t>(code + 1 + byte, 0x77);
        const uint32_t low = 0xffffffffu >> (24 - 8 * byte);
        EXPECT_EQ(Call(code), (0x77777777 & low) | (0x01010101 * round & ~low));
      }
    }
  }
  // The second page goes away and comes back as another one.
  const uint64_t code = WindowPage(1) - 3;
  Put(code, Returning(0x11223344));
  Put(ScratchPage(3), 0x9090909090c3aabb);
  Serialize();
  EXPECT_EQ(Call(code), 0x11223344);
  MapWindow(1, 0);
  const Trap trap = Try([=] { Call(code); });
  EXPECT_TRAP(trap, kPF, 0x10);
  EXPECT_EQ(trap.cr2, WindowPage(1));
  EXPECT_EQ(trap.rip, code);
  MapWindow(1, ScratchPage(3) | kAccess);
  EXPECT_EQ(Call(code), 0xaabb3344);
  MapWindow(1, ScratchPage(2) | kAccess);
  EXPECT_EQ(Call(code), 0x11223344);
  // Code that runs on from one page to the next, no instruction over the end.
  PutBytes(WindowPage(1) - 2, {0xff, 0xc0});  // inc %eax
  for (uint32_t round = 0; round < 10; ++round) {
    PutBytes(WindowPage(1), {0x83, 0xc0, static_cast<uint8_t>(round), 0xc3});  // add $round, %eax
    EXPECT_EQ(Call(WindowPage(1) - 2), round + 1);
  }
}

void Aliases() {
  Section("alias");
  const uint64_t frame = ScratchPage(0);
  for (unsigned i = 0; i < 3; ++i) MapWindow(i, frame | kAccess);
  const uint64_t places[] = {frame, WindowPage(0), WindowPage(1), WindowPage(2)};
  uint32_t value = 1;
  for (const uint64_t writer : places) {
    for (unsigned round = 0; round < 10; ++round) {
      Put(writer + 0x120, Returning(++value));
      Serialize();
      for (const uint64_t runner : places) EXPECT_EQ(Call(runner + 0x120), value);
    }
  }
  // The code itself writes through the other address: mov %esi, (%rdi); cpuid; mov $0, %eax; ret
  MapWindow(1, frame | kAccess);
  PutBytes(frame, {0x53, 0x89, 0x37, 0x31, 0xc0, 0x0f, 0xa2, 0x5b, 0xb8, 0, 0, 0, 0, 0xc3});
  for (uint32_t round = 1; round < 50; ++round)
    EXPECT_EQ(Call(WindowPage(0), WindowPage(1) + 9, round), round);
}

void Instructions() {
  Section("writers");
  const uint64_t page = ScratchPage(1), other = ScratchPage(3);
  const auto fill = [=](uint64_t base) {  // 512 functions
    for (unsigned i = 0; i < 512; ++i) Put(base + 8 * i, Returning(i));
  };
  const auto run = [=](uint32_t wanted) {
    for (unsigned i = 0; i < 512; i += 73)
      EXPECT_EQ(Call(page + 8 * i), wanted == ~0u ? i : wanted);
  };
  uint64_t to, from, count;
  for (unsigned round = 0; round < 3; ++round) {
    fill(other);
    to = page, from = other, count = 4096;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    run(~0u);
    to = page, count = 512;
    asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(Returning(7)) : "memory");
    run(7);
    to = page + 4088, from = other + 4088, count = 512;
    asm volatile("std\n rep movsq\n cld" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    run(~0u);
    to = page + 4088, count = 512;
    asm volatile("std\n rep stosq\n cld" : "+D"(to), "+c"(count) : "a"(Returning(9)) : "memory");
    run(9);
    // Two pages in one go, the code on the second.
    to = page - 4096, from = other - 4096, count = 4096;
    asm volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    run(~0u);
  }
  // A string instruction writes what stands behind it.
  PutBytes(page, {0xf3, 0xa4,              // rep movsb, to the next instruction
                  0xb8, 0, 0, 0, 0, 0xc3,  // mov $0, %eax; ret
                  0x90, 0x90});
  for (uint32_t round = 1; round < 20; ++round) {
    Put(other, Returning(round));
    uint32_t result = 0;
    to = page + 2, from = other, count = 6;
    asm volatile("call *%4"
                 : "+D"(to), "+S"(from), "+c"(count), "=a"(result)
                 : "r"(page)
                 : "memory");
    EXPECT_EQ(result, round);
  }
  // Everything else that stores.
  const auto expect = [=](uint32_t value) { EXPECT_EQ(Call(page), value); };
  for (uint32_t round = 1; round < 10; ++round) {
    Put(page, Returning(0));
    expect(0);
    uint64_t code = Returning(round);
    asm volatile("xchg %0, (%1)" : "+r"(code) : "r"(page) : "memory");
    expect(round);
    asm volatile("lock addq %0, (%1)" : : "r"(uint64_t{0x100}), "r"(page) : "memory", "cc");
    expect(round + 1);
    code = Returning(round + 1);
    asm volatile("lock cmpxchg %2, (%1)"
                 : "+a"(code)
                 : "r"(page), "r"(Returning(round + 2))
                 : "memory", "cc");
    expect(round + 2);
    asm volatile("lock btsq $39, (%0)" : : "r"(page) : "memory", "cc");
    expect((round + 2) | 0x80000000);
    asm volatile("lock btrq $39, (%0)" : : "r"(page) : "memory", "cc");
    expect(round + 2);
    asm volatile("mov %%rsp, %%rcx\n lea 8(%0), %%rsp\n push %1\n mov %%rcx, %%rsp"
                 :
                 : "r"(page), "r"(Returning(round + 3))
                 : "rcx", "memory");
    expect(round + 3);
    asm volatile("push %1\n pop (%0)" : : "r"(page), "r"(Returning(round + 4)) : "memory");
    expect(round + 4);
    asm volatile("movq %1, %%xmm0\n movdqu %%xmm0, (%0)"
                 :
                 : "r"(page), "r"(Returning(round + 5))
                 : "memory");
    expect(round + 5);
    asm volatile("movnti %1, (%0)\n sfence" : : "r"(page), "r"(Returning(round + 6)) : "memory");
    expect(round + 6);
    Out8(0x3ff, static_cast<uint8_t>(round + 7));  // the serial line's scratch register
    to = page + 1;
    asm volatile("insb" : "+D"(to) : "d"(0x3ff) : "memory");
    expect(round + 7);
    asm volatile("cmp %0, %0\n setz 1(%0)" : : "r"(page) : "memory", "cc");
    expect(1);
    asm volatile("fildll (%1)\n fistpll (%0)" : : "r"(page), "r"(&code) : "memory");
    expect(round + 1);
  }
}

void Remapped() {
  Section("mapped elsewhere");
  const uint64_t one = ScratchPage(1), two = ScratchPage(2), page = WindowPage(0);
  Put(one, Returning(1));
  Put(two, Returning(2));
  for (unsigned round = 0; round < 50; ++round) {
    MapWindow(0, one | kAccess);
    EXPECT_EQ(Call(page), 1);
    MapWindow(0, two | kAccess);
    EXPECT_EQ(Call(page), 2);
    WindowPte(0) = one | kAccess;
    WriteCr3(ReadCr3());
    EXPECT_EQ(Call(page), 1);
    WindowPte(0) = two | kAccess | kGlobal;
    WriteCr3(ReadCr3());
    EXPECT_EQ(Call(page), 2);
    WriteCr4(ReadCr4() | 0x80);  // PGE: a change of it forgets global pages
    EXPECT_EQ(Call(page), 2);
    WindowPte(0) = one | kAccess;
    WriteCr4(ReadCr4() & ~0x80ull);
    EXPECT_EQ(Call(page), 1);
    // What is not mapped for the change is not changed by it.
    Put(page, Returning(3));
    EXPECT_EQ(Call(page), 3);
    MapWindow(0, two | kAccess);
    EXPECT_EQ(Call(page), 2);
    Put(one, Returning(1));
  }

  Section("the next page mapped elsewhere");
  MapWindow(0, ScratchPage(4) | kAccess);
  PutBytes(ScratchPage(4) + 0xf00, {0x31, 0xc0, 0xe9, 0xf9, 0x00, 0, 0});  // jmp to the next page
  PutBytes(ScratchPage(4) + 0xf80, {0xe8, 0x7b, 0x00, 0, 0, 0xc3});        // call, ret
  PutBytes(ScratchPage(4) + 0xffe, {0xff, 0xc0});                          // inc %eax
  PutBytes(one, {0xb8, 11, 0, 0, 0, 0xc3});
  PutBytes(two, {0xb8, 22, 0, 0, 0, 0xc3});
  for (unsigned round = 0; round < 20; ++round) {
    const bool first = round & 1;
    MapWindow(1, (first ? one : two) | kAccess);
    for (unsigned call = 0; call < 10; ++call) {
      EXPECT_EQ(Call(WindowPage(0) + 0xf00), first ? 11 : 22);
      EXPECT_EQ(Call(WindowPage(0) + 0xf80), first ? 11 : 22);
      EXPECT_EQ(Call(WindowPage(0) + 0xffe), first ? 11 : 22);
    }
  }
  // An instruction over the end, the other half of which changes with the mapping.
  PutBytes(ScratchPage(4) + 0xffd, {0xb8, 1, 2});  // mov $..., %eax
  PutBytes(one, {3, 4, 0xc3});
  PutBytes(two, {5, 6, 0xc3});
  for (unsigned round = 0; round < 20; ++round) {
    const bool first = round & 1;
    MapWindow(1, (first ? one : two) | kAccess);
    for (unsigned call = 0; call < 10; ++call)
      EXPECT_EQ(Call(WindowPage(0) + 0xffd), first ? 0x04030201 : 0x06050201);
  }
  MapWindow(1, 0);
  EXPECT_TRAP(Try([] { Call(WindowPage(0) + 0xffd); }), kPF, 0x10);
  Put(one, Returning(1));
  Put(two, Returning(2));

  Section("address spaces");  // the same linear address in two of them
  auto* const other_pml4 = reinterpret_cast<uint64_t*>(ScratchPage(5));
  uint64_t *const other_pdpt = other_pml4 + 512, *const other_pd = other_pdpt + 512,
                  *const other_pt = other_pd + 512;
  for (unsigned i = 0; i < 512; ++i) {
    other_pml4[i] = boot_pml4[i];
    other_pdpt[i] = boot_pdpt[i];
    other_pd[i] = other_pt[i] = 0;
  }
  const auto entry = [](uint64_t* t) { return reinterpret_cast<uint64_t>(t) | kAccess; };
  other_pml4[0] = entry(other_pdpt);
  other_pdpt[kWindow >> 30] = entry(other_pd);
  other_pd[0] = entry(other_pt);
  other_pt[0] = two | kAccess;
  MapWindow(0, one | kAccess);
  const uint64_t home = ReadCr3(), away = ScratchPage(5);
  for (uint32_t round = 0; round < 50; ++round) {
    Put(one, Returning(2 * round));
    Put(two, Returning(2 * round + 1));
    Serialize();
    EXPECT_EQ(Call(page), 2 * round);
    WriteCr3(away);
    EXPECT_EQ(Call(page), 2 * round + 1);
    Put(page, Returning(1000 + round));
    EXPECT_EQ(Call(page), 1000 + round);
    WriteCr3(home);
    EXPECT_EQ(Call(page), 2 * round);
  }

  Section("under its own feet");  // mov %rsi, (%rdi); invlpg (%rdx) or mov %rdx, %cr3
  for (const bool by_cr3 : {false, true}) {
    for (const uint64_t frame : {one, two}) {
      if (by_cr3) {
        PutBytes(frame, {0x48, 0x89, 0x37, 0x0f, 0x22, 0xda});
      } else {
        PutBytes(frame, {0x48, 0x89, 0x37, 0x0f, 0x01, 0x3a});
      }
      Put(frame + 6, Returning(frame == one ? 1 : 2));
    }
    Serialize();
    const auto pte = reinterpret_cast<uint64_t>(&WindowPte(0));
    for (unsigned round = 0; round < 20; ++round) {
      const uint64_t frame = round & 1 ? one : two;
      EXPECT_EQ(Call(page, pte, frame | kAccess, by_cr3 ? ReadCr3() : page), round & 1 ? 1 : 2);
    }
  }
}

volatile unsigned protection_faults = 0;

void Protected() {
  Section("write-protected");
  const uint64_t frame = ScratchPage(1), page = WindowPage(0);
  SetHandler(kPF, [](Frame& at) {
    EXPECT_EQ(at.error, 3);
    EXPECT_EQ(ReadCr2(), WindowPage(0));
    ++protection_faults;
    MapWindow(0, ScratchPage(1) | kAccess);
  });
  Put(frame, Returning(0));
  for (uint32_t round = 1; round <= 50; ++round) {
    MapWindow(0, frame | kPresent);
    EXPECT_EQ(Call(page), round - 1);
    Put(page, Returning(round));
    EXPECT_EQ(protection_faults, round);
    EXPECT_EQ(Call(page), round);
  }
  SetHandler(kPF, nullptr);
  // A store that faults on its second page changes nothing on the first.
  MapWindow(1, ScratchPage(2) | kPresent);
  const uint64_t code = WindowPage(1) - 6;
  Put(ScratchPage(1) + 4090, Returning(5));
  Serialize();
  EXPECT_EQ(Call(code), 5);
  EXPECT_TRAP(Try([=] { Put(code, Returning(6)); }), kPF, 3);
  EXPECT_EQ(Call(code), 5);
  // No-execute comes and goes.
  for (unsigned round = 0; round < 10; ++round) {
    MapWindow(0, frame | kAccess | kNoExecute);
    const Trap trap = Try([=] { Call(page); });
    EXPECT_TRAP(trap, kPF, 0x11);
    EXPECT_EQ(trap.rip, page);
    Put(page, Returning(round));
    MapWindow(0, frame | kAccess);
    EXPECT_EQ(Call(page), round);
  }
}

void Modes() {
  Section("two modes");  // the same bytes: inc %rax, or dec %eax and inc %eax
  const uint64_t page = ScratchPage(0);
  PutBytes(page, {0x48, 0xff, 0xc0, 0xcb});
  struct [[gnu::packed]] {
    uint32_t offset;
    uint16_t selector;
  } far_pointer = {static_cast<uint32_t>(page), 0};
  for (unsigned round = 0; round < 40; ++round) {
    far_pointer.selector = round & 1 ? kCode32 : kCode64;
    uint64_t result = 41;
    asm volatile("lcall *%1" : "+a"(result) : "m"(far_pointer) : "memory", "cc");
    EXPECT_EQ(static_cast<uint32_t>(result), round & 1 ? 41 : 42);
  }
}

}  // namespace

void GuestMain() {
  OwnBlock();
  ExecutedBlock();
  PageEnd();
  Aliases();
  Instructions();
  Remapped();
  Protected();
  Modes();
}
