#include "bt/interp/native_thunk.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>

namespace bt {
namespace {

// Bounds the number of encodings that exist: about a hundred opcodes with an immediate byte, each
// in a few widths and with register or memory, at 200 bytes. Untouched pages cost nothing.
constexpr size_t kCapacity = 64 << 20;

class ThunkMemory {
 public:
  ThunkMemory() {
    const int fd = memfd_create("vmm-thunks", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, kCapacity) != 0) return;
    write_ = Map(fd, PROT_READ | PROT_WRITE);
    run_ = Map(fd, PROT_READ | PROT_EXEC);
    close(fd);
    if (!write_ || !run_) return;
    EmitTrapExit();
    g_run = reinterpret_cast<uint64_t>(run_);
    struct sigaction action{};
    action.sa_sigaction = &OnSigfpe;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGFPE, &action, &g_previous);
  }

  NativeThunk Find(const std::string& key) {
    std::lock_guard lock(mutex_);
    const auto found = thunks_.find(key);
    return found == thunks_.end() ? nullptr : found->second;
  }

  NativeThunk Add(const std::string& key, std::span<const uint8_t> code) {
    std::lock_guard lock(mutex_);
    if (!write_ || !run_ || used_ + code.size() > kCapacity) return nullptr;
    std::memcpy(write_ + used_, code.data(), code.size());
    const auto thunk = reinterpret_cast<NativeThunk>(run_ + used_);
    used_ = (used_ + code.size() + 15) & ~size_t{15};
    thunks_.emplace(key, thunk);
    return thunk;
  }

