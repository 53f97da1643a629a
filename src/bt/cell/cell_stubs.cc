#include "bt/cell/cell_stubs.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <utility>

#include "bt/interp/fpu.h"
#include "vmm/core/base/check.h"

namespace bt {
namespace {

constexpr uint64_t kUserEnd = 0x7ffffffff000;  // of every x86-64 Linux; nothing is mapped beyond

void EmitUnmap(Assembler& code, uint64_t begin, uint64_t end) {
  code.mov(code.eax, SYS_munmap);
  code.mov(code.rdi, begin);
  code.mov(code.rsi, end - begin);
  code.syscall();
}

void EmitFutex(Assembler& code, CellState& state, int operation, uint32_t value) {
  code.mov(code.eax, SYS_futex);
  code.lea(code.rdi, code.ptr[code.At(state.turn)]);
  code.mov(code.esi, operation);
  code.mov(code.edx, value);
  code.xor_(code.r10d, code.r10d);
  code.syscall();
}

// Gives the turn to the monitor, waits for it, and makes the calls that the monitor asks for.
void EmitHandOver(Assembler& code, CellState& state) {
  constexpr auto kMonitor = static_cast<uint32_t>(CellState::Turn::kMonitor);
  Xbyak::Label begin, wait, go, next, done;
  code.L(begin);
  code.mov(code.dword[code.At(state.turn)], kMonitor);
  EmitFutex(code, state, FUTEX_WAKE, 1);
  code.L(wait);
  code.cmp(code.dword[code.At(state.turn)], kMonitor);
  code.jne(go);
  EmitFutex(code, state, FUTEX_WAIT, kMonitor);
  code.jmp(wait);
  code.L(go);
  code.mov(code.ebx, code.dword[code.At(state.calls)]);
  code.lea(code.r12, code.ptr[code.At(state.call)]);
  code.L(next);
  code.test(code.ebx, code.ebx);
  code.jz(done);
  const auto argument = [&](unsigned i) {
    return code.ptr[code.r12 + static_cast<int>(offsetof(CellState::Call, argument) + 8 * i)];
  };
  code.mov(code.rax, code.ptr[code.r12 + static_cast<int>(offsetof(CellState::Call, number))]);
  code.mov(code.rdi, argument(0));
  code.mov(code.rsi, argument(1));
  code.mov(code.rdx, argument(2));
  code.mov(code.r10, argument(3));
  code.mov(code.r8, argument(4));
  code.mov(code.r9, argument(5));
  code.syscall();
  code.mov(code.ptr[code.r12 + static_cast<int>(offsetof(CellState::Call, result))], code.rax);
  code.add(code.r12, sizeof(CellState::Call));
  code.dec(code.ebx);
  code.jmp(next);
  code.L(done);
  code.cmp(code.qword[code.At(state.entry)], 0);
  code.je(begin, Assembler::T_NEAR);
  code.ret();
}

// Not the guest's, which RSP points to while its code runs.
void EmitOwnStack(Assembler& code, CellState& state) {
  code.lea(code.rsp,
           code.ptr[code.At(reinterpret_cast<uint8_t*>(&state)[CellLayout::kStateBytes / 2])]);
}

// All of them, whatever the guest uses. FIP and FDP in memory are the guest's, those of the
// processor belong to translated code.
void EmitStoreVectors(Assembler& code, const CodeContext& context) {
  code.mov(code.r10, code.ptr[code.At(context.fpu[FpuState::kFip])]);
  code.mov(code.r11, code.ptr[code.At(context.fpu[FpuState::kFdp])]);
  code.movzx(code.eax, code.word[code.At(context.fpu[FpuState::kFop])]);
  code.fxsave64(context.fpu);
  code.mov(code.ptr[code.At(context.fpu[FpuState::kFip])], code.r10);
  code.mov(code.ptr[code.At(context.fpu[FpuState::kFdp])], code.r11);
  code.mov(code.word[code.At(context.fpu[FpuState::kFop])], code.ax);
  EmitStoreVectorRegisters(code, context);
}

void EmitLoadVectors(Assembler& code, const CodeContext& context) {
  code.fxrstor64(context.fpu);
  EmitLoadVectorRegisters(code, context);
}

int OfContext(int reg) {
  return static_cast<int>(offsetof(ucontext_t, uc_mcontext.gregs) + 8 * static_cast<size_t>(reg));
}

}  // namespace

CellStubs EmitCellStubs(CodeSpace& space, const CodeContext& context, CellState& state,
                        uint64_t whole, uint64_t bytes) {
  CHECK(space.Prepare(CodeSpace::kMostAtOnce));
  Assembler& code = space.hot();
  CellStubs all;
  const CodeSpace::Offset hand_over = space.OffsetOf(code);
  EmitHandOver(code, state);

  Xbyak::Label leave;
  all.stubs.indirect = space.OffsetOf(code);
  EmitIndirect(code, context, leave);
  all.stubs.leave = space.OffsetOf(code);
  code.L(leave);
  EmitStoreRegisters(code, context);
  EmitOwnStack(code, state);
  EmitStoreVectors(code, context);
  code.mov(code.dword[code.At(state.event)], static_cast<uint32_t>(CellState::Event::kLeft));
  const CodeSpace::Offset loop = space.OffsetOf(code);
  EmitCall(code, space, hand_over);
  EmitLoadVectors(code, context);
  EmitLoadRegisters(code, context);
  code.jmp(code.ptr[code.At(state.entry)]);

  all.main = space.OffsetOf(code);
  EmitOwnStack(code, state);
  EmitUnmap(code, 0, whole);
  EmitUnmap(code, whole + bytes, kUserEnd);
  code.db(0xe9);
  code.dd(0);
  space.PatchJump(space.OffsetOf(code) - 4, loop);

  // (signal, siginfo, ucontext). The vector registers are in its frame meanwhile.
  all.fault = space.OffsetOf(code);
  code.mov(code.r13, code.rdx);
  const std::pair<int, uint64_t*> facts[] = {{REG_RIP, &state.fault_rip},
                                             {REG_CR2, &state.fault_address},
                                             {REG_TRAPNO, &state.fault_vector},
                                             {REG_ERR, &state.fault_error}};
  for (const auto& [reg, to] : facts) {
    code.mov(code.rax, code.ptr[code.r13 + OfContext(reg)]);
    code.mov(code.ptr[code.At(*to)], code.rax);
  }
  code.mov(code.dword[code.At(state.event)], static_cast<uint32_t>(CellState::Event::kFault));
  EmitCall(code, space, hand_over);
  code.mov(code.rax, code.ptr[code.At(state.entry)]);
  code.mov(code.ptr[code.r13 + OfContext(REG_RIP)], code.rax);
  code.ret();
  all.restore = space.OffsetOf(code);
  code.mov(code.eax, SYS_rt_sigreturn);
  code.syscall();
  return all;
}

}  // namespace bt
