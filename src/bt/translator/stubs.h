// Code that all blocks share: the way in, the ways out, indirect jumps.
#pragma once

#include "bt/interp/cpu.h"
#include "bt/translator/translation.h"

namespace bt {

// What of the processor translated code touches.
struct CodeContext {
  uint64_t* r;
  Flags& flags;
  TlbBank*& tlb;
  uint64_t* seg_base;
  uint64_t& key;
  std::atomic<uint32_t>& attention;
  CodeState& state;
};

struct Stubs {
  void (*enter)(const uint8_t* code) = nullptr;  // loads the registers, jumps
  CodeSpace::Offset leave = 0;     // jumped to: stores the registers, returns to enter()'s caller
  CodeSpace::Offset run_site = 0;  // called with the site in R10: the interpreter runs it
  CodeSpace::Offset indirect = 0;  // jumped to with the linear target in R10, flags in memory

  static Stubs Emit(CodeSpace& space, const CodeContext& context);
};

// Moves the arithmetic flags between the host's and Cpu::flags_. Destroys kTemp1.
void EmitSaveFlags(Assembler& code, const CodeContext& context);
void EmitRestoreFlags(Assembler& code, const CodeContext& context);

}  // namespace bt