 private:
  static uint8_t* Map(int fd, int protection) {
    void* at = mmap(nullptr, kCapacity, protection, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? nullptr : static_cast<uint8_t*>(at);
  }

  // The way out of a thunk that trapped: the host's MXCSR, empty MMX state, return. Stands first.
  void EmitTrapExit();
  static void OnSigfpe(int number, siginfo_t* info, void* raw);
  static inline uint64_t g_run = 0;
  static inline struct sigaction g_previous{};

  std::mutex mutex_;
  uint8_t* write_ = nullptr;
  uint8_t* run_ = nullptr;
  size_t used_ = 0;
  std::unordered_map<std::string, NativeThunk> thunks_;
};

ThunkMemory& Memory() {
  static ThunkMemory& memory = *new ThunkMemory;  // never unmapped: vCPU threads may end last
  return memory;
}

// The registers that stand for the guest's: see NativeContext.
constexpr uint8_t kRegVector = 2, kRmVector = 3, kVvvvVector = 4, kIs4Vector = 5, kRegGeneral = 0,
                  kRmGeneral = 1, kMemoryBase = 6;

bool HasField(const Insn& insn, Field field) {
  return std::any_of(insn.operand.begin(), insn.operand.begin() + insn.operand_count,
                     [field](const Operand& operand) { return operand.field == field; });
}

// ModRM with the operands renamed, and the immediate.
void ReencodeTail(const Insn& insn, std::string& out);

// VMOVD, VCVTSI2SS, VCVTSS2SI, VPINSRD, VPCMPESTRI and their kin, by opcode.
bool MovesGeneral(const Insn& insn) {
  const uint8_t op = insn.opcode;
  if (insn.opcode_map == 1)
    return op == 0x2a || op == 0x2c || op == 0x2d || op == 0x6e || op == 0x7e;
  return insn.opcode_map == 3 &&
         ((op >= 0x14 && op <= 0x17) || op == 0x20 || op == 0x22 || op == 0x60 || op == 0x61);
}

// The three-byte form does for every instruction. [SDM 2A] 2.3.5
std::string ReencodeVex(const Insn& insn) {
  // Outside 64-bit mode VEX.W does not widen a general operand, or what stands for it in memory.
  const bool wide = insn.rex_w && (insn.code_size == CodeSize::k64 || !MovesGeneral(insn));
  const unsigned vvvv = HasField(insn, Field::kVexVvvv) ? kVvvvVector : 0u;
  const unsigned pp = insn.mandatory_prefix == 0x66   ? 1
                      : insn.mandatory_prefix == 0xf3 ? 2
                      : insn.mandatory_prefix == 0xf2 ? 3
                                                      : 0;
  std::string out = "\xc4";
  out += static_cast<char>(0xe0 | insn.opcode_map);
  out += static_cast<char>((wide ? 0x80 : 0) | (~vvvv & 15) << 3 | (insn.vex_256 ? 4 : 0) | pp);
  out += static_cast<char>(insn.opcode);
  ReencodeTail(insn, out);
  return out;
}

// The instruction itself with its operands renamed.
std::string Reencode(const Insn& insn) {
  if (insn.has_vex) return ReencodeVex(insn);
  std::string out;
  if (insn.mandatory_prefix == 0x66 || insn.mandatory_prefix == 0xf2 ||
      insn.mandatory_prefix == 0xf3) {
    out += static_cast<char>(insn.mandatory_prefix);
  } else if (insn.operand_bits == 16 && insn.opcode_map == 0) {
    out += '\x66';  // x87 environments of 16-bit code
  }
  if (insn.mnemonic == Mnemonic::CRC32 && insn.operand_bits == 16) out += '\x66';
  if (insn.rex_w) out += '\x48';
  if (insn.opcode_map >= 1) out += '\x0f';
  if (insn.opcode_map == 2) out += '\x38';
  if (insn.opcode_map == 3) out += '\x3a';
  out += static_cast<char>(insn.opcode);
  if (insn.modrm_offset != 0) ReencodeTail(insn, out);
  return out;
}

void ReencodeTail(const Insn& insn, std::string& out) {
  const uint8_t modrm = insn.bytes[insn.modrm_offset];
  uint8_t mod = modrm >> 6, reg = (modrm >> 3) & 7, rm = modrm & 7;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& operand = insn.operand[i];
    if (operand.reg_class == RegClass::kX87) continue;  // ST(i) is itself
    const bool general = operand.reg_class == RegClass::kGpr;
    if (operand.field == Field::kModrmReg) reg = general ? kRegGeneral : kRegVector;
    if (operand.field == Field::kModrmRm && operand.kind == OperandKind::kReg) {
      rm = general ? kRmGeneral : kRmVector;
    }
    if (operand.kind == OperandKind::kMem) {
      mod = 0;
      rm = kMemoryBase;
    }
  }
  out += static_cast<char>(mod << 6 | reg << 3 | rm);
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    if (insn.operand[i].kind == OperandKind::kImm) out += static_cast<char>(insn.operand[i].imm);
    if (insn.operand[i].field == Field::kVexIs4) out += static_cast<char>(kIs4Vector << 4);
  }
}

// Emits `opcode` bytes followed by ModRM for [rdi + offset] with `reg`.
void EmitContext(std::string& code, std::string_view opcode, uint8_t reg, size_t offset) {
  code += opcode;
  code += static_cast<char>(0x80 | reg << 3 | 7);
  const auto disp = static_cast<uint32_t>(offset);
  code.append(reinterpret_cast<const char*>(&disp), 4);
}

// VMOVUPS of a YMM register, VZEROUPPER.
constexpr std::string_view kVmovupsLoad("\xc5\xfc\x10", 3), kVmovupsStore("\xc5\xfc\x11", 3),
    kVzeroupper("\xc5\xf8\x77", 3);
constexpr std::string_view kMovupsLoad("\x0f\x10", 2), kMovupsStore("\x0f\x11", 2),
    kMovqMmLoad("\x0f\x6f", 2), kMovqMmStore("\x0f\x7f", 2), kLoad64("\x48\x8b", 2),
    kStore64("\x48\x89", 2), kLea("\x48\x8d", 2), kGroup15("\x0f\xae", 2), kFx64("\x48\x0f\xae", 3);
