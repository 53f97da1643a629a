// The generator's encodings: of a form, of random bytes, and such as must be #UD.
#include <algorithm>

#include "bt/isa/decoder.h"
#include "exclusions.h"
#include "family.h"
#include "generator.h"
#include "vmm/core/base/check.h"

namespace difftest {

using bt::MemoryOperand;

// Random registers, address form and immediate; `stored_reg` keeps ModRM.reg as it was found.
void Generator::EncodeForm(const Form& form, bool stored_reg, std::vector<uint8_t>& code) {
  code = form.prefixes;
  const auto random4 = static_cast<uint8_t>(Below(16));
  if (form.vex) {
    // 64-bit mode: R, X, B and vvvv choose among 16 registers, else among 8. VEX.B does nothing
    // there.
    const unsigned rxb = Is64() ? 7 & random_() : 7;
    const unsigned vvvv = form.vvvv ? (Is64() ? random4 : random4 | 8u) : 15;
    const unsigned tail = vvvv << 3 | (form.vex_256 ? 4 : 0) | form.pp;
    if (form.map == 1 && !form.rex_w && (rxb & 3) == 3 && OneIn(2)) {
      code.push_back(0xc5);
      code.push_back(static_cast<uint8_t>((rxb & 4) << 5 | tail));
    } else {
      code.push_back(0xc4);
      code.push_back(static_cast<uint8_t>(rxb << 5 | form.map));
      code.push_back(static_cast<uint8_t>((form.rex_w ? 0x80 : 0) | tail));
    }
  } else {
    if (Is64() && (form.rex_w || OneIn(2)))
      code.push_back(static_cast<uint8_t>(0x40 | (form.rex_w ? 8 : 0) | (random4 & 7)));
    if (form.map) code.push_back(0x0f);
    if (form.map == 2) code.push_back(0x38);
    if (form.map == 3) code.push_back(0x3a);
  }
  code.push_back(form.opcode);
  if (form.modrm) {
    const unsigned mod = form.memory ? Below(3) : 3;
    const unsigned reg = stored_reg ? form.reg : Below(8);
    unsigned rm = stored_reg && !form.memory ? form.rm : Below(8);
    if (form.sib) rm = 4;
    code.push_back(static_cast<uint8_t>(mod << 6 | reg << 3 | rm));
  }
  while (code.size() < 15) code.push_back(static_cast<uint8_t>(random_()));
}

void Generator::EncodeRandom(std::vector<uint8_t>& code) {
  code.clear();
  static constexpr uint8_t kPrefixes[] = {0x66, 0x66, 0xf2, 0xf3, 0xf0, 0x67};
  while (OneIn(3) && code.size() < 3) code.push_back(kPrefixes[Below(std::size(kPrefixes))]);
  if (Is64() && OneIn(2)) code.push_back(static_cast<uint8_t>(0x40 | Below(16)));
  switch (Below(9)) {
    case 0:
    case 1:
    case 2:
      break;
    case 3:
    case 4:
    case 5:
      code.push_back(0x0f);
      break;
    case 6:
      code.insert(code.end(), {0x0f, 0x38});
      break;
    case 7:
      code.insert(code.end(), {0x0f, 0x3a});
      break;
    default:
      code.insert(code.end(), {0xc4, static_cast<uint8_t>((random_() & 0xe0) | (1 + Below(3)))});
      break;
  }
  while (code.size() < 15) code.push_back(static_cast<uint8_t>(random_()));
}

bool Generator::Decodes(Case& out) {
  if (bt::Decode(out.code, code_size_, out.insn) != bt::DecodeStatus::kOk) return false;
  // A stack pointer chosen for a memory operand would push anywhere.
  const Family family = FamilyOf(out.insn);
  if ((family == Family::Stack || family == Family::Branch) && HasMemory(out.insn) &&
      (out.insn.mem.base == 4 || out.insn.mem.base == 5)) {
    return false;
  }
  // EDX:EAX is the mask.
  const auto is_mask = [](uint8_t reg) { return reg == 0 || reg == 2; };
  if (family == Family::XState && HasMemory(out.insn) &&
      (is_mask(out.insn.mem.base) || is_mask(out.insn.mem.index))) {
    return false;
  }
  // The alignment that they ask for must come out exactly.
  if (out.insn.feature == bt::Feature::kSha && HasMemory(out.insn) &&
      (out.insn.mem.base == out.insn.mem.index || out.insn.mem.base == MemoryOperand::kNoReg)) {
    return false;
  }
  return features_.Has(out.insn.feature) && WhyExcluded(out.insn) == nullptr;
}

// A legal encoding with something that makes it #UD: VEX.vvvv or VEX.L as it must not be, a prefix
// that VEX forbids, LOCK where there is nothing to lock. False: it stayed legal.
bool Generator::BreakEncoding(Case& out) {
  const Form& form = forms_.list[Below(forms_.list.size())];
  Form broken = form;
  static constexpr uint8_t kForbidden[] = {0x66, 0xf2, 0xf3, 0xf0, 0x48};
  if (form.vex && OneIn(2)) {
    if (OneIn(2))
      broken.vvvv = !broken.vvvv;
    else
      broken.vex_256 = !broken.vex_256;
  } else {
    const uint8_t prefix = form.vex ? kForbidden[Below(Is64() ? 5 : 4)] : 0xf0;
    broken.prefixes.insert(broken.prefixes.begin(), prefix);
  }
  EncodeForm(broken, true, out.code);
  out.illegal = bt::Decode(out.code, code_size_, out.insn) == bt::DecodeStatus::kInvalid;
  // With CR8's alias (LOCK MOV CR0) AMD knows a LOCK of its own.
  return out.illegal && !(form.map == 1 && !form.vex && (form.opcode & 0xfc) == 0x20);
}

Case Generator::OfForm(size_t index) {
  const Form& form = forms_.list[index];
  Case out;
  for (unsigned attempt = 0;; ++attempt) {
    CHECK(attempt < 10'000);
    EncodeForm(form, attempt > 3, out.code);
    if (Decodes(out) && FormKey(out.insn) == form.key) break;
  }
  Finish(out);
  return out;
}

Case Generator::OfBytes(std::span<const uint8_t> bytes) {
  Case out;
  out.illegal = false;
  out.code.assign(bytes.begin(), bytes.end());
  CHECK(Decodes(out));
  Finish(out);
  return out;
}

Case Generator::Any() {
  Case out;
  if (OneIn(16)) {
    while (!BreakEncoding(out)) {
    }
    FillRegisters(out.registers);
    return out;
  }
  out.illegal = false;
  do {
    EncodeRandom(out.code);
  } while (!Decodes(out));
  Finish(out);
  return out;
}

}  // namespace difftest
