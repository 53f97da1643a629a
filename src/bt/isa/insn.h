// One decoded guest instruction, as the decoder gives it and every tier of the engine reads it.
#pragma once

#include <array>
#include <cstdint>

#include "bt/isa/feature.h"
#include "bt/isa/insn_use.h"
#include "bt/isa/mnemonic.h"

namespace bt {

enum class CodeSize : uint8_t { k16, k32, k64 };

enum class RegClass : uint8_t {
  kNone,
  kGpr,
  kSegment,
  kControl,
  kDebug,
  kX87,
  kMmx,
  kXmm,
  kYmm,
  kOther
};

enum class OperandKind : uint8_t { kNone, kReg, kMem, kImm, kFar };

// Where the encoding names an operand.
enum class Field : uint8_t { kOther, kModrmReg, kModrmRm, kVexVvvv, kVexIs4 };

struct Operand {
  Field field = Field::kOther;
  OperandKind kind = OperandKind::kNone;
  RegClass reg_class = RegClass::kNone;
  uint8_t reg = 0;    // number within its class; AH CH DH BH are 0-3 with `high`
  bool high = false;  // bits 15:8 of a general register
  bool written = false;
  uint16_t bits = 0;  // operand size
  uint64_t imm = 0;   // sign-extended where the encoding sign-extends; branch displacement for
                      // relative branches

  bool operator==(const Operand&) const = default;
};

struct MemoryOperand {
  static constexpr uint8_t kNoReg = 0xff, kRip = 0xfe;
  uint8_t segment = 3;  // vmm::Seg encoding, override and defaults applied
  uint8_t base = kNoReg, index = kNoReg;
  bool vector_index = false;  // VSIB: `index` numbers an XMM or YMM register
  uint8_t shift = 0;          // log2 of the scale
  int64_t disp = 0;

  bool operator==(const MemoryOperand&) const = default;
};

struct Insn {
  Mnemonic mnemonic = Mnemonic::INVALID;
  Feature feature = Feature::kAlways;
  uint8_t length = 0;        // bytes, 1 to 15
  uint8_t operand_bits = 0;  // effective operand size: 8, 16, 32, 64
  uint8_t address_bits = 0;  // effective address size: 16, 32, 64
  CodeSize code_size = CodeSize::k64;
  bool lock = false, rep = false, repne = false;  // the last of F3 and F2, whatever it means here
  uint8_t string_segment = 3;                     // of DS:rSI, overrides applied
  uint8_t operand_count = 0;                      // those that an assembler shows
  std::array<Operand, 4> operand;
  MemoryOperand mem;          // of the one operand with kind kMem, if any
  uint16_t far_selector = 0;  // of the one operand with kind kFar
  uint32_t far_offset = 0;

  uint32_t undefined_flags = 0;  // EFLAGS bits that the manual leaves undefined after it

  // The encoding, for tiers that copy it.
  std::array<uint8_t, 15> bytes{};
  uint8_t modrm_offset = 0;            // 0 = no ModRM
  uint8_t opcode = 0, opcode_map = 0;  // map 0 = one byte, 1 = 0F, 2 = 0F38, 3 = 0F3A
  bool has_vex = false;
  bool vex_256 = false;          // VEX.L
  uint8_t mandatory_prefix = 0;  // 0, 0x66, 0xF2, 0xF3; of VEX: as VEX.pp implies
  bool rex_w = false;
  uint8_t disp_offset = 0, disp_bytes = 0;  // 0 bytes: none
  uint8_t imm_offset = 0, imm_bytes = 0;    // of the first; `imm_signed`: sign-extended
  bool imm_signed = false;

  InsnUse use;

  bool operator==(const Insn&) const = default;
};

inline const InsnUse& UseOf(const Insn& insn) {
  return insn.use;
}

}  // namespace bt
