#include "exclusions.h"

#include <algorithm>

namespace difftest {

using bt::Mnemonic;

const char* WhyExcluded(Mnemonic mnemonic) {
  switch (mnemonic) {
    case Mnemonic::CPUID:
    case Mnemonic::XGETBV:
      return "the guest's answer differs from the host's by design";
    case Mnemonic::RDTSC:
    case Mnemonic::RDTSCP:
    case Mnemonic::RDPID:
    case Mnemonic::RDRAND:
    case Mnemonic::RDSEED:
      return "gives another value each time";
    case Mnemonic::RDPMC:
      return "depends on the host's CR4.PCE";
    case Mnemonic::SGDT:
    case Mnemonic::SIDT:
    case Mnemonic::SLDT:
    case Mnemonic::STR:
    case Mnemonic::SMSW:
      return "shows the host's system registers";
    case Mnemonic::LAR:
    case Mnemonic::LSL:
    case Mnemonic::VERR:
    case Mnemonic::VERW:
    case Mnemonic::LDS:
    case Mnemonic::LES:
    case Mnemonic::LFS:
    case Mnemonic::LGS:
    case Mnemonic::LSS:
      return "reads the host's descriptor tables; tests/conformance has it";
    case Mnemonic::RDFSBASE:
    case Mnemonic::RDGSBASE:
    case Mnemonic::WRFSBASE:
    case Mnemonic::WRGSBASE:
      return "the test program's own thread pointer; tests/conformance has it";
    case Mnemonic::INT:
    case Mnemonic::INT1:
    case Mnemonic::INT3:
    case Mnemonic::INTO:
    case Mnemonic::IRET:
    case Mnemonic::IRETD:
    case Mnemonic::IRETQ:
    case Mnemonic::SYSCALL:
    case Mnemonic::SYSENTER:
    case Mnemonic::SYSEXIT:
    case Mnemonic::SYSRET:
      return "enters the host's kernel; tests/conformance has it";
    case Mnemonic::VMCALL:
    case Mnemonic::VMMCALL:
      return "calls the host's hypervisor, if it runs under one";
    case Mnemonic::MONITOR:
    case Mnemonic::MWAIT:
      return "not offered to guests: #UD";
    case Mnemonic::PREFETCHWT1:
    case Mnemonic::CLDEMOTE:
      return "a hint without a feature bit of ours: a NOP";
    case Mnemonic::UD0:
      return "has a ModRM byte on Intel and none on AMD";
    default:
      return nullptr;
  }
}

const char* WhyExcluded(const bt::Insn& insn) {
  if (const char* why = WhyExcluded(insn.mnemonic)) return why;
  bool memory = false;
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const bt::Operand& operand = insn.operand[i];
    memory |= operand.kind == bt::OperandKind::kMem;
    if (operand.reg_class == bt::RegClass::kSegment)
      return "reads the host's descriptor tables; tests/conformance has it";
    if (operand.kind == bt::OperandKind::kFar)
      return "reads the host's descriptor tables; tests/conformance has it";
  }
  const bool branch = insn.mnemonic == Mnemonic::JMP || insn.mnemonic == Mnemonic::CALL ||
                      insn.mnemonic == Mnemonic::RET;
  const uint8_t reg = insn.modrm_offset ? (insn.bytes[insn.modrm_offset] >> 3) & 7 : 0;
  if (branch && (insn.opcode == 0xca || insn.opcode == 0xcb ||
                 (insn.opcode == 0xff && (reg == 3 || reg == 5)))) {
    return "reads the host's descriptor tables; tests/conformance has it";
  }
  const bool near = branch || (insn.opcode_map == 0 && (insn.opcode >> 4) == 7) ||
                    (insn.opcode_map == 1 && (insn.opcode >> 4) == 8) ||
                    (insn.opcode_map == 0 && insn.opcode >= 0xe0 && insn.opcode <= 0xe3);
  const bool prefix66 = std::find(insn.bytes.begin(), insn.bytes.begin() + insn.length, 0x66) !=
                        insn.bytes.begin() + insn.length;
  if (near && !insn.has_vex && prefix66 && insn.code_size == bt::CodeSize::k64)
    return "AMD honours the prefix 66 of a near branch in 64-bit mode, Intel does not";
  if ((insn.mnemonic == Mnemonic::LOOPE || insn.mnemonic == Mnemonic::LOOPNE) &&
      (insn.rep || insn.repne)) {
    return "a repeat prefix is reserved here; on AMD it decides the condition";
  }
  if (insn.has_vex && insn.rex_w && insn.code_size != bt::CodeSize::k64 &&
      (insn.mnemonic == Mnemonic::VPINSRD || insn.mnemonic == Mnemonic::VPEXTRD)) {
    return "VEX.W outside 64-bit mode is #UD on AMD and ignored on Intel";
  }
  if (insn.address_bits == 16 &&
      (insn.mnemonic == Mnemonic::MASKMOVQ || insn.mnemonic == Mnemonic::MASKMOVDQU ||
       insn.mnemonic == Mnemonic::VMASKMOVDQU)) {
    return "always faults, and which of the masked bytes is reported differs";
  }
  if (insn.mem.segment >= 4 && memory) return "FS and GS have the test program's own bases";
  if (insn.string_segment >= 4) return "FS and GS have the test program's own bases";
  if (insn.opcode_map == 1 && insn.opcode == 0x0d && !memory)
    return "PREFETCHW's group with a register is #UD on AMD and a NOP on Intel";
  return nullptr;
}

}  // namespace difftest
