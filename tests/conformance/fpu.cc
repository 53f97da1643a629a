// Where kinds of processors differ in x87 and SSE state. Every engine must do as one kind does,
// from the first instruction to the last.
#include "lib/guest.h"

using namespace guest;

namespace {

alignas(64) uint8_t image[1024];
constexpr unsigned kFsw = 2, kFop = 6, kFip = 8, kFdp = 16, kMxcsr = 24, kMxcsrMask = 28;
constexpr uint32_t kMm = 1 << 17;
double two = 2, zero = 0;

template <class T>
T Image(unsigned offset) {
  return *reinterpret_cast<volatile T*>(image + offset);
}
void Fxsave() {
  asm volatile("fxsave64 %0" : "+m"(image) : : "memory");
}
void Fxrstor() {
  asm volatile("fxrstor64 %0" : : "m"(image) : "memory");
}
void Fill(uint8_t byte) {
  for (uint8_t& at : image) at = byte;
}
Trap LoadMxcsr(uint32_t value) {
  return Try([&] { asm volatile("ldmxcsr %0" : : "m"(value) : "memory"); });
}

// [SDM 1] 10.2.3, 11.6.6; [APM 1] 4.2.2
void TestMxcsr() {
  Section("MXCSR");
  Fxsave();
  const uint32_t mask = Image<uint32_t>(kMxcsrMask);
  EXPECT_EQ(mask & 0xffbf, 0xffbf);
  EXPECT_EQ(mask & ~(0xffffu | kMm), 0);
  if (Cpuid(0x80000001).ecx & 0x80) EXPECT_EQ(mask & kMm, kMm);  // MISALIGNSSE
  for (unsigned bit = 0; bit < 32; ++bit) {
    const uint32_t value = 0x1f80 | 1u << bit;
    const Trap trap = LoadMxcsr(value);
    if (mask & (1u << bit)) {
      EXPECT_NO_TRAP(trap);
    } else {
      EXPECT_TRAP(trap, kGP, 0);
    }
    Fxsave();
    *reinterpret_cast<volatile uint32_t*>(image + kMxcsr) = value;
    const Trap restored = Try(Fxrstor);
    EXPECT_EQ(restored.taken, !(mask & (1u << bit)));
    EXPECT_NO_TRAP(LoadMxcsr(0x1f80));
  }

  Section("misaligned operands");
  const auto addps = [] { asm volatile("addps 1(%0), %%xmm0" : : "r"(image) : "memory"); };
  const auto pshufd = [] { asm volatile("pshufd $0, 4(%0), %%xmm0" : : "r"(image) : "memory"); };
  const auto movaps = [] { asm volatile("movaps 1(%0), %%xmm0" : : "r"(image) : "memory"); };
  const auto movntps = [] { asm volatile("movntps %%xmm0, 1(%0)" : : "r"(image) : "memory"); };
  EXPECT_TRAP(Try(addps), kGP, 0);
  EXPECT_TRAP(Try(pshufd), kGP, 0);
  if (!(mask & kMm)) return;
  EXPECT_NO_TRAP(LoadMxcsr(0x1f80 | kMm));
  EXPECT_NO_TRAP(Try(addps));
  EXPECT_NO_TRAP(Try(pshufd));
  // Moves that are said to be aligned stay so.
  EXPECT_TRAP(Try(movaps), kGP, 0);
  EXPECT_TRAP(Try(movntps), kGP, 0);
  EXPECT_NO_TRAP(LoadMxcsr(0x1f80));
}

// [SDM 1] 8.1.8, 8.1.9; [APM 2] 11.5.10
void TestPointers() {
  Section("pointers of a pending exception");
  uint64_t divide = 0;
  const uint16_t unmasked = 0x37b;
  Fill(0xcc);
  asm volatile(
      "fninit\n fldcw %[unmasked]\n fldl %[two]\n"
      "lea 1f(%%rip), %[divide]\n"
      "1: fdivl %[zero]\n"
      "fxsave64 %[image]\n"
      : [divide] "=r"(divide), [image] "+m"(image)
      : [unmasked] "m"(unmasked), [two] "m"(two), [zero] "m"(zero)
      : "memory");
  EXPECT_EQ(Image<uint16_t>(kFsw) & 0x80, 0x80);
  EXPECT_EQ(Image<uint64_t>(kFip), divide);
  EXPECT_EQ(Image<uint64_t>(kFdp), reinterpret_cast<uint64_t>(&zero));
  EXPECT_EQ(Image<uint16_t>(kFop) & 0x700, 0x400);  // DC /6

  Section("pointers through FXRSTOR");
  const uint64_t somewhere = 0x123456789a;
  *reinterpret_cast<volatile uint64_t*>(image + kFip) = somewhere;
  *reinterpret_cast<volatile uint64_t*>(image + kFdp) = somewhere + 1;
  asm volatile("fninit" : : : "memory");
  Fxrstor();
  Fill(0xcc);
  Fxsave();
  EXPECT_EQ(Image<uint64_t>(kFip), somewhere);
  EXPECT_EQ(Image<uint64_t>(kFdp), somewhere + 1);
  uint32_t environment[7];
  asm volatile("fnstenv %0" : "=m"(environment) : : "memory");
  EXPECT_EQ(environment[3], static_cast<uint32_t>(somewhere));
  EXPECT_EQ(environment[5], static_cast<uint32_t>(somewhere + 1));
  environment[3] = 0x12345678;
  environment[5] = 0x23456789;
  // It leaves the exception pending, and so the pointers where they are seen.
  asm volatile("fninit\n fldenv %0" : : "m"(environment) : "memory");
  Fill(0xcc);
  Fxsave();
  EXPECT_EQ(Image<uint64_t>(kFip), 0x12345678);
  EXPECT_EQ(Image<uint64_t>(kFdp), 0x23456789);

  Section("pointers without an exception");
  // Kept (Intel), stored as zero (AMD), or not stored (AMD before RstrFpErrPtrs); each time so.
  unsigned kind = 3;
  for (unsigned i = 0; i < 3; ++i) {
    uint64_t load = 0;
    Fill(0xcc);
    asm volatile(
        "fninit\n"
        "lea 1f(%%rip), %[load]\n"
        "1: fldl %[two]\n"
        "fxsave64 %[image]\n"
        "fninit\n"
        : [load] "=r"(load), [image] "+m"(image)
        : [two] "m"(two)
        : "memory");
    const uint64_t fip = Image<uint64_t>(kFip), fdp = Image<uint64_t>(kFdp);
    const unsigned now = fip == load && fdp == reinterpret_cast<uint64_t>(&two)   ? 0
                         : fip == 0 && fdp == 0                                   ? 1
                         : fip == 0xcccccccccccccccc && fdp == 0xcccccccccccccccc ? 2
                                                                                  : 4;
    EXPECT(now < 3);
    if (kind != 3) EXPECT_EQ(now, kind);
    kind = now;
  }
  // RstrFpErrPtrs. [APM 3] E.4.7
  if (Cpuid(0x80000008).ebx & 4) EXPECT_EQ(kind, 1);
  Fill(0xcc);
  asm volatile("fldl %1\n fninit\n fxsave64 %0" : "+m"(image) : "m"(two) : "memory");
  EXPECT(Image<uint64_t>(kFip) == 0 || Image<uint64_t>(kFip) == 0xcccccccccccccccc);
}

}  // namespace

void GuestMain() {
  WriteCr4(ReadCr4() | 0x600);  // OSFXSR, OSXMMEXCPT
  TestMxcsr();
  TestPointers();
}
