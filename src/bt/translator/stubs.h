// Code that all blocks share: the way in, the ways out, calls of the run-time.
#pragma once

#include <algorithm>
#include <array>

#include "bt/interp/cpu.h"
#include "bt/translator/jump_tables.h"
#include "bt/translator/translation.h"

namespace bt {

// What of the processor translated code touches.
struct CodeContext {
  uint64_t* r;
  Flags& flags;
  TlbBank*& tlb;
  uint64_t* seg_base;
  uint64_t& lookup_key;  // is that of Cpu::keys_ for the present CPL
  std::atomic<uint32_t>& attention;
  CodeState& state;
  uint64_t& jumps;  // address of the JumpTable of the running key
  uint64_t& cr0;
  uint64_t& cr4;
  uint64_t& xcr0;
  uint64_t& rflags;
  uint8_t& cpl;
  uint8_t* fpu;  // XSAVE area in standard form
  vmm::CpuState::Msrs& msr;
  uint64_t& efer;
  vmm::SegmentState* seg;
  View& view;
  TlbBank** views;
  uint64_t* keys;
  uint64_t& instructions;
  uint64_t& turn_end;
  // The code is a user's and runs where memory is at its linear address: nothing is looked up, a
  // fault of the host's tells what the guest may not.
  bool direct = false;
  // Such code writes to it where a loop may come by: its page is gone while attention is set.
  uint32_t* bell = nullptr;
};

// A kind of check that tests leave out, to see that somebody notices.
enum class LeaveOut : uint8_t {
  kNothing,
  kRead,
  kWrite,     // writes are checked as reads
  kCrossing,  // of the end of the page
  kRange,     // whether an address is in the range of a kernel's
  kAlignment,
  kFlags,      // are not saved
  kRecipe,     // flags that were not saved are not made once more
  kRegisters,  // vector and x87: not loaded
  kTarget,     // of an indirect jump: not compared with the table's
  kTail,       // of a block: its page is not looked for
  kCanonical,  // of an indirect call's target: the verifier is blind to it, long_mode is not
  kSpanEnd,    // the last byte of a span is not looked up
  kSpanWrite,  // spans are checked as if nobody wrote to them
  kSpanKept,   // although C++ ran since they were checked
  kBorrow,     // registers for the homeless ones are not borrowed, but given back
  kBitNumber,  // of a locked bit instruction: may lead out of what was looked up
  kRepeat,     // of the end of the page by the stubs of REP: the verifier does not see them
};

struct Stubs {
  void (*enter)(const uint8_t* code) = nullptr;  // loads the registers, jumps
  CodeSpace::Offset leave = 0;     // jumped to: stores the registers, returns to enter()'s caller
  CodeSpace::Offset run_site = 0;  // called with the site in R10: the interpreter runs it
  // Jumped to, flags in memory, with the linear target in R10, an entry of the table in R11 that is
  // not its own, and CodeState::site set: goes there.
  CodeSpace::Offset indirect = 0;
  // Jumped to, flags in memory, with the linear target in R10 and CodeState::site set: looks for
  // the entry first.
  CodeSpace::Offset jump = 0;
  // Called, flags in memory: loads the vector registers. R10: the VectorUse that the guest may make
  // of them now, which is also in CodeState::vector.
  CodeSpace::Offset load_vectors = 0;
  // The same for x87 registers, which never come without the vector registers.
  CodeSpace::Offset load_x87 = 0;

  // System instructions, the flags in memory. Jumped to with the site in CodeState::site; SYSCALL
  // with the address behind it in R10.
  CodeSpace::Offset syscall = 0, sysret = 0;
  // Called at CPL 0; destroy kTemp0 and kTemp1, and of the flags those of the host.
  CodeSpace::Offset swapgs = 0, stac = 0, clac = 0;

  // Called as run_site: REP STOS and REP MOVS, by RepeatIndex(). They run the site where they have
  // to.
  std::array<CodeSpace::Offset, 8> repeat{};

  // Whether the interpreter may have run when a call of `target` returns.
  bool RunsSite(CodeSpace::Offset target) const {
    return target == run_site || std::find(repeat.begin(), repeat.end(), target) != repeat.end();
  }
  static Stubs Emit(CodeSpace& space, const CodeContext& context,
                    LeaveOut leave_out = LeaveOut::kNothing);
};

bool HostHasAvx();
void EmitCall(Assembler& code, CodeSpace& space, CodeSpace::Offset target);
// The general registers to and from Cpu::r.
void EmitStoreRegisters(Assembler& code, const CodeContext& context);
void EmitLoadRegisters(Assembler& code, const CodeContext& context);
// XMM0 to XMM15 to and from the XSAVE area, and their upper halves if the host has any. Halves that
// are zero stay untouched as the processor knows it: once it has to keep them, each SSE instruction
// waits for the register that it writes, several times as slow. Loading destroys the flags.
// [OPT] 15.3
void EmitStoreVectorRegisters(Assembler& code, const CodeContext& context);
void EmitLoadVectorRegisters(Assembler& code, const CodeContext& context);
// The body of Stubs::indirect; `leave`: that of Stubs::leave.
void EmitIndirect(Assembler& code, const CodeContext& context, Xbyak::Label& leave);

// Moves the arithmetic flags between the host's and Cpu::flags_. Destroys kTemp1.
void EmitSaveFlags(Assembler& code, const CodeContext& context);
// kTemp1 is lost, unless `keep_temp1`.
void EmitRestoreFlags(Assembler& code, const CodeContext& context, bool keep_temp1 = false);
// The carry flag alone, which the host's then has; its others are lost.
void EmitRestoreCarry(Assembler& code, const CodeContext& context);
// Of direct code: the store that finds no page while attention is set, and goes on at `stub` then.
DirectAccess EmitTouchBell(Assembler& code, const CodeContext& context, const CodeSpace& space,
                           CodeSpace::Offset stub);
// From R11, a JumpTable, to where page number `page` is.
constexpr uint32_t PageDisplacement(unsigned page) {
  return static_cast<uint32_t>(offsetof(JumpTable, pages) + page * sizeof(uint64_t));
}
// CodeState::page + `distance` to R10, compared with where page number `page` is. The flags are in
// memory; ZF: it is there.
void EmitComparePage(Assembler& code, const CodeContext& context, int32_t distance, unsigned page);
// The JumpTarget where the linear address in R10 is first looked for to R11.
void EmitFindTarget(Assembler& code, const CodeContext& context);
// To the linear address in R10, the JumpTarget of which R11 points to. The flags are in memory.
void EmitJumpToTarget(Assembler& code, const CodeContext& context);

}  // namespace bt
