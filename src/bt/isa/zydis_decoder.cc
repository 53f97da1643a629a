#include "bt/isa/zydis_decoder.h"

namespace bt {
namespace {

struct Decoders {
  ZydisDecoder by_size[3];
  Decoders() {
    ZydisDecoderInit(&by_size[0], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    ZydisDecoderInit(&by_size[1], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    ZydisDecoderInit(&by_size[2], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (ZydisDecoder& decoder : by_size) {
      // What the CPUs that we model execute: CET and MPX encodings are NOPs, LZCNT and TZCNT exist.
      ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_KNC, ZYAN_FALSE);
      ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
      ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
      ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
      // REX-prefixed near branches ignore 66 in 64-bit mode on Intel; AMD honours it. [SDM
      // 2A] 2.2.1.3
      ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, ZYAN_FALSE);
    }
  }
};

}  // namespace

const ZydisDecoder& ZydisDecoderFor(CodeSize size) {
  static const Decoders decoders;
  return decoders.by_size[static_cast<unsigned>(size)];
}

}  // namespace bt
