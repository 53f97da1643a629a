// Translations that another thread makes while the guest runs on, and writes to what they are of.
#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "bt/translator/translator.h"
#include "tests/unit/bt/bare_machine.h"

namespace {

std::unique_ptr<bt::Tier> MakeTier(bt::Cpu& cpu) {
  return std::make_unique<bt::Translator>(cpu);
}

class Machine : public LongModeMachine {
 public:
  static constexpr uint64_t kCode = 0x10000, kStack = 0x20000;

  explicit Machine(vmm::TranslateAside aside)
      : LongModeMachine(3, &MakeTier,
                        [aside](vmm::VmParts& parts) { parts.translate_aside = aside; }) {}

  // From the start of `code` up to its HLT.
  void Run(const Code& code) {
    Store(kCode, code);
    Registers gpr{};
    gpr[4] = kStack;
    cpu().ResetForTest(gpr, kCode, 2, {});
    REQUIRE(cpu().Run().exit == vmm::RunExit::kHalted);
  }
  uint64_t Translated() const { return Counted("translated blocks"); }
};

// For RDX from `rounds` down to 1: writes RDX into an ADD, which RCX rounds of a loop do then.
LongModeMachine::Code Patching(uint8_t inner, uint16_t rounds) {
  const auto low = static_cast<uint8_t>(rounds), high = static_cast<uint8_t>(rounds >> 8);
  return {0xba, low,   high, 0, 0,     // MOV EDX, rounds
          0x89, 0x15,  7,    0, 0, 0,  // MOV [RIP + 7], EDX
          0xb9, inner, 0,    0, 0,     // MOV ECX, inner
          0x48, 0x05,  0,    0, 0, 0,  // ADD RAX, what was written
          0xff, 0xc9,                  // DEC ECX
          0x75, 0xf6,                  // JNZ to ADD
          0xff, 0xca,                  // DEC EDX
          0x75, 0xe7,                  // JNZ to where it is written
          0xf4};                       // HLT
}

}  // namespace

TEST_CASE("code that changes while it is translated aside runs as it is", "[interp][threads]") {
  for (const vmm::TranslateAside aside :
       {vmm::TranslateAside::kNever, vmm::TranslateAside::kAlways}) {
    for (const uint8_t inner : {9, 30, 70, 100, 250}) {
      Machine machine(aside);
      constexpr uint64_t kRounds = 900;
      INFO("inner " << unsigned{inner});
      machine.Run(Patching(inner, kRounds));
      CHECK(machine.cpu().r[0] == inner * (kRounds * (kRounds + 1) / 2));
      CHECK(machine.Translated() >= 1);
    }
  }
}

TEST_CASE("all code goes while some is being translated", "[interp][threads]") {
  for (unsigned i = 0; i < 100; ++i) {
    Machine machine(vmm::TranslateAside::kAlways);
    machine.Run(Patching(40, 3));
    CHECK(machine.cpu().r[0] == 40 * 6);
    vmm::CpuState state;
    REQUIRE(machine.cpu().Save(state).has_value());
    if (i % 2 == 0) REQUIRE(machine.cpu().Load(state).has_value());  // forgets it; else all ends
  }
}
