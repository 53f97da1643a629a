// Named processors (`--cpu`): what CPUID advertises is there, and what it does not is #UD. The
// runner compares the leaves that are printed with the model's. [SDM 2A] CPUID, [AP-485]
#include "lib32/guest.h"

using namespace guest;

namespace {

void PrintLeaf(const char* name, uint32_t leaf) {
  const CpuidResult r = Cpuid(leaf);
  Print(name);
  PrintHex(r.eax);
  Print(" ebx ");
  PrintHex(r.ebx);
  Print(" ecx ");
  PrintHex(r.ecx);
  Print(" edx ");
  PrintHex(r.edx);
  Print("\n");
}

enum Reg { EAX, EBX, ECX, EDX };

// Zero where the processor has no such leaf.
bool Has(uint32_t leaf, Reg reg, unsigned bit) {
  const uint32_t last = Cpuid(leaf & 0x80000000).eax;
  if (last < leaf || (last ^ leaf) >> 31) return false;
  const CpuidResult r = Cpuid(leaf);
  const uint32_t value = reg == EAX ? r.eax : reg == EBX ? r.ebx : reg == ECX ? r.ecx : r.edx;
  return value >> bit & 1;
}

struct Case {
  const char* name;
  void (*run)();
  uint32_t leaf;
  Reg reg;
  unsigned bit;
};

alignas(64) unsigned char area[1024];

#define RUN(code) [] { asm volatile(code : : "D"(area) : "eax", "ebx", "ecx", "edx", "memory"); }

const Case kCases[] = {
    {"RDTSC", RUN("rdtsc"), 1, EDX, 4},
    {"RDMSR", RUN("mov $0x10, %%ecx; rdmsr"), 1, EDX, 5},
    {"CMPXCHG8B", RUN("cmpxchg8b (%%edi)"), 1, EDX, 8},
    {"CMOVZ", RUN("cmovz %%eax, %%ebx"), 1, EDX, 15},
    {"FCMOVE", RUN("fninit; fldz; fldz; fcmove %%st(1), %%st; fninit"), 1, EDX, 15},
    {"long NOP", RUN(".byte 0x0f, 0x1f, 0x00"), 1, EDX, 15},
    {"MOVQ MM", RUN("movq %%mm0, %%mm1; emms"), 1, EDX, 23},
    {"FXSAVE", RUN("fxsave (%%edi)"), 1, EDX, 24},
    {"CLFLUSH", RUN("clflush (%%edi)"), 1, EDX, 19},
    {"MOVAPS", RUN("movaps %%xmm0, %%xmm1"), 1, EDX, 25},
    {"PADDQ", RUN("paddq %%xmm0, %%xmm1"), 1, EDX, 26},
    {"HADDPS", RUN("haddps %%xmm0, %%xmm1"), 1, ECX, 0},
    {"PCLMULQDQ", RUN("pclmulqdq $0, %%xmm0, %%xmm1"), 1, ECX, 1},
    {"PSHUFB", RUN("pshufb %%xmm0, %%xmm1"), 1, ECX, 9},
    {"PMULLD", RUN("pmulld %%xmm0, %%xmm1"), 1, ECX, 19},
    {"CRC32", RUN("crc32l %%eax, %%ebx"), 1, ECX, 20},
    {"MOVBE", RUN("movbe (%%edi), %%eax"), 1, ECX, 22},
    {"POPCNT", RUN("popcnt %%eax, %%ebx"), 1, ECX, 23},
    {"AESENC", RUN("aesenc %%xmm0, %%xmm1"), 1, ECX, 25},
    {"VADDPS", RUN("vaddps %%ymm0, %%ymm1, %%ymm1; vzeroupper"), 1, ECX, 28},
    {"VCVTPH2PS", RUN("vcvtph2ps %%xmm0, %%ymm1; vzeroupper"), 1, ECX, 29},
    {"VFMADD", RUN("vfmadd132ps %%xmm0, %%xmm1, %%xmm1"), 1, ECX, 12},
    {"RDRAND", RUN("rdrand %%eax"), 1, ECX, 30},
    {"ANDN", RUN("andn %%eax, %%ebx, %%ebx"), 7, EBX, 3},
    {"VPADDD YMM", RUN("vpaddd %%ymm0, %%ymm1, %%ymm1; vzeroupper"), 7, EBX, 5},
    {"SHLX", RUN("shlx %%eax, %%ebx, %%ebx"), 7, EBX, 8},
    {"RDSEED", RUN("rdseed %%eax"), 7, EBX, 18},
    {"ADCX", RUN("adcx %%eax, %%ebx"), 7, EBX, 19},
    {"CLFLUSHOPT", RUN("clflushopt (%%edi)"), 7, EBX, 23},
    {"SHA1MSG1", RUN("sha1msg1 %%xmm0, %%xmm1"), 7, EBX, 29},
    {"GF2P8MULB", RUN("gf2p8mulb %%xmm0, %%xmm1"), 7, ECX, 8},
    {"RDTSCP", RUN("rdtscp"), 0x80000001, EDX, 27},
};

void TestInstructions() {
  Section("each instruction is there as CPUID says");
  for (const Case& c : kCases) {
    const Trap trap = Try(c.run);
    const bool wanted = Has(c.leaf, c.reg, c.bit);
    if (trap.taken == !wanted && (!trap.taken || trap.vector == kUD)) continue;
    Print("FAIL ");
    Print(c.name);
    Print(wanted ? " is advertised and raised vector " : " is not advertised and raised vector ");
    PrintHex(trap.taken ? trap.vector : 0x100);
    Print("\n");
    EXPECT(false);
  }
}

void TestPrefixed() {
  Section("LZCNT and TZCNT are BSR and BSF where they are not offered");
  uint32_t lzcnt = 0, tzcnt = 0;
  asm volatile("lzcnt %1, %0" : "=r"(lzcnt) : "r"(0x00010000));
  asm volatile("tzcnt %1, %0" : "=r"(tzcnt) : "r"(0x00010000));
  EXPECT_EQ(lzcnt, Has(0x80000001, ECX, 5) ? 15 : 16);
  EXPECT_EQ(tzcnt, 16);
}

void TestControlRegister() {
  Section("CR4 has the bits of what is advertised");
  struct {
    uint32_t bit;
    Reg reg;
    unsigned feature;
  } const kBits[] = {{1 << 2, EDX, 4},   {1 << 3, EDX, 2},  {1 << 4, EDX, 3},
                     {1 << 5, EDX, 6},   {1 << 6, EDX, 7},  {1 << 7, EDX, 13},
                     {1 << 18, ECX, 26}, {1 << 9, EDX, 24}, {1 << 10, EDX, 25}};
  const uint32_t before = ReadCr4();
  for (const auto& [bit, reg, feature] : kBits) {
    const Trap trap = Try([&] { WriteCr4(before | bit); });
    EXPECT_EQ(trap.taken, !Has(1, reg, feature));
    WriteCr4(before);
  }
}

}  // namespace

void GuestMain() {
  PrintLeaf("leaf 0: eax ", 0);
  PrintLeaf("leaf 1: eax ", 1);
  if (Cpuid(0).eax >= 7) PrintLeaf("leaf 7: eax ", 7);
  if (Cpuid(0x80000000).eax >= 0x80000001) PrintLeaf("leaf 80000001: eax ", 0x80000001);
  // What SSE and AVX need of the system.
  if (Has(1, EDX, 24)) WriteCr4(ReadCr4() | 0x600);
  if (Has(1, ECX, 26)) {
    WriteCr4(ReadCr4() | 1 << 18);
    const uint32_t xcr0 = Has(1, ECX, 28) ? 7 : 3;
    asm volatile("xsetbv" : : "a"(xcr0), "d"(0), "c"(0));
  }
  asm volatile("fninit");
  TestInstructions();
  TestPrefixed();
  TestControlRegister();
  Finish();
}
