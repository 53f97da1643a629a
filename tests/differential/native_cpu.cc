#include "native_cpu.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace difftest {
namespace {

// What the entry and exit stubs read and write by absolute address.
struct Control {
  uint64_t gpr[16];
  uint64_t rflags;
  uint64_t host_rsp;
  uint64_t jump_target;  // kInsn, for the indirect jump into the instruction
  struct {
    uint32_t offset;
    uint16_t selector;
  } far_target;  // the same in compatibility mode
  uint64_t exit_stub;
  alignas(16) uint8_t fx[512];
  uint8_t ymm[16][32];
  alignas(16) uint8_t host_fx[512];
};
constexpr uint64_t kStubs = kControl + 0x2000;
constexpr uint8_t kInt3 = 0xcc;
Control& control() {
  return *reinterpret_cast<Control*>(kControl);
}

// Selectors that Linux gives to user programs. (arch/x86/include/asm/segment.h)
constexpr uint16_t kUserCs32 = 0x23, kUserDs = 0x2b, kUserCs = 0x33;
constexpr unsigned kYmmInFrame = 576;  // of the XSAVE area in a signal frame

Outcome g_outcome;
volatile bool g_running = false;
bool g_avx = false;

#define AT(field) (kControl + offsetof(Control, field))

void* Map(uint64_t at, size_t size, int protection, int fd = -1, off_t offset = 0) {
  const int flags =
      (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) | (at ? MAP_FIXED_NOREPLACE : 0);
  void* got = mmap(reinterpret_cast<void*>(at), size, protection, flags, fd, offset);
  if (got == MAP_FAILED) {
    std::perror("differential test: mmap");
    std::exit(2);
  }
  return got;
}

// Tiny assembler for the stubs.
struct Emitter {
  std::string code;
  void Bytes(std::initializer_list<uint8_t> bytes) { code.append(bytes.begin(), bytes.end()); }
  void Dword(uint64_t value) { code.append(reinterpret_cast<const char*>(&value), 4); }
  // MOV r64, [abs32] and back.
  void Load(unsigned reg, uint64_t at) { Move(0x8b, reg, at); }
  void Store(unsigned reg, uint64_t at) { Move(0x89, reg, at); }
  void Move(uint8_t opcode, unsigned reg, uint64_t at) {
    Bytes({static_cast<uint8_t>(0x48 | (reg >= 8 ? 4 : 0)), opcode,
           static_cast<uint8_t>((reg & 7) << 3 | 4), 0x25});
    Dword(at);
  }
  // VMOVUPS ymm, [abs32] (opcode 10) and back (11).
  void Ymm(uint8_t opcode, uint64_t at) {
    for (unsigned reg = 0; g_avx && reg < 16; ++reg) {
      Bytes({0xc5, static_cast<uint8_t>(reg >= 8 ? 0x7c : 0xfc), opcode,
             static_cast<uint8_t>((reg & 7) << 3 | 4), 0x25});
      Dword(at + 32 * reg);
    }
  }
  void Fx(uint8_t extension, uint64_t at) {
    Bytes({0x48, 0x0f, 0xae, static_cast<uint8_t>(extension << 3 | 4), 0x25});
    Dword(at);
  }
};

constexpr unsigned kCalleeSaved[] = {3, 5, 12, 13, 14, 15};

constexpr size_t kExitStub = 0x800, kLeaveStub = 0xc00, kCompatStub = 0x400;

void EmitEntry(uint64_t at, bool compat) {
  Emitter enter;
  for (unsigned reg : kCalleeSaved) {
    if (reg >= 8) enter.Bytes({0x41});
    enter.Bytes({static_cast<uint8_t>(0x50 | (reg & 7))});  // PUSH
  }
  enter.Fx(0, AT(host_fx));
  enter.Store(4, AT(host_rsp));
  enter.Fx(1, AT(fx));
  enter.Ymm(0x10, AT(ymm));
  enter.Bytes({0xff, 0x34, 0x25});  // PUSH [rflags]
  enter.Dword(AT(rflags));
  enter.Bytes({0x9d});  // POPFQ
  for (unsigned reg = 0; reg < 16; ++reg) enter.Load(reg, AT(gpr) + 8 * reg);
  enter.Bytes({0xff, static_cast<uint8_t>(compat ? 0x2c : 0x24), 0x25});  // JMP [target]
  enter.Dword(compat ? AT(far_target) : AT(jump_target));
  std::memcpy(reinterpret_cast<void*>(at), enter.code.data(), enter.code.size());
}

void EmitStubs() {
  EmitEntry(kStubs, false);
  EmitEntry(kStubs + kCompatStub, true);

  Emitter leave;
  for (unsigned reg = 0; reg < 16; ++reg) leave.Store(reg, AT(gpr) + 8 * reg);
  leave.Load(4, AT(host_rsp));
  leave.Bytes({0x9c, 0x8f, 0x04, 0x25});  // PUSHFQ; POP [rflags]
  leave.Dword(AT(rflags));
  leave.Fx(0, AT(fx));
  leave.Ymm(0x11, AT(ymm));
  Emitter last;                               // where a signal handler goes on
  if (g_avx) last.Bytes({0xc5, 0xf8, 0x77});  // VZEROUPPER
  last.Fx(1, AT(host_fx));
  last.Bytes({0x68, 0x02, 0x02, 0, 0, 0x9d});  // PUSH 0x202; POPFQ
  for (int i = 5; i >= 0; --i) {
    const unsigned reg = kCalleeSaved[i];
    if (reg >= 8) last.Bytes({0x41});
    last.Bytes({static_cast<uint8_t>(0x58 | (reg & 7))});  // POP
  }
  last.Bytes({0xc3});
  auto* at = reinterpret_cast<uint8_t*>(kStubs);
  const std::string out = leave.code + last.code;
  std::memcpy(at + kExitStub, out.data(), out.size());
  control().exit_stub = kStubs + kExitStub;
  std::memcpy(at + kLeaveStub, last.code.data(), last.code.size());
}

// The state that a signal frame holds becomes what the exit stub would have stored.
void KeepFrame(ucontext_t* context) {
  greg_t* regs = context->uc_mcontext.gregs;
  constexpr int kOrder[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  Control& state = control();
  for (unsigned i = 0; i < 16; ++i) state.gpr[i] = static_cast<uint64_t>(regs[kOrder[i]]);
  state.rflags = static_cast<uint64_t>(regs[REG_EFL]);
  const auto* area = reinterpret_cast<const uint8_t*>(context->uc_mcontext.fpregs);
  std::memcpy(state.fx, area, 512);
  uint64_t present;
  std::memcpy(&present, area + 512, 8);
  for (unsigned i = 0; i < 16; ++i) {
    std::memcpy(state.ymm[i], area + 160 + 16 * i, 16);
    if (g_avx && (present & 4))
      std::memcpy(state.ymm[i] + 16, area + kYmmInFrame + 16 * i, 16);
    else
      std::memset(state.ymm[i] + 16, 0, 16);
  }
}

void OnFault(int, siginfo_t*, void* raw) {
  auto* context = static_cast<ucontext_t*>(raw);
  greg_t* regs = context->uc_mcontext.gregs;
  if (!g_running) {
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  KeepFrame(context);
  g_outcome = {true, static_cast<uint8_t>(regs[REG_TRAPNO]), static_cast<uint32_t>(regs[REG_ERR]),
               0, static_cast<uint64_t>(regs[REG_RIP])};
  if (g_outcome.vector == 3)  // an INT3 around the instruction: a branch went there
    g_outcome = {false, 0, 0, 0, g_outcome.rip - 1};
  else if (g_outcome.vector == 14)
    g_outcome.cr2 = static_cast<uint64_t>(regs[REG_CR2]);
  else if (g_outcome.vector == 6 || g_outcome.vector == 0 || g_outcome.vector >= 16)
    g_outcome.error = 0;
  regs[REG_RIP] = static_cast<greg_t>(kStubs + kLeaveStub);
  regs[REG_RSP] = static_cast<greg_t>(control().host_rsp);
  regs[REG_EFL] = 0x202;
  regs[REG_CSGSFS] = (regs[REG_CSGSFS] & ~0xffffll) | kUserCs;
}

int MemoryFile(size_t size) {
  const int fd = memfd_create("differential", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(size)) != 0) {
    std::perror("differential test: memfd");
    std::exit(2);
  }
  return fd;
}

}  // namespace

NativeCpu::NativeCpu() {
  g_avx = __builtin_cpu_supports("avx");
  // Compatibility mode needs data segments; 64-bit mode does not care.
  asm volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(uint32_t{kUserDs}));
  Map(kControl, 0x2000, PROT_READ | PROT_WRITE);
  Map(kStubs, 0x1000, PROT_READ | PROT_WRITE);
  EmitStubs();
  mprotect(reinterpret_cast<void*>(kStubs), 0x1000, PROT_READ | PROT_EXEC);
  const int code = MemoryFile(0x1000);
  Map(kCode, 0x1000, PROT_READ | PROT_EXEC, code);
  code_alias_ = static_cast<uint8_t*>(Map(0, 0x1000, PROT_READ | PROT_WRITE, code));
  const int data = MemoryFile(kPages * 0x1000);
  Map(kData + 0x1000, 0x2000, PROT_READ | PROT_WRITE, data, 0x1000);
  Map(kData + 0x4000, 0x1000, PROT_READ, data, 0x4000);
  read_only_alias_ = static_cast<uint8_t*>(Map(0, 0x1000, PROT_READ | PROT_WRITE, data, 0x4000));
  control().jump_target = kInsn;
  control().far_target = {static_cast<uint32_t>(kInsn), kUserCs32};
  std::memset(code_alias_, kInt3, 0x1000);
  // Page in, or a first touch of the read-only page would say "not present".
  for (uint64_t page : {kCode, kData + 0x1000, kData + 0x2000, kData + 0x4000}) {
    static_cast<void>(*reinterpret_cast<volatile uint8_t*>(page));
  }

