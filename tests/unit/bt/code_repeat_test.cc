// REP MOVS and REP STOS in translated code, run on this processor: what the stubs do themselves,
// and what they leave to the interpreter.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <vector>

#include "code_workshop.h"

using bt::LeaveOut;

namespace {

constexpr unsigned kRax = 0, kRcx = 1, kRsi = 6, kRdi = 7;
constexpr uint64_t kSource = 0x7f0000404000, kTarget = 0x7f0000911000;  // pages of the guest

// Two pages for each operand, of which the second is not in the TLB.
class Machine {
 public:
  explicit Machine(LeaveOut leave_out = LeaveOut::kNothing) : workshop_(leave_out) {
    auto& around = workshop_.around;
    around.tlb = bank_.get();
    around.rflags = 2;
    around.state.self = reinterpret_cast<uint64_t>(this);
    around.state.run_site = reinterpret_cast<uint64_t>(&RunSite);
    around.state.host_mxcsr = 0x1f80;
    std::mt19937 random(1);
    std::generate(source.begin(), source.end(), random);
    std::generate(target.begin(), target.end(), random);
    for (uint64_t& reg : around.r) reg = random();
    bank_->SetRead(kSource, reinterpret_cast<uint64_t>(source.data()));
    bank_->SetWrite(kTarget, reinterpret_cast<uint64_t>(target.data()));
  }
  uint64_t& reg(unsigned index) { return workshop_.around.r[index]; }
  bt::TlbBank& bank() { return *bank_; }
  void SetDirection() { workshop_.around.rflags |= bt::eflags::DF; }

  // True: it was done. False: the interpreter was asked.
  bool Run(bool movs, unsigned shift) {
    std::vector<uint8_t> code{0xf3};
    if (shift == 1) code.push_back(0x66);
    if (shift == 3) code.push_back(0x48);
    code.push_back(static_cast<uint8_t>((movs ? 0xa4 : 0xaa) + (shift ? 1 : 0)));
    const CodeWorkshop::Emitted emitted = workshop_.Translate(code);
    REQUIRE(workshop_.Verify(emitted) == "");
    asked_ = false;
    const auto entry = emitted.translation.from(bt::FlagHome::kMemory);
    workshop_.stubs.enter(workshop_.space.run(entry));
    return !asked_;
  }

  std::array<uint8_t, 8192> source, target;

 private:
  static bool RunSite(Machine* self, uint32_t) noexcept {
    self->asked_ = true;
    return false;
  }

  CodeWorkshop workshop_;
  std::unique_ptr<bt::TlbBank> bank_ = std::make_unique<bt::TlbBank>();
  bool asked_ = false;
};

}  // namespace

TEST_CASE("REP MOVS and REP STOS inside a page are done without the interpreter", "[repeat]") {
  Machine machine;
  for (bool movs : {false, true}) {
    for (unsigned shift = 0; shift < 4; ++shift) {
      for (unsigned bytes : {0u, 8u, 24u, 512u, 4096u}) {
        for (unsigned offset : {0u, 8u, 1000u, 4096 - bytes}) {
          if (offset + bytes > 4096 || offset > 4095) continue;
          machine.reg(kRcx) = bytes >> shift;
          machine.reg(kRsi) = kSource + 4096 - std::max(bytes, 1u);
          machine.reg(kRdi) = kTarget + offset;
          const std::array<uint8_t, 8192> source = machine.source;
          std::array<uint8_t, 8192> expected = machine.target;
          for (unsigned i = 0; i < bytes; ++i) {
            expected[offset + i] =
                movs ? machine.source[4096 - bytes + i]
                     : static_cast<uint8_t>(machine.reg(kRax) >> (i % (1u << shift)) * 8);
          }
          std::array<uint64_t, 16> registers;
          for (unsigned i = 0; i < 16; ++i) registers[i] = machine.reg(i);
          REQUIRE(machine.Run(movs, shift));
          CHECK(machine.target == expected);
          CHECK(machine.source == source);
          registers[kRcx] = 0;
          registers[kRdi] += bytes;
          if (movs) registers[kRsi] += bytes;
          for (unsigned i = 0; i < 16; ++i) CHECK(machine.reg(i) == registers[i]);
        }
      }
    }
  }
}

