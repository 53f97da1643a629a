// The guest's vector registers on their way to the host's and back.
#include <cpuid.h>

#include <catch2/catch.hpp>

#include "bt/interp/fpu.h"
#include "tests/unit/bt/code_workshop.h"

namespace {

constexpr uint64_t kAvxState = 4;  // in XINUSE; [SDM 1] 13.6

bool HostTellsXinuse() {
  unsigned eax = 0, ebx, ecx, edx;
  return bt::HostHasAvx() && __get_cpuid_count(0xd, 1, &eax, &ebx, &ecx, &edx) && (eax & 4);
}

// Loads the registers, stores them at once, and returns XINUSE as it was in between.
uint64_t LoadAndStore(CodeWorkshop& workshop, uint8_t first, uint8_t last) {
  uint8_t* fpu = workshop.around.fpu;
  for (unsigned i = 0; i < 256; ++i) {
    fpu[bt::FpuState::kXmm0 + i] = static_cast<uint8_t>(i);
    fpu[bt::FpuState::kYmmHigh0 + i] = 0;
  }
  fpu[bt::FpuState::kYmmHigh0] = first;
  fpu[bt::FpuState::kYmmHigh0 + 255] = last;
  bt::Assembler& code = workshop.space.hot();
  const bt::CodeSpace::Offset begin = workshop.space.OffsetOf(code);
  bt::EmitLoadVectorRegisters(code, workshop.context);
  code.xor_(code.eax, code.eax);
  code.xor_(code.edx, code.edx);
  if (HostTellsXinuse()) {
    code.mov(code.ecx, 1);
    code.xgetbv();
  }
  code.shl(code.rdx, 32);
  code.or_(code.rax, code.rdx);
  code.mov(code.r11, code.rax);
  bt::EmitStoreVectorRegisters(code, workshop.context);
  if (bt::HostHasAvx()) code.vzeroupper();
  code.mov(code.rax, code.r11);
  code.ret();
  const uint64_t in_use = reinterpret_cast<uint64_t (*)()>(workshop.space.run(begin))();
  for (unsigned i = 0; i < 256; ++i) REQUIRE(fpu[bt::FpuState::kXmm0 + i] == i);
  REQUIRE(fpu[bt::FpuState::kYmmHigh0] == first);
  REQUIRE(fpu[bt::FpuState::kYmmHigh0 + 255] == last);
  return in_use;
}

}  // namespace

// A processor that has to keep them makes every SSE instruction wait for its destination: programs
// of the guest were three times as slow for it.
TEST_CASE("upper halves of zeroes leave the AVX state unused", "[code]") {
  CodeWorkshop workshop;
  const uint64_t in_use = LoadAndStore(workshop, 0, 0);
  if (HostTellsXinuse())
    CHECK((in_use & kAvxState) == 0);
  else
    WARN("this processor does not tell which state is in use");
}

TEST_CASE("upper halves that are not zero are loaded", "[code]") {
  for (unsigned which : {1, 2, 3}) {
    CodeWorkshop workshop;
    const uint64_t in_use = LoadAndStore(workshop, which & 1 ? 0x80 : 0, which & 2 ? 1 : 0);
    if (HostTellsXinuse()) CHECK((in_use & kAvxState) != 0);
  }
}
