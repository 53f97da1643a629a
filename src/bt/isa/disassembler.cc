#include "bt/isa/disassembler.h"

#include <fmt/format.h>

#include "bt/isa/zydis_decoder.h"

namespace bt {

std::string Disassemble(std::span<const uint8_t> code, uint64_t address) {
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  std::string lines;
  for (size_t at = 0; at < code.size();) {
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    char text[256];
    const bool good =
        ZYAN_SUCCESS(ZydisDecoderDecodeFull(&ZydisDecoderFor(CodeSize::k64), code.data() + at,
                                            code.size() - at, &insn, operands)) &&
        ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &insn, operands,
                                                     insn.operand_count_visible, text, sizeof(text),
                                                     address + at, nullptr));
    lines += fmt::format("  {:#x}  {}\n", address + at,
                         good ? std::string(text) : fmt::format("db {:#04x}", code[at]));
    at += good ? insn.length : 1;
  }
  return lines;
}

}  // namespace bt