TEST_CASE("REP MOVS to a little further on repeats what it copied", "[repeat]") {
  Machine machine;
  machine.bank().SetRead(kTarget, reinterpret_cast<uint64_t>(machine.target.data()));
  std::array<uint8_t, 8192> expected = machine.target;
  for (unsigned i = 0; i < 100; ++i) expected[103 + i] = expected[100 + i];
  machine.reg(kRcx) = 100;
  machine.reg(kRsi) = kTarget + 100;
  machine.reg(kRdi) = kTarget + 103;
  REQUIRE(machine.Run(true, 0));
  CHECK(machine.target == expected);
}

TEST_CASE("REP MOVS and REP STOS leave what may fault or takes long to the interpreter",
          "[repeat]") {
  const auto asks = [](bool movs, unsigned shift, auto&& prepare) {
    Machine machine;
    machine.reg(kRcx) = 16;
    machine.reg(kRsi) = kSource + 64;
    machine.reg(kRdi) = kTarget + 64;
    prepare(machine);
    const std::array<uint8_t, 8192> source = machine.source, target = machine.target;
    std::array<uint64_t, 16> registers;
    for (unsigned i = 0; i < 16; ++i) registers[i] = machine.reg(i);
    const bool asked = !machine.Run(movs, shift);
    if (!asked) return false;
    CHECK(machine.source == source);
    CHECK(machine.target == target);
    for (unsigned i = 0; i < 16; ++i) CHECK(machine.reg(i) == registers[i]);
    return true;
  };
  for (unsigned shift = 0; shift < 4; ++shift) {
    const unsigned size = 1u << shift;
    for (bool movs : {false, true}) {
      CHECK_FALSE(asks(movs, shift, [](Machine&) {}));
      CHECK(asks(movs, shift, [](Machine& m) { m.SetDirection(); }));
      CHECK(asks(movs, shift, [&](Machine& m) { m.reg(kRdi) = kTarget + 4096 - 16 * size + 1; }));
      CHECK(asks(movs, shift, [](Machine& m) { m.reg(kRdi) = kTarget + 4096; }));
      CHECK(asks(movs, shift, [](Machine& m) { m.reg(kRdi) = kTarget - 1; }));
      CHECK(asks(movs, shift, [](Machine& m) { m.reg(kRdi) |= 1ull << 63; }));
      CHECK(asks(movs, shift, [](Machine& m) { m.reg(kRdi) = kSource; }));  // may be read only
      CHECK(asks(movs, shift, [](Machine& m) { m.reg(kRcx) = 4097; }));
      CHECK(asks(movs, shift, [](Machine& m) { m.reg(kRcx) = 1ull << 62; }));
      CHECK(asks(movs, shift, [](Machine& m) { m.reg(kRcx) = (1ull << 32) + 1; }));
    }
    CHECK(asks(true, shift, [&](Machine& m) { m.reg(kRsi) = kSource + 4096 - 16 * size + 1; }));
    CHECK(asks(true, shift, [](Machine& m) { m.reg(kRsi) = kSource + 4096; }));
    CHECK(asks(true, shift, [](Machine& m) { m.reg(kRsi) = kTarget; }));  // may be written only
  }
}

TEST_CASE("a stub that forgets the end of the page is noticed", "[repeat]") {
  for (bool movs : {false, true}) {
    Machine machine(LeaveOut::kRepeat);
    machine.reg(kRcx) = 16;
    machine.reg(kRsi) = kSource + 4090;
    machine.reg(kRdi) = kTarget + 4090;
    CHECK(machine.Run(movs, 0));
  }
}
