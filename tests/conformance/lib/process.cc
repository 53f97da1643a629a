#include "process.h"

extern "C" {
extern char image_end[], user_begin[], user_end[];
extern uint64_t boot_pml4[], boot_pdpt[], boot_pds[];
}

namespace guest {

namespace {

constexpr uint64_t kMemoryEnd = 32 << 20;
constexpr uint64_t kAddressBits = 0x000ffffffffff000;

volatile uint64_t* Table(uint64_t entry) {
  return reinterpret_cast<volatile uint64_t*>(entry & kAddressBits);
}
volatile uint64_t* Below(volatile uint64_t& entry) {
  if (!(entry & kPresent)) entry = NewFrame() | kUserPage;
  return Table(entry);
}
unsigned Index(uint64_t linear, unsigned level) {
  return linear >> (12 + 9 * level) & 511;
}

}  // namespace

uint64_t NewFrame() {
  static uint64_t next = (reinterpret_cast<uint64_t>(image_end) + 4095) & ~4095ull;
  if (next >= kMemoryEnd) {
    Print("FAIL no frame left\n");
    Finish();
  }
  for (uint64_t at = next; at < next + 4096; at += 8) WriteMemory<uint64_t>(at, 0);
  next += 4096;
  return next - 4096;
}

AddressSpace::AddressSpace() : root_(NewFrame()) {
  Table(root_)[Index(kKernelHalf, 3)] = boot_pml4[Index(kKernelHalf, 3)];
  for (uint64_t at = 0x100000; at < 0x200000; at += 4096) Pte(at) = at | kPresent | kWrite;
  for (uint64_t at = 0x200000; at < kMemoryEnd; at += 0x200000)
    Pde(at) = at | kPresent | kWrite | kLarge;
  volatile uint64_t* const pointers = Below(Table(root_)[0]);
  pointers[3] = reinterpret_cast<uint64_t>(boot_pds) + 3 * 4096 + (kPresent | kWrite);
  for (const char* at = user_begin; at < user_end; at += 4096)
    Map(UserLinear(at), reinterpret_cast<uint64_t>(at) | kPresent | kUser);
}

volatile uint64_t& AddressSpace::Pde(uint64_t linear) {
  return Below(Below(Table(root_)[Index(linear, 3)])[Index(linear, 2)])[Index(linear, 1)];
}
volatile uint64_t& AddressSpace::Pte(uint64_t linear) {
  return Below(Pde(linear))[Index(linear, 0)];
}

void StartProcesses() {
  boot_pml4[Index(kKernelHalf, 3)] = reinterpret_cast<uint64_t>(boot_pdpt) | kPresent | kWrite;
  struct [[gnu::packed]] {
    uint16_t limit;
    uint64_t base;
  } idtr;
  asm volatile("sidt %0" : "=m"(idtr));
  // The uppermost 32 bits of the offset, which were zero. [SDM 3A] 6.14.1
  for (unsigned vector = 0; vector < 256; ++vector)
    WriteMemory<uint32_t>(idtr.base + 16 * vector + 8, kKernelHalf >> 32);
  EnableAvx();
}

void EnableAvx() {
  constexpr uint32_t kXsave = 1 << 26, kAvx = 1 << 28;
  const uint32_t features = Cpuid(1).ecx;
  if (!(features & kXsave)) return;
  WriteCr4(ReadCr4() | 1u << 18);  // OSXSAVE
  asm volatile("xsetbv" : : "c"(0), "a"(features & kAvx ? 7 : 3), "d"(0));
}

Frame UserFrame(uint64_t rip, uint64_t rsp) {
  Frame frame{};
  frame.rip = rip;
  frame.cs = kUserCode64;
  frame.rflags = 2;
  frame.rsp = rsp;
  frame.ss = kUserData;
  return frame;
}

void Enter(const Frame& state) {
  asm volatile(
      "mov %0, %%rsp\n"
      "pop %%r15\n pop %%r14\n pop %%r13\n pop %%r12\n pop %%r11\n pop %%r10\n pop %%r9\n"
      "pop %%r8\n pop %%rdi\n pop %%rsi\n pop %%rbp\n pop %%rbx\n pop %%rdx\n pop %%rcx\n"
      "pop %%rax\n add $16, %%rsp\n iretq"
      :
      : "r"(&state)
      : "memory");
  __builtin_unreachable();
}
Trap Resume(const Frame& state) {
  return Try([&] { Enter(state); });
}

Slowly::Slowly(bool really) {
  WriteDr0(kWindow);  // nobody goes there
  if (really) WriteDr7(0x402);
}

Slowly::~Slowly() {
  WriteDr7(0x400);
}

void SaveFpu(FpuImage& image) {
  asm volatile("fxsave64 %0" : "=m"(image) : : "memory");
}
void LoadFpu(const FpuImage& image) {
  asm volatile("fxrstor64 %0" : : "m"(image) : "memory");
}

}  // namespace guest
