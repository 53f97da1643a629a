#include "bt/translator/system_stubs.h"

#include "bt/interp/flat_segments.h"

namespace bt {
namespace {

constexpr auto kCs = static_cast<unsigned>(vmm::Seg::CS), kSs = static_cast<unsigned>(vmm::Seg::SS),
               kGs = static_cast<unsigned>(vmm::Seg::GS);

void EmitTransfer(Assembler& code, CodeSpace& space, uint8_t opcode, CodeSpace::Offset target) {
  code.db(opcode);
  code.dd(0);
  space.PatchJump(space.OffsetOf(code) - 4, target);
}

// Of kTemp1; what has no place in RFLAGS is left out. Destroys both.
void EmitSetFlags(Assembler& code, const CodeContext& context) {
  code.mov(code.r10d, code.r11d);
  code.and_(code.r10d, static_cast<uint32_t>(eflags::KEPT));
  code.or_(code.r10d, 2);
  code.mov(code.ptr[code.At(context.rflags)], code.r10);
  code.mov(code.r10d, code.r11d);
  code.and_(code.r10d, kArithmeticFlags & 0xff);
  code.shl(code.r10d, 8);
  code.shr(code.r11d, 11);
  code.and_(code.r11d, kOverflow);
  code.or_(code.r11d, code.r10d);
  code.mov(code.word[code.At(context.flags)], code.r11w);
}

// A flat segment with the selector of kTemp1.
void EmitSegment(Assembler& code, const CodeContext& context, unsigned i,
                 const vmm::SegmentState& like) {
  vmm::SegmentState& segment = context.seg[i];
  code.mov(code.word[code.At(segment.selector)], code.r11w);
  code.mov(code.dword[code.At(segment.access)], like.access);
  code.mov(code.dword[code.At(segment.limit)], like.limit);
  code.mov(code.qword[code.At(segment.base)], 0);
  code.mov(code.qword[code.At(context.seg_base[i])], 0);
}

// Between two CPLs of 64-bit code: what Cpu::UpdateMode() would change. Destroys kTemp1.
void EmitPrivilege(Assembler& code, const CodeContext& context, uint8_t cpl) {
  const View view = cpl == 3 ? View::kUser : View::kSupervisor;
  code.mov(code.byte[code.At(context.cpl)], cpl);
  code.mov(code.byte[code.At(context.view)], static_cast<uint8_t>(view));
  code.mov(code.r11, code.ptr[code.At(context.views[static_cast<unsigned>(view)])]);
  code.mov(code.ptr[code.At(context.tlb)], code.r11);
  code.mov(code.r11, code.ptr[code.At(context.keys[cpl == 3])]);
  code.mov(code.ptr[code.At(context.lookup_key)], code.r11);
  code.mov(code.r11, code.ptr[code.At(context.state.tables[cpl == 3])]);
  code.mov(code.ptr[code.At(context.jumps)], code.r11);
}

// To kTemp0, which is a canonical address or else faults there.
void EmitArrive(Assembler& code, CodeSpace& space, const CodeContext& context, const Stubs& stubs) {
  code.mov(code.dword[code.At(context.state.site)], CodeState::kNoSite);
  EmitTransfer(code, space, 0xe9, stubs.jump);
}

// What is out of the ordinary is the interpreter's, and never comes back here.
void EmitOdd(Assembler& code, CodeSpace& space, const CodeContext& context, const Stubs& stubs) {
  code.mov(code.r10d, code.dword[code.At(context.state.site)]);
  EmitTransfer(code, space, 0xe8, stubs.run_site);
  code.ud2();
}

void EmitSyscall(Assembler& code, CodeSpace& space, const CodeContext& context,
                 const Stubs& stubs) {
  Xbyak::Label odd;
  code.test(code.dword[code.At(context.efer)], efer::SCE);
  code.jz(odd, Assembler::T_NEAR);
  code.mov(code.ptr[code.At(context.state.scratch)], code.r10);
  EmitGetFlags(code, context);
  code.and_(code.r11d, ~static_cast<uint32_t>(eflags::RF));
  code.mov(code.r10d, code.dword[code.At(context.msr.sfmask)]);
  code.not_(code.r10d);
  code.and_(code.r10d, code.r11d);
  code.test(code.r10d, eflags::AC);  // another view
  code.jnz(odd, Assembler::T_NEAR);
  code.mov(code.ptr[code.At(context.r[11])], code.r11);
  code.mov(code.r11d, code.r10d);
  EmitSetFlags(code, context);
  code.mov(code.rcx, code.ptr[code.At(context.state.scratch)]);
  const auto* selectors = reinterpret_cast<const uint16_t*>(&context.msr.star);
  code.movzx(code.r11d, code.word[code.At(selectors[2])]);
  code.and_(code.r11d, ~3u);
  EmitSegment(code, context, kCs, FlatCode(0, true, 0));
  code.movzx(code.r11d, code.word[code.At(selectors[2])]);
  code.add(code.r11d, 8);
  EmitSegment(code, context, kSs, FlatData(0, 0));
  EmitPrivilege(code, context, 0);
  code.mov(code.r10, code.ptr[code.At(context.msr.lstar)]);
  EmitArrive(code, space, context, stubs);
  code.L(odd);
  EmitOdd(code, space, context, stubs);
}

void EmitSysret(Assembler& code, CodeSpace& space, const CodeContext& context, const Stubs& stubs) {
  Xbyak::Label odd;
  const auto odd_unless_zero = [&] { code.jnz(odd, Assembler::T_NEAR); };
  code.test(code.dword[code.At(context.efer)], efer::SCE);
  code.jz(odd, Assembler::T_NEAR);
  code.cmp(code.byte[code.At(context.cpl)], 0);
  odd_unless_zero();
  code.mov(code.r10, code.ptr[code.At(context.state.apic)]);
  code.test(code.dword[code.r10], vmm::LocalApic::kDeliverable);
  odd_unless_zero();
  code.mov(code.r10, code.rcx);
  code.shl(code.r10, 16);
  code.sar(code.r10, 16);
  code.cmp(code.r10, code.rcx);
  odd_unless_zero();
  code.mov(code.r11, code.ptr[code.At(context.r[11])]);
  code.test(code.r11d, eflags::TF | eflags::AC);
  odd_unless_zero();
  code.and_(code.r11d, ~static_cast<uint32_t>(eflags::RF | eflags::VM));
  EmitSetFlags(code, context);
  const auto* selectors = reinterpret_cast<const uint16_t*>(&context.msr.star);
  code.movzx(code.r11d, code.word[code.At(selectors[3])]);
  code.add(code.r11d, 16);
  code.or_(code.r11d, 3);
  EmitSegment(code, context, kCs, FlatCode(0, true, 3));
  code.movzx(code.r11d, code.word[code.At(selectors[3])]);
  code.add(code.r11d, 8);
  code.or_(code.r11d, 3);
  EmitSegment(code, context, kSs, FlatData(0, 3));
  EmitPrivilege(code, context, 3);
  code.mov(code.r10, code.rcx);
  EmitArrive(code, space, context, stubs);
  code.L(odd);
  EmitOdd(code, space, context, stubs);
}

void EmitSwapgs(Assembler& code, const CodeContext& context) {
  vmm::SegmentState& gs = context.seg[kGs];
  code.mov(code.r10, code.ptr[code.At(gs.base)]);
  code.mov(code.r11, code.ptr[code.At(context.msr.kernel_gs_base)]);
  code.mov(code.ptr[code.At(context.msr.kernel_gs_base)], code.r10);
  code.mov(code.ptr[code.At(gs.base)], code.r11);
  code.mov(code.ptr[code.At(context.seg_base[kGs])], code.r11);
  code.ret();
}

// STAC or CLAC at CPL 0. Under SMAP it is another view.
void EmitAlignmentFlag(Assembler& code, const CodeContext& context, bool set) {
  Xbyak::Label done;
  const View view = set ? View::kSupervisorAc : View::kSupervisor;
  if (set)
    code.or_(code.dword[code.At(context.rflags)], static_cast<uint32_t>(eflags::AC));
  else
    code.and_(code.dword[code.At(context.rflags)], ~static_cast<uint32_t>(eflags::AC));
  code.test(code.dword[code.At(context.cr4)], cr4::SMAP);
  code.jz(done);
  code.mov(code.byte[code.At(context.view)], static_cast<uint8_t>(view));
  code.mov(code.r11, code.ptr[code.At(context.views[static_cast<unsigned>(view)])]);
  code.mov(code.ptr[code.At(context.tlb)], code.r11);
  code.L(done);
  code.ret();
}

}  // namespace

void EmitGetFlags(Assembler& code, const CodeContext& context) {
  code.movzx(code.r10d, code.word[code.At(context.flags)]);
  code.mov(code.r11d, code.r10d);
  code.and_(code.r11d, kOverflow);
  code.shl(code.r11d, 11);
  code.shr(code.r10d, 8);
  code.and_(code.r10d, kArithmeticFlags & 0xff);
  code.or_(code.r11, code.r10);
  code.or_(code.r11, code.ptr[code.At(context.rflags)]);
}

void EmitSystemStubs(CodeSpace& space, const CodeContext& context, Stubs& stubs) {
  Assembler& code = space.hot();
  stubs.syscall = space.OffsetOf(code);
  EmitSyscall(code, space, context, stubs);
  stubs.sysret = space.OffsetOf(code);
  EmitSysret(code, space, context, stubs);
  stubs.swapgs = space.OffsetOf(code);
  EmitSwapgs(code, context);
  stubs.stac = space.OffsetOf(code);
  EmitAlignmentFlag(code, context, true);
  stubs.clac = space.OffsetOf(code);
  EmitAlignmentFlag(code, context, false);
}

}  // namespace bt
