#include "bt/translator/stubs.h"

#include "bt/interp/fpu.h"
#include "bt/translator/host_registers.h"
#include "bt/translator/repeat_stubs.h"
#include "bt/translator/system_stubs.h"
#include "bt/translator/treatment.h"
#include "vmm/core/base/check.h"

namespace bt {
namespace {

using Xbyak::Reg64;

constexpr uint8_t kCalleeSaved[] = {3, 5, 12, 13, 14, 15};

constexpr unsigned kXmm = FpuState::kXmm0, kYmmHigh = FpuState::kYmmHigh0;

void EmitJump(Assembler& code, CodeSpace& space, CodeSpace::Offset target) {
  code.db(0xe9);
  code.dd(0);
  space.PatchJump(space.OffsetOf(code) - 4, target);
}

// The registers, not the pointers: FIP and FDP in memory are the guest's, those of the processor
// belong to translated code. Destroys RAX, RCX and RDX.
void EmitDropX87(Assembler& code, const CodeContext& context) {
  Xbyak::Label in_memory;
  code.cmp(code.dword[code.At(context.state.x87)], 0);
  code.je(in_memory);
  code.movzx(code.eax, code.word[code.At(context.fpu[FpuState::kFop])]);
  code.mov(code.rcx, code.ptr[code.At(context.fpu[FpuState::kFip])]);
  code.mov(code.rdx, code.ptr[code.At(context.fpu[FpuState::kFdp])]);
  code.fxsave64(context.fpu);
  code.mov(code.word[code.At(context.fpu[FpuState::kFop])], code.ax);
  code.mov(code.ptr[code.At(context.fpu[FpuState::kFip])], code.rcx);
  code.mov(code.ptr[code.At(context.fpu[FpuState::kFdp])], code.rdx);
  code.fninit();
  code.mov(code.dword[code.At(context.state.x87)], 0);
  code.L(in_memory);
}

// Vector registers go back to memory before any C++ runs. Where the host has AVX the upper halves
// go along whatever the guest uses: they are its own, or as loaded.
void EmitDropVectors(Assembler& code, const CodeContext& context) {
  Xbyak::Label in_memory;
  code.cmp(code.dword[code.At(context.state.vector)], 0);
  code.je(in_memory, Assembler::T_NEAR);
  EmitStoreVectorRegisters(code, context);
  if (HostHasAvx()) code.vzeroupper();
  code.stmxcsr(code.dword[code.At(context.fpu[FpuState::kMxcsr])]);
  code.ldmxcsr(code.dword[code.At(context.state.host_mxcsr)]);
  code.mov(code.dword[code.At(context.state.vector)], 0);
  code.L(in_memory);
  code.ret();
}

// What the guest may do is what the interpreter's SseUsable() and VexUsable() say. With an unmasked
// exception it is nothing: those are the interpreter's.
void EmitLoadVectors(Assembler& code, const CodeContext& context, CodeSpace& space,
                     CodeSpace::Offset drop_vectors) {
  constexpr uint32_t kAllMasked = 0x1f80, kSseAndAvx = 6;
  Xbyak::Label no, load;
  EmitCall(code, space, drop_vectors);  // some may be there, but not enough
  code.test(code.dword[code.At(context.cr0)], cr0::EM | cr0::TS);
  code.jnz(no, Assembler::T_NEAR);
  code.test(code.dword[code.At(context.cr4)], cr4::OSFXSR);
  code.jz(no, Assembler::T_NEAR);
  code.mov(code.r10d, code.dword[code.At(context.fpu[FpuState::kMxcsr])]);
  code.not_(code.r10d);
  code.test(code.r10d, kAllMasked);
  code.jnz(no, Assembler::T_NEAR);
  code.mov(code.r10d, static_cast<uint32_t>(VectorUse::kSse));
  if (HostHasAvx()) {
    code.test(code.dword[code.At(context.cr4)], cr4::OSXSAVE);
    code.jz(load, Assembler::T_NEAR);
    code.mov(code.r11d, code.dword[code.At(context.xcr0)]);
    code.not_(code.r11d);
    code.test(code.r11d, kSseAndAvx);
    code.jnz(load, Assembler::T_NEAR);
    code.mov(code.r10d, static_cast<uint32_t>(VectorUse::kAvx));
  }
  code.L(load);
  code.mov(code.dword[code.At(context.state.vector)], code.r10d);
  code.ldmxcsr(code.dword[code.At(context.fpu[FpuState::kMxcsr])]);
  EmitLoadVectorRegisters(code, context);
  code.ret();
  code.L(no);
  code.xor_(code.r10d, code.r10d);
  code.ret();
}

// With an unmasked or a pending exception x87 is the interpreter's.
void EmitLoadX87(Assembler& code, const CodeContext& context, CodeSpace& space,
                 CodeSpace::Offset load_vectors) {
  constexpr uint32_t kAllMasked = 0x3f, kPending = 0x80;
  Xbyak::Label no;
  code.movzx(code.r10d, code.word[code.At(context.fpu[FpuState::kFcw])]);
  code.not_(code.r10d);
  code.test(code.r10d, kAllMasked);
  code.jnz(no);
  code.test(code.byte[code.At(context.fpu[FpuState::kFsw])], kPending);
  code.jnz(no);
  EmitCall(code, space, load_vectors);
  code.test(code.r10d, code.r10d);
  code.jz(no);
  code.fxrstor64(context.fpu);
  code.mov(code.dword[code.At(context.state.x87)], 1);
  code.ret();
  code.L(no);
  code.xor_(code.r10d, code.r10d);
  code.ret();
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

void EmitRunSite(Assembler& code, const CodeContext& context, CodeSpace& space,
                 CodeSpace::Offset drop_vectors, CodeSpace::Offset jump) {
  Xbyak::Label leave, at_rip;
  EmitStoreRegisters(code, context);
  EmitDropX87(code, context);
  EmitCall(code, space, drop_vectors);
  code.mov(code.rdi, code.ptr[code.At(context.state.self)]);
  code.mov(code.esi, code.r10d);
  code.call(code.ptr[code.At(context.state.run_site)]);
  code.cmp(code.al, static_cast<uint8_t>(AfterSite::kNext));
  code.jb(leave);
  EmitLoadRegisters(code, context);  // changes no flag
  code.jne(at_rip);
  code.ret();
  code.L(at_rip);
  code.mov(code.rsp, code.ptr[code.At(context.state.host_rsp)]);
  code.mov(code.r10, code.ptr[code.At(context.r[kRip])]);
  EmitJump(code, space, jump);
  code.L(leave);
  code.mov(code.dword[code.At(context.state.exit)], CodeState::kLeft);
  EmitReturn(code, context);
}

}  // namespace

bool HostHasAvx() {
  return __builtin_cpu_supports("avx");
}

void EmitCall(Assembler& code, CodeSpace& space, CodeSpace::Offset target) {
  code.db(0xe8);
  code.dd(0);
  space.PatchJump(space.OffsetOf(code) - 4, target);
}

void EmitStoreVectorRegisters(Assembler& code, const CodeContext& context) {
  for (int i = 0; i < 16; ++i) {
    if (HostHasAvx()) {
      code.vmovups(code.ptr[code.At(context.fpu[kXmm + 16 * i])], Xbyak::Xmm(i));
      code.vextractf128(code.ptr[code.At(context.fpu[kYmmHigh + 16 * i])], Xbyak::Ymm(i), 1);
    } else {
      code.movups(code.ptr[code.At(context.fpu[kXmm + 16 * i])], Xbyak::Xmm(i));
    }
  }
}

void EmitLoadVectorRegisters(Assembler& code, const CodeContext& context) {
  if (!HostHasAvx()) {
    for (int i = 0; i < 16; ++i)
      code.movups(Xbyak::Xmm(i), code.ptr[code.At(context.fpu[kXmm + 16 * i])]);
    return;
  }
  Xbyak::Label done;
  const auto high = [&](int i) { return code.ptr[code.At(context.fpu[kYmmHigh + 16 * i])]; };
  code.vmovups(code.ymm0, high(0));
  for (int i = 2; i < 16; i += 2) code.vorps(code.ymm0, code.ymm0, high(i));
  code.vextractf128(code.xmm1, code.ymm0, 1);
  code.vorps(code.xmm0, code.xmm0, code.xmm1);
  code.vptest(code.xmm0, code.xmm0);
  code.vzeroupper();
  for (int i = 0; i < 16; ++i)
    code.vmovups(Xbyak::Xmm(i), code.ptr[code.At(context.fpu[kXmm + 16 * i])]);
  code.jz(done, Assembler::T_NEAR);
  for (int i = 0; i < 16; ++i) code.vinsertf128(Xbyak::Ymm(i), Xbyak::Ymm(i), high(i), 1);
  code.L(done);
}

void EmitStoreRegisters(Assembler& code, const CodeContext& context) {
  const HostRegisters host(context.direct);
  for (uint8_t i = 0; i < 16; ++i) {
    if (host.at_home >> i & 1) code.mov(code.ptr[code.At(context.r[i])], Reg64(i));
  }
  code.mov(code.ptr[code.At(context.r[kGuestRsp])], Reg64(host.rsp));
}

void EmitLoadRegisters(Assembler& code, const CodeContext& context) {
  const HostRegisters host(context.direct);
  for (uint8_t i = 0; i < 16; ++i) {
    if (host.at_home >> i & 1) code.mov(Reg64(i), code.ptr[code.At(context.r[i])]);
  }
  code.mov(Reg64(host.rsp), code.ptr[code.At(context.r[kGuestRsp])]);
}

// The entry that the jump has looked at is not the target's; another of its set may be.
void EmitIndirect(Assembler& code, const CodeContext& context, Xbyak::Label& leave) {
  Xbyak::Label hit, miss;
  code.mov(code.ptr[code.At(context.r[kRip])], code.r10);
  for (int other = 1; other < static_cast<int>(JumpTable::kWays); ++other) {
    code.xor_(code.r11, (other ^ (other - 1)) * static_cast<int>(sizeof(JumpTarget)));
    code.cmp(code.r10, code.ptr[code.r11 + offsetof(JumpTarget, linear)]);
    code.je(hit);
  }
  code.L(miss);
  code.mov(code.dword[code.At(context.state.exit)], CodeState::kIndirect);
  code.jmp(leave, Assembler::T_NEAR);
  code.L(hit);
  code.cmp(code.dword[code.At(context.attention)], 0);
  code.jne(miss);
  EmitJumpToTarget(code, context);
}

namespace {

void EmitJumpAnywhere(Assembler& code, const CodeContext& context, CodeSpace& space,
                      CodeSpace::Offset indirect) {
  Xbyak::Label elsewhere;
  EmitFindTarget(code, context);
  code.cmp(code.r10, code.ptr[code.r11 + offsetof(JumpTarget, linear)]);
  code.jne(elsewhere);
  code.cmp(code.dword[code.At(context.attention)], 0);
  code.jne(elsewhere);
  EmitJumpToTarget(code, context);
  code.L(elsewhere);
  EmitJump(code, space, indirect);
}

}  // namespace

// OF goes to bit 0, LAHF's flags to bits 15:8: the form of Flags.
void EmitSaveFlags(Assembler& code, const CodeContext& context) {
  Sequence(code)
      .Bytes({0x49, 0x89, 0xc3})        // MOV R11, RAX
      .Bytes({0x9f, 0x0f, 0x90, 0xc0})  // LAHF; SETO AL
      .Bytes({0x66, 0x89, 0x05})        // MOV [flags], AX
      .Near(context.flags)
      .Bytes({0x4c, 0x89, 0xd8})  // MOV RAX, R11
      .Emit();
}

void EmitRestoreFlags(Assembler& code, const CodeContext& context, bool keep_temp1) {
  const auto scratch = [&] { return code.ptr[code.At(context.state.scratch)]; };
  if (keep_temp1)
    code.mov(scratch(), code.rax);
  else
    code.mov(code.r11, code.rax);
  code.movzx(code.eax, code.word[code.At(context.flags)]);
  code.add(code.al, 0x7f);  // overflows when bit 0 is set
  code.sahf();
  if (keep_temp1)
    code.mov(code.rax, scratch());
  else
    code.mov(code.rax, code.r11);
}

void EmitRestoreCarry(Assembler& code, const CodeContext& context) {
  code.bt(code.word[code.At(context.flags)], 8);
}

DirectAccess EmitTouchBell(Assembler& code, const CodeContext& context, const CodeSpace& space,
                           CodeSpace::Offset stub) {
  const CodeSpace::Offset begin = space.OffsetOf(code);
  code.mov(code.dword[code.At(*context.bell)], code.r10d);
  return {begin, space.OffsetOf(code), stub};
}

void EmitComparePage(Assembler& code, const CodeContext& context, int32_t distance, unsigned page) {
  code.mov(code.r10, code.ptr[code.At(context.state.page)]);
  code.mov(code.r11, code.ptr[code.At(context.jumps)]);
  code.add(code.r10, static_cast<uint32_t>(distance));
  code.cmp(code.r10, code.ptr[code.r11 + static_cast<int>(PageDisplacement(page))]);
}

void EmitFindTarget(Assembler& code, const CodeContext& context) {
  static_assert(JumpTable::kSpread == 3);
  code.lea(code.r11d, code.ptr[code.r10 + code.r10 * 2]);
  code.and_(code.r11d, JumpTable::kIndexMask);
  code.add(code.r11, code.ptr[code.At(context.jumps)]);
}

void EmitJumpToTarget(Assembler& code, const CodeContext& context) {
  code.and_(code.r10, static_cast<int>(~(vmm::kPageSize - 1)));
  code.mov(code.ptr[code.At(context.state.page)], code.r10);
  code.jmp(code.ptr[code.r11 + offsetof(JumpTarget, code)]);
}

Stubs Stubs::Emit(CodeSpace& space, const CodeContext& context, LeaveOut leave_out) {
  CHECK(space.Prepare(CodeSpace::kMostAtOnce));
  Assembler& code = space.hot();
  Stubs stubs;
  const CodeSpace::Offset enter = space.OffsetOf(code);
  stubs.enter = reinterpret_cast<void (*)(const uint8_t*)>(space.run(enter));
  EmitEnter(code, context);
  const CodeSpace::Offset drop_vectors = space.OffsetOf(code);
  EmitDropVectors(code, context);
  stubs.load_vectors = space.OffsetOf(code);
  EmitLoadVectors(code, context, space, drop_vectors);
  stubs.load_x87 = space.OffsetOf(code);
  EmitLoadX87(code, context, space, stubs.load_vectors);
  Xbyak::Label leave;
  stubs.indirect = space.OffsetOf(code);
  EmitIndirect(code, context, leave);
  stubs.jump = space.OffsetOf(code);
  EmitJumpAnywhere(code, context, space, stubs.indirect);
  stubs.leave = space.OffsetOf(code);
  code.L(leave);
  EmitStoreRegisters(code, context);
  EmitDropX87(code, context);
  EmitCall(code, space, drop_vectors);
  EmitReturn(code, context);
  stubs.run_site = space.OffsetOf(code);
  EmitRunSite(code, context, space, drop_vectors, stubs.jump);
  for (unsigned i = 0; i < stubs.repeat.size(); ++i) {
    stubs.repeat[i] = space.OffsetOf(code);
    EmitRepeat(code, context, space, stubs.run_site, i, leave_out);
  }
  EmitSystemStubs(space, context, stubs);
  return stubs;
}

}  // namespace bt
