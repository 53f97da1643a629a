// Random instructions, the interpreter against the host CPU: registers, defined flags, vector and
// x87 state, memory, fault kind and error code must agree.
//
//   differential_test [--cases N] [--seed S] [--first N]
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>

#include "bt/isa/decoder.h"
#include "generator.h"
#include "guest_cpu.h"
#include "native_cpu.h"

namespace {

using difftest::Case;
using difftest::Outcome;
using difftest::Registers;

constexpr uint64_t kArithmeticFlags = 0x8d5;

struct Difference {
  std::string text;
  void Add(const char* what, uint64_t native, uint64_t guest) {
    char line[128];
    std::snprintf(line, sizeof(line), "  %-8s native %016" PRIx64 "  interpreter %016" PRIx64 "\n",
                  what, native, guest);
    text += line;
  }
};

void CompareFpu(const Registers& native, const Registers& guest, Difference& difference) {
  const auto word = [](const Registers& registers, unsigned offset, unsigned size) {
    uint64_t value = 0;
    std::memcpy(&value, registers.fx.data() + offset, size);
    return value;
  };
  const auto compare = [&](const char* what, unsigned offset, unsigned size) {
    const uint64_t a = word(native, offset, size), b = word(guest, offset, size);
    if (a != b) difference.Add(what, a, b);
  };
  compare("fcw", 0, 2);
  compare("fsw", 2, 2);
  compare("ftw", 4, 1);
  compare("mxcsr", 24, 4);
  for (unsigned i = 0; i < 8; ++i) {
    compare("st low", 32 + 16 * i, 8);
    compare("st high", 32 + 16 * i + 8, 2);
  }
  for (unsigned i = 0; i < 32; ++i) compare(i & 1 ? "xmm high" : "xmm low", 160 + 8 * i, 8);
}

Difference Compare(const Case& test, const Outcome& a, const Outcome& b, const Registers& native,
                   const Registers& guest) {
  Difference difference;
  if (a.faulted != b.faulted) difference.Add("faulted", a.faulted, b.faulted);
  if (a.vector != b.vector) difference.Add("vector", a.vector, b.vector);
  if (a.error != b.error) difference.Add("error", a.error, b.error);
  if (a.cr2 != b.cr2) difference.Add("cr2", a.cr2, b.cr2);
  for (unsigned i = 0; i < 16; ++i) {
    char name[8];
    std::snprintf(name, sizeof(name), "gpr %u", i);
    if (native.gpr[i] != guest.gpr[i]) difference.Add(name, native.gpr[i], guest.gpr[i]);
  }
  uint64_t mask = (kArithmeticFlags | 0x400) & ~static_cast<uint64_t>(test.insn.undefined_flags);
  if ((native.rflags ^ guest.rflags) & mask)
    difference.Add("flags", native.rflags & mask, guest.rflags & mask);
  CompareFpu(native, guest, difference);
  return difference;
}

void Describe(const Case& test, uint64_t number) {
  std::printf("case %" PRIu64 ": %s:", number, bt::MnemonicName(test.insn.mnemonic));
  for (uint8_t byte : test.code) std::printf(" %02x", byte);
  std::printf("\n");
}

uint64_t Argument(int argc, char** argv, const char* name, uint64_t fallback) {
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], name) == 0) return std::strtoull(argv[i + 1], nullptr, 0);
  }
  return fallback;
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t cases = Argument(argc, argv, "--cases", 1'000'000);
  const uint64_t seed = Argument(argc, argv, "--seed", 1);
  const uint64_t most = Argument(argc, argv, "--most", 20);
  difftest::NativeCpu native;
  difftest::GuestCpu guest;
  difftest::Generator generator(seed);
  std::set<uint64_t> forms;
  std::mt19937_64 filler(seed);
  for (size_t i = 0; i < native.writable().size(); ++i)
    native.writable()[i] = guest.writable()[i] = static_cast<uint8_t>(filler());
  for (size_t i = 0; i < native.read_only().size(); ++i)
    native.read_only()[i] = guest.read_only()[i] = static_cast<uint8_t>(filler());

  uint64_t mismatches = 0, faults = 0;
  for (uint64_t i = 0; i < cases; ++i) {
    const Case test = generator.Next();
    forms.insert(difftest::Generator::FormOf(test.insn));
    Registers on_host = test.registers, on_guest = test.registers;
    const Outcome a = native.Run(test.code, on_host);
    const Outcome b = guest.Run(test.code, on_guest);
    faults += a.faulted;
    uint32_t mxcsr;
    std::memcpy(&mxcsr, on_host.fx.data() + 24, 4);
    if (mxcsr & 0x20000) continue;  // AMD's MXCSR.MM: offered to no guest, so #GP there
    Difference difference = Compare(test, a, b, on_host, on_guest);
    if (!std::ranges::equal(native.writable(), guest.writable())) {
      for (size_t at = 0; at < native.writable().size(); ++at) {
        if (native.writable()[at] == guest.writable()[at]) continue;
        difference.Add("memory", native.writable()[at], guest.writable()[at]);
        difference.Add("  at", at, at);
        break;
      }
      std::ranges::copy(native.writable(), guest.writable().begin());
    }
    if (difference.text.empty()) continue;
    if (++mismatches <= most) {
      Describe(test, i);
      std::printf("%s", difference.text.c_str());
    }
  }
  std::printf("differential: %" PRIu64 " cases, %zu forms, %" PRIu64 " faults, %" PRIu64
              " mismatches (seed %" PRIu64 ")\n",
              cases, forms.size(), faults, mismatches, seed);
  return mismatches == 0 ? 0 : 1;
}
