#include "bt/translator/stubs.h"

#include "bt/translator/host_registers.h"

namespace bt {
namespace {

using Xbyak::Reg64;

constexpr uint8_t kCalleeSaved[] = {3, 5, 12, 13, 14, 15};

void EmitStoreRegisters(Assembler& code, const CodeContext& context) {
  for (uint8_t i = 0; i < 16; ++i) {
    if (kAtHome >> i & 1) code.mov(code.ptr[code.At(context.r[i])], Reg64(i));
  }
  code.mov(code.ptr[code.At(context.r[kGuestRsp])], Reg64(kHostOfRsp));
}

void EmitLoadRegisters(Assembler& code, const CodeContext& context) {
  for (uint8_t i = 0; i < 16; ++i) {
    if (kAtHome >> i & 1) code.mov(Reg64(i), code.ptr[code.At(context.r[i])]);
  }
  code.mov(Reg64(kHostOfRsp), code.ptr[code.At(context.r[kGuestRsp])]);
}

// Between blocks RSP is 8 below a multiple of 16, as the call that entered left it.
void EmitEnter(Assembler& code, const CodeContext& context) {
  for (uint8_t reg : kCalleeSaved) code.push(Reg64(reg));
  code.mov(code.ptr[code.At(context.state.host_rsp)], code.rsp);
  code.mov(code.r11, code.rdi);
  EmitLoadRegisters(code, context);
  code.jmp(code.r11);
}

void EmitReturn(Assembler& code, const CodeContext& context) {
  code.mov(code.rsp, code.ptr[code.At(context.state.host_rsp)]);
  for (unsigned i = std::size(kCalleeSaved); i-- > 0;) code.pop(Reg64(kCalleeSaved[i]));
  code.ret();
}

void EmitRunSite(Assembler& code, const CodeContext& context) {
  Xbyak::Label leave;
  EmitStoreRegisters(code, context);
  code.mov(code.rdi, code.ptr[code.At(context.state.self)]);
  code.mov(code.esi, code.r10d);
  code.call(code.ptr[code.At(context.state.run_site)]);
  code.test(code.al, code.al);
  code.jz(leave);
  EmitLoadRegisters(code, context);
  code.ret();
  code.L(leave);
  code.mov(code.dword[code.At(context.state.exit)], CodeState::kLeft);
  EmitReturn(code, context);
}

void EmitIndirect(Assembler& code, const CodeContext& context) {
  Xbyak::Label miss;
  code.mov(code.ptr[code.At(context.r[kRip])], code.r10);
  code.mov(code.r11, code.r10);
  code.shr(code.r11, 12);
  code.xor_(code.r11d, code.r10d);
  code.and_(code.r11d, kJumpTargets - 1);
  code.shl(code.r11d, 5);
  static_assert(sizeof(JumpTarget) == 32);
  code.add(code.r11, code.ptr[code.At(context.state.jumps)]);
  code.cmp(code.r10, code.ptr[code.r11 + offsetof(JumpTarget, linear)]);
  code.jne(miss);
  code.mov(code.r10, code.ptr[code.r11 + offsetof(JumpTarget, key)]);
  code.cmp(code.r10, code.ptr[code.At(context.key)]);
  code.jne(miss);
  code.cmp(code.dword[code.At(context.attention)], 0);
  code.jne(miss);
  code.mov(code.r10, code.ptr[code.r11 + offsetof(JumpTarget, linear)]);
  code.and_(code.r10, -0x1000);
  code.mov(code.ptr[code.At(context.state.page)], code.r10);
  code.jmp(code.ptr[code.r11 + offsetof(JumpTarget, code)]);
  code.L(miss);
  code.mov(code.dword[code.At(context.state.exit)], CodeState::kIndirect);
}

}  // namespace

// OF goes to bit 0, LAHF's flags to bits 15:8: the form of Flags.
void EmitSaveFlags(Assembler& code, const CodeContext& context) {
  code.mov(code.r11, code.rax);
  code.lahf();
  code.seto(code.al);
  code.mov(code.word[code.At(context.flags)], code.ax);
  code.mov(code.rax, code.r11);
}

void EmitRestoreFlags(Assembler& code, const CodeContext& context) {
  code.mov(code.r11, code.rax);
  code.movzx(code.eax, code.word[code.At(context.flags)]);
  code.add(code.al, 0x7f);  // overflows when bit 0 is set
  code.sahf();
  code.mov(code.rax, code.r11);
}

Stubs Stubs::Emit(CodeSpace& space, const CodeContext& context) {
  Assembler& code = space.hot();
  Stubs stubs;
  const CodeSpace::Offset enter = space.OffsetOf(code);
  stubs.enter = reinterpret_cast<void (*)(const uint8_t*)>(space.run(enter));
  EmitEnter(code, context);
  stubs.run_site = space.OffsetOf(code);
  EmitRunSite(code, context);
  stubs.indirect = space.OffsetOf(code);
  EmitIndirect(code, context);
  stubs.leave = space.OffsetOf(code);  // a miss goes on here
  EmitStoreRegisters(code, context);
  EmitReturn(code, context);
  return stubs;
}

}  // namespace bt