constexpr uint8_t kLdmxcsr = 2, kStmxcsr = 3, kFxsave = 0, kFxrstor = 1;

#define AT(field) offsetof(NativeContext, field)

void ThunkMemory::EmitTrapExit() {
  std::string code;
  EmitContext(code, kGroup15, kLdmxcsr, AT(host_mxcsr));
  code += "\x0f\x77";  // EMMS
  if (__builtin_cpu_supports("avx")) code += kVzeroupper;
  code += '\xc3';
  std::memcpy(write_, code.data(), code.size());
  used_ = 64;
}

void ThunkMemory::OnSigfpe(int number, siginfo_t* info, void* raw) {
  auto* frame = static_cast<ucontext_t*>(raw);
  greg_t* regs = frame->uc_mcontext.gregs;
  if (static_cast<uint64_t>(regs[REG_RIP]) - g_run < kCapacity) {
    auto* context = reinterpret_cast<NativeContext*>(regs[REG_RDI]);  // thunks leave RDI alone
    context->mxcsr = frame->uc_mcontext.fpregs->mxcsr;
    context->trapped = 1;
    regs[REG_RIP] = static_cast<greg_t>(g_run);
    return;
  }
  if (g_previous.sa_flags & SA_SIGINFO) return g_previous.sa_sigaction(number, info, raw);
  if (g_previous.sa_handler != SIG_DFL && g_previous.sa_handler != SIG_IGN)
    return g_previous.sa_handler(number);
  signal(number, SIG_DFL);  // the instruction runs again and ends the process
}

std::string EmitX87(const std::string& insn) {
  std::string code;
  EmitContext(code, kLea, kMemoryBase, AT(memory));
  EmitContext(code, kFx64, kFxrstor, AT(fx));
  // The guest's flags in and out: OF by an addition that overflows from 0x7f, the rest by SAHF.
  EmitContext(code, kLoad64, 0, AT(flags));
  code += "\x04\x7f\x9e";  // ADD AL, 0x7f; SAHF
  code += insn;
  code += "\x9f\x0f\x90\xc0";  // LAHF; SETO AL
  EmitContext(code, kStore64, 0, AT(flags));
  EmitContext(code, kFx64, kFxsave, AT(fx));
  code += "\xdb\xe3";  // FNINIT: what the ABI expects of us
  code += '\xc3';
  return code;
}

// Operands that the instruction has not are neither loaded nor stored. MXCSR is always the guest's:
// which of the many forms look at it need not be known here.
std::string EmitVex(const Insn& insn, const std::string& encoded) {
  struct Place {
    Field field;
    uint8_t reg;
    size_t at;
  };
  static constexpr Place kPlaces[] = {{Field::kModrmReg, kRegVector, AT(reg)},
                                      {Field::kModrmRm, kRmVector, AT(rm)},
                                      {Field::kVexVvvv, kVvvvVector, AT(vvvv)},
                                      {Field::kVexIs4, kIs4Vector, AT(is4)}};
  const auto move = [&insn](std::string& code, std::string_view opcode, bool written_only) {
    for (unsigned i = 0; i < insn.operand_count; ++i) {
      const Operand& operand = insn.operand[i];
      if (operand.kind != OperandKind::kReg || operand.reg_class == RegClass::kGpr) continue;
      if (written_only && !operand.written) continue;
      for (const Place& place : kPlaces) {
        if (place.field == operand.field) EmitContext(code, opcode, place.reg, place.at);
      }
    }
  };
  std::string code;
  EmitContext(code, kLea, kMemoryBase, AT(memory));
  EmitContext(code, kLoad64, 0, AT(rax));
  EmitContext(code, kLoad64, 1, AT(rcx));
  EmitContext(code, kLoad64, 2, AT(rdx));
  EmitContext(code, kVmovupsLoad, 0, AT(xmm0));
  move(code, kVmovupsLoad, false);
  EmitContext(code, kGroup15, kStmxcsr, AT(host_mxcsr));
  EmitContext(code, kGroup15, kLdmxcsr, AT(mxcsr));
  code += encoded;
  EmitContext(code, kStore64, 0, AT(rax));
  EmitContext(code, kStore64, 1, AT(rcx));
  code += "\x9f\x0f\x90\xc0";  // LAHF; SETO AL
  EmitContext(code, kStore64, 0, AT(flags));
  EmitContext(code, kGroup15, kStmxcsr, AT(mxcsr));
  EmitContext(code, kGroup15, kLdmxcsr, AT(host_mxcsr));
  move(code, kVmovupsStore, true);
  EmitContext(code, kVmovupsStore, 0, AT(xmm0));
  code += kVzeroupper;
  code += '\xc3';
  return code;
}