  stack_t stack{};
  stack.ss_size = 256 * 1024;
  stack.ss_sp = Map(0, stack.ss_size, PROT_READ | PROT_WRITE);
  sigaltstack(&stack, nullptr);
  struct sigaction action{};
  action.sa_sigaction = OnFault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) sigaction(number, &action, nullptr);
}

std::span<uint8_t> NativeCpu::writable() {
  return {reinterpret_cast<uint8_t*>(kData + 0x1000), 0x2000};
}
std::span<uint8_t> NativeCpu::read_only() {
  return {read_only_alias_, 0x1000};
}

Outcome NativeCpu::Run(const Case& test, Registers& registers) {
  const bool compat = test.insn.code_size == bt::CodeSize::k32;
  Control& state = control();
  uint8_t* code = code_alias_ + (kInsn - kCode);
  size_t used = test.code.size();
  std::memcpy(code, test.code.data(), used);
  if (!test.transfers && !test.illegal) {  // else an INT3 follows
    if (compat) {
      code[used++] = 0xea;  // JMP far, to 64-bit mode
      std::memcpy(code + used, &state.exit_stub, 4);
      std::memcpy(code + used + 4, &kUserCs, 2);
      used += 6;
    } else {
      const uint8_t jump[] = {0xff, 0x25, 0, 0, 0, 0};  // JMP [rip+0]; the exit stub's address
      std::memcpy(code + used, jump, sizeof(jump));
      std::memcpy(code + used + sizeof(jump), &state.exit_stub, 8);
      used += sizeof(jump) + 8;
    }
  }
  std::memcpy(state.gpr, registers.gpr.data(), sizeof(state.gpr));
  std::memcpy(state.fx, registers.fx.data(), sizeof(state.fx));
  for (unsigned i = 0; i < 16; ++i) {
    std::memcpy(state.ymm[i], registers.fx.data() + 160 + 16 * i, 16);
    std::memcpy(state.ymm[i] + 16, registers.ymm_high.data() + 16 * i, 16);
  }
  state.rflags = registers.rflags | 0x200;
  g_outcome = {};
  g_outcome.rip = kInsn + test.code.size();
  g_running = true;
  reinterpret_cast<void (*)()>(compat ? kStubs + kCompatStub : kStubs)();
  g_running = false;
  std::memset(code, kInt3, used);
  std::memcpy(registers.gpr.data(), state.gpr, sizeof(state.gpr));
  std::memcpy(registers.fx.data(), state.fx, sizeof(state.fx));
  for (unsigned i = 0; i < 16; ++i)
    std::memcpy(registers.ymm_high.data() + 16 * i, state.ymm[i] + 16, 16);
  registers.rflags = state.rflags;
  return g_outcome;
}

}  // namespace difftest
