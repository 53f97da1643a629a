// Stubs for the system instructions that a kernel lives on: system calls and their kin, without the
// interpreter in everyday cases.
#pragma once

#include "bt/translator/stubs.h"

namespace bt {

// RFLAGS as Cpu::Rflags() has it to kTemp1. The flags are in memory; destroys kTemp0.
void EmitGetFlags(Assembler& code, const CodeContext& context);

// Adds its stubs to `stubs`, which has run_site and indirect.
void EmitSystemStubs(CodeSpace& space, const CodeContext& context, Stubs& stubs);

}  // namespace bt