std::string EmitVector(const std::string& insn, ThunkKind kind) {
  const bool mmx = kind == ThunkKind::kMmx;
  const bool arithmetic = kind != ThunkKind::kSse;
  std::string code;
  EmitContext(code, kLea, kMemoryBase, AT(memory));
  EmitContext(code, kLoad64, 0, AT(rax));
  EmitContext(code, kLoad64, 1, AT(rcx));
  EmitContext(code, kLoad64, 2, AT(rdx));
  if (mmx) {
    EmitContext(code, kMovqMmLoad, kRegVector, AT(reg));
    EmitContext(code, kMovqMmLoad, kRmVector, AT(rm));
  }
  // MMX instructions may have an XMM operand (CVTPI2PS, MOVQ2DQ ..): its value stands in the same
  // field.
  EmitContext(code, kMovupsLoad, kRegVector, AT(reg));
  EmitContext(code, kMovupsLoad, kRmVector, AT(rm));
  EmitContext(code, kMovupsLoad, 0, AT(xmm0));
  if (arithmetic) {
    EmitContext(code, kGroup15, kStmxcsr, AT(host_mxcsr));
    EmitContext(code, kGroup15, kLdmxcsr, AT(mxcsr));
  }
  code += insn;
  EmitContext(code, kStore64, 0, AT(rax));
  EmitContext(code, kStore64, 1, AT(rcx));
  code += "\x9f\x0f\x90\xc0";  // LAHF; SETO AL
  EmitContext(code, kStore64, 0, AT(flags));
  if (arithmetic) {
    EmitContext(code, kGroup15, kStmxcsr, AT(mxcsr));
    EmitContext(code, kGroup15, kLdmxcsr, AT(host_mxcsr));
  }
  return code;
}

}  // namespace

NativeThunk GetNativeThunk(const Insn& insn, ThunkKind kind) {
  const std::string encoded = Reencode(insn);
  // Where results are depends on the classes of the operands, which the encoding alone implies.
  std::string key = encoded;
  key += static_cast<char>(kind);
  if (NativeThunk found = Memory().Find(key)) return found;
  std::string code;
  if (kind == ThunkKind::kX87) {
    code = EmitX87(encoded);
  } else if (kind == ThunkKind::kVex) {
    code = EmitVex(insn, encoded);
  } else {
    code = EmitVector(encoded, kind);
    const auto store = [&code](Field field, RegClass reg_class) {
      const uint8_t reg = field == Field::kModrmReg ? kRegVector : kRmVector;
      const size_t at = field == Field::kModrmReg ? AT(reg) : AT(rm);
      if (reg_class == RegClass::kXmm) EmitContext(code, kMovupsStore, reg, at);
      if (reg_class == RegClass::kMmx) EmitContext(code, kMovqMmStore, reg, at);
    };
    const Operand& to = insn.operand[0];
    if (insn.operand_count > 0 && to.kind == OperandKind::kReg) store(to.field, to.reg_class);
    EmitContext(code, kMovupsStore, 0, AT(xmm0));
    if (kind == ThunkKind::kMmx) code += "\x0f\x77";  // EMMS
    code += '\xc3';
  }
  return Memory().Add(key, {reinterpret_cast<const uint8_t*>(code.data()), code.size()});
}

}  // namespace bt
