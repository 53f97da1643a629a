#include "bt/translator/repeat_stubs.h"

namespace bt {
namespace {

constexpr unsigned kMovs = 4;  // RepeatIndex() of MOVSB; below it STOS, by size

// To R11 the host address of what the guest's register `pointer` points to. Destroys R10.
void EmitLookUp(Assembler& code, const CodeContext& context, const Xbyak::Reg64& pointer,
                unsigned shift, bool write, LeaveOut leave_out, Xbyak::Label& slow) {
  constexpr unsigned kEntries = decltype(TlbBank::read)::kEntries;
  const auto bank =
      static_cast<int>(write ? offsetof(TlbBank, write.entries) : offsetof(TlbBank, read.entries));
  code.mov(code.r10, pointer);
  code.mov(code.r11d, code.r10d);
  code.shr(code.r11d, 8);
  code.and_(code.r11d, (kEntries - 1) << 4);
  code.add(code.r11, code.ptr[code.At(context.tlb)]);
  code.xor_(code.r10, code.ptr[code.r11 + bank]);
  code.cmp(code.r10, static_cast<uint32_t>(vmm::kPageSize - 1));
  code.ja(slow, Assembler::T_NEAR);
  if (leave_out != LeaveOut::kRepeat) {
    code.lea(code.r10, code.ptr[code.r10 + code.rcx * (1 << shift)]);
    code.cmp(code.r10, static_cast<uint32_t>(vmm::kPageSize));
    code.ja(slow, Assembler::T_NEAR);
  }
  code.mov(code.r11, code.ptr[code.r11 + bank + static_cast<int>(offsetof(TlbEntry, page))]);
  code.mov(code.r10d, pointer.cvt32());
  code.and_(code.r10d, static_cast<uint32_t>(vmm::kPageSize - 1));
  code.add(code.r11, code.r10);
}

void EmitString(Assembler& code, bool movs, unsigned shift) {
  code.db(0xf3);
  if (shift == 1) code.db(0x66);
  if (shift == 3) code.db(0x48);
  code.db((movs ? 0xa4 : 0xaa) | (shift == 0 ? 0 : 1));
}

}  // namespace

std::optional<unsigned> RepeatIndex(const Insn& insn) {
  if (!insn.rep || insn.lock || insn.address_bits != 64) return std::nullopt;
  const bool flat = insn.string_segment < static_cast<uint8_t>(vmm::Seg::FS);
  switch (insn.mnemonic) {
    case Mnemonic::STOSB:
      return 0;
    case Mnemonic::STOSW:
      return 1;
    case Mnemonic::STOSD:
      return 2;
    case Mnemonic::STOSQ:
      return 3;
    case Mnemonic::MOVSB:
      return flat ? std::optional(kMovs) : std::nullopt;
    case Mnemonic::MOVSW:
      return flat ? std::optional(kMovs + 1) : std::nullopt;
    case Mnemonic::MOVS_D:
      return flat ? std::optional(kMovs + 2) : std::nullopt;
    case Mnemonic::MOVSQ:
      return flat ? std::optional(kMovs + 3) : std::nullopt;
    default:
      return std::nullopt;
  }
}

// The host's direction flag is always clear; the guest's is in Cpu::rflags_. Nothing is changed
// before it is clear that nothing can stop the instruction.
void EmitRepeat(Assembler& code, const CodeContext& context, CodeSpace& space,
                CodeSpace::Offset run_site, unsigned index, LeaveOut leave_out) {
  const bool movs = index >= kMovs;
  const unsigned shift = index % kMovs;
  Xbyak::Label slow, unreadable;
  code.mov(code.ptr[code.At(context.state.scratch)], code.r10);
  code.test(code.dword[code.At(context.rflags)], static_cast<uint32_t>(eflags::DF));
  code.jnz(slow, Assembler::T_NEAR);
  code.cmp(code.rcx, static_cast<uint32_t>(vmm::kPageSize >> shift));
  code.ja(slow, Assembler::T_NEAR);
  EmitLookUp(code, context, code.rdi, shift, true, leave_out, slow);
  if (movs) {
    code.push(code.r11);
    EmitLookUp(code, context, code.rsi, shift, false, leave_out, unreadable);
    code.pop(code.r10);
    code.sub(code.rdi, code.r10);  // the guest's less the host's
    code.push(code.rdi);
    code.mov(code.rdi, code.r10);
    code.sub(code.rsi, code.r11);
    code.push(code.rsi);
    code.mov(code.rsi, code.r11);
    EmitString(code, movs, shift);
    code.pop(code.r10);
    code.add(code.rsi, code.r10);
    code.pop(code.r10);
    code.add(code.rdi, code.r10);
  } else {
    code.mov(code.r10, code.rdi);
    code.sub(code.r10, code.r11);
    code.mov(code.rdi, code.r11);
    EmitString(code, movs, shift);
    code.add(code.rdi, code.r10);
  }
  code.ret();
  code.L(unreadable);
  if (movs) code.pop(code.r11);
  code.L(slow);
  code.mov(code.r10, code.ptr[code.At(context.state.scratch)]);
  code.db(0xe9);
  code.dd(0);
  space.PatchJump(space.OffsetOf(code) - 4, run_site);
}

}  // namespace bt
