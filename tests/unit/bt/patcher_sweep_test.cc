// Every opcode of every map under prefixes, REX and VEX, with random operands and random plans: the
// decoder reads the patched instruction back.
#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <vector>

#include "bt/isa/decoder.h"
#include "bt/isa/insn_use.h"
#include "bt/translator/patcher.h"

using namespace bt;

namespace {

using Code = std::vector<uint8_t>;

std::string Text(std::span<const uint8_t> code) {
  std::string text;
  char byte[4];
  for (uint8_t value : code) {
    std::snprintf(byte, sizeof(byte), "%02x ", value);
    text += byte;
  }
  return text;
}

bool IsGpr(const Operand& operand) {
  return operand.kind == OperandKind::kReg && operand.reg_class == RegClass::kGpr;
}

bool HasModrmMemory(const Insn& insn) {
  const std::span operands(insn.operand.data(), insn.operand_count);
  return insn.modrm_offset != 0 && std::ranges::any_of(operands, [](const Operand& operand) {
           return operand.kind == OperandKind::kMem;
         });
}

// The host registers by which the patched memory operand is addressed; kNoReg: none.
struct Place {
  uint8_t base = MemoryOperand::kNoReg, index = MemoryOperand::kNoReg;
};

Place PlaceOf(const Insn& insn, const PatchPlan& plan) {
  if (!HasModrmMemory(insn)) return {};
  if (plan.replace_memory) return {plan.memory_base, MemoryOperand::kNoReg};
  const auto map = [&plan](uint8_t reg) { return reg < 16 ? plan.gpr[reg] : reg; };
  return {map(insn.mem.base), insn.mem.vector_index ? insn.mem.index : map(insn.mem.index)};
}

// Why a plan cannot be expressed; null: it can.
const char* WhyNot(const Insn& insn, const PatchPlan& plan) {
  const uint16_t implicit = UseOf(insn).gpr_implicit;
  for (unsigned reg = 0; reg < 16; ++reg) {
    if ((implicit >> reg & 1) && plan.gpr[reg] != reg) return "an implicit register is moved";
  }
  const Place place = PlaceOf(insn, plan);
  bool high = false, rex = false, too_high = false, exchange = false;
  for (const Operand& operand : std::span(insn.operand.data(), insn.operand_count)) {
    if (operand.kind == OperandKind::kMem && insn.modrm_offset == 0) return "no ModRM";
    if (!IsGpr(operand)) continue;
    const uint8_t host = plan.gpr[operand.reg];
    high |= operand.high;
    too_high |= operand.high && host > 3;
    rex |= !operand.high && (host >= 8 || (operand.bits == 8 && host >= 4));
    exchange |= host == 0 && operand.reg != 0;
  }
  if (HasModrmMemory(insn)) {
    if (plan.replace_memory && insn.mem.vector_index) return "a vector index";
    if (place.base == MemoryOperand::kRip) return "relative to RIP";
    if (place.index == 4 && !insn.mem.vector_index) return "RSP as index";
    rex |= place.base < 16 && place.base >= 8;
    rex |= place.index < 16 && place.index >= 8;
  }
  if (too_high) return "no bits 15:8";
  if (high && rex) return "bits 15:8 with REX";
  if (insn.mnemonic == Mnemonic::XCHG && insn.modrm_offset == 0 && exchange) return "XCHG is NOP";
  return nullptr;
}

// What of `patched` is not as `plan` wants it; null: nothing.
const char* Fault(const Insn& insn, const Insn& patched, const PatchPlan& plan) {
  if (patched.mnemonic != insn.mnemonic) return "mnemonic";
  if (patched.opcode != insn.opcode && insn.modrm_offset != 0) return "opcode";
  if (patched.opcode_map != insn.opcode_map) return "map";
  if (patched.has_vex != insn.has_vex || patched.vex_256 != insn.vex_256) return "VEX";
  // F3 before 90 belongs to PAUSE, and XCHG does nothing with it.
  const bool short_xchg = insn.mnemonic == Mnemonic::XCHG && insn.modrm_offset == 0;
  if (patched.mandatory_prefix != insn.mandatory_prefix && !short_xchg) return "mandatory prefix";
  if (patched.rex_w != insn.rex_w) return "W";
  if (patched.operand_bits != insn.operand_bits) return "operand size";
  if (patched.lock != insn.lock || patched.rep != insn.rep || patched.repne != insn.repne)
    return "LOCK, REP or REPNE";
  if (patched.operand_count != insn.operand_count) return "operand count";
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand &a = insn.operand[i], &b = patched.operand[i];
    // The size of LEA's operand is that of the address.
    const bool sized = a.kind != OperandKind::kMem || insn.mnemonic != Mnemonic::LEA;
    if (a.kind != b.kind || a.reg_class != b.reg_class || (sized && a.bits != b.bits) ||
        a.field != b.field)
      return "operand kind";
    if (a.high != b.high || a.written != b.written) return "operand half";
    if (a.imm != b.imm) return "immediate";
    if (b.reg != (IsGpr(a) ? plan.gpr[a.reg] : a.reg)) return "register";
  }
  if (!HasModrmMemory(insn)) {
    return patched.address_bits == insn.address_bits &&
                   patched.string_segment == insn.string_segment
               ? nullptr
               : "address size or segment";
  }
  const Place place = PlaceOf(insn, plan);
  if (patched.mem.base != place.base || patched.mem.index != place.index) return "base or index";
  if (patched.mem.vector_index != insn.mem.vector_index) return "vector index";
  if (plan.replace_memory) {
    if (patched.mem.disp != 0) return "displacement";
    if (patched.address_bits != 64) return "address size";
    return patched.mem.segment == 2 || patched.mem.segment == 3 ? nullptr : "segment";
  }
  if (place.index != MemoryOperand::kNoReg && patched.mem.shift != insn.mem.shift) return "scale";
  if (static_cast<int32_t>(patched.mem.disp) != static_cast<int32_t>(insn.mem.disp))
    return "displacement";
  // DS and SS are alike in 64-bit mode; FS and GS are not.
  if (patched.mem.segment != insn.mem.segment &&
      (patched.mem.segment >= 4 || insn.mem.segment >= 4))
    return "segment";
  return patched.address_bits == insn.address_bits ? nullptr : "address size";
}

class Sweep {
 public:
  void Try(const Code& head) {
    Code code = head;
    while (code.size() < 15) code.push_back(Byte());
    Insn insn;
    if (Decode(code, CodeSize::k64, insn) != DecodeStatus::kOk) return;
    ++decoded_;
    for (unsigned i = 0; i < 3; ++i) TryPlan(insn, RandomPlan(insn));
  }
  void TryTails(const Code& head) {
    for (const uint8_t mod : {0x00, 0x40, 0x80, 0xc0}) {
      Code code = head;
      code.push_back(static_cast<uint8_t>(mod | (Byte() & 0x3f)));
      Try(code);
      code.back() = static_cast<uint8_t>(mod | (Byte() & 0x38) | 4);
      Try(code);
    }
  }
  uint8_t Byte() { return static_cast<uint8_t>(random_()); }
  uint64_t decoded() const { return decoded_; }
  uint64_t patched() const { return patched_; }

 private:
  PatchPlan RandomPlan(const Insn& insn) {
    PatchPlan plan;
    const uint16_t kept = random_() % 4 == 0 ? 0 : UseOf(insn).gpr_implicit;
    const unsigned moved_in_16 = random_() % 17, below = random_() % 3 == 0 ? 8 : 16;
    for (unsigned reg = 0; reg < 16; ++reg) {
      if (random_() % 16 < moved_in_16 && !(kept >> reg & 1))
        plan.gpr[reg] = static_cast<uint8_t>(random_() % below);
    }
    plan.replace_memory = random_() % 2;
    plan.memory_base = static_cast<uint8_t>(random_() % 16);
    return plan;
  }

  void TryPlan(const Insn& insn, const PatchPlan& plan) {
    std::array<uint8_t, kMaxPatched> out;
    out.fill(0xcc);
    const unsigned length = PatchInsn(insn, plan, out.data());
    const char* why_not = WhyNot(insn, plan);
    std::string map;
    for (uint8_t reg : plan.gpr) map += std::to_string(reg) + ' ';
    const std::string what = std::string(MnemonicName(insn.mnemonic)) + ' ' +
                             Text({insn.bytes.data(), insn.length}) + "to " +
                             Text({out.data(), length}) + "map " + map +
                             (plan.replace_memory ? std::to_string(plan.memory_base) : "");
    const char* fault = nullptr;
    if (length == 0) {
      // Three bytes may have come: REX, SIB, displacement.
      if (!why_not && insn.length < 13) fault = "refused";
    } else if (why_not) {
      fault = why_not;
    } else {
      Insn patched;
      if (Decode({out.data(), length}, CodeSize::k64, patched) != DecodeStatus::kOk ||
          patched.length != length) {
        fault = "not an instruction";
      } else {
        fault = Fault(insn, patched, plan);
      }
      ++patched_;
    }
    if (fault) FAIL_CHECK(what << ": " << fault);
  }

  std::mt19937 random_{1};
  uint64_t decoded_ = 0, patched_ = 0;
};

const std::vector<Code> kPrefixes = {{},           {0x66},       {0xf2},       {0xf3},
                                     {0x67},       {0x64},       {0x66, 0xf3}, {0x66, 0xf2},
                                     {0xf0, 0x65}, {0x3e, 0x67}, {0x48},       {0x2e, 0x4f}};
const Code kMaps[] = {{}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}};

Code operator+(Code a, const Code& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

TEST_CASE("a patched instruction of any legacy encoding is what the plan says", "[patcher]") {
  Sweep sweep;
  for (const Code& prefixes : kPrefixes) {
    for (const Code& map : kMaps) {
      for (unsigned opcode = 0; opcode < 256; ++opcode) {
        const Code end = map + Code{static_cast<uint8_t>(opcode)};
        sweep.TryTails(prefixes + end);
        sweep.TryTails(prefixes + Code{0x40} + end);
        sweep.TryTails(prefixes + Code{static_cast<uint8_t>(0x40 | sweep.Byte() % 16)} + end);
      }
    }
  }
  CHECK(sweep.decoded() > 100'000);
  CHECK(sweep.patched() > 150'000);
}

TEST_CASE("a patched instruction of any VEX encoding is what the plan says", "[patcher]") {
  Sweep sweep;
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    const auto last = static_cast<uint8_t>(opcode);
    for (uint8_t pp = 0; pp < 4; ++pp) {
      for (const Code& prefix : {Code{}, Code{0x67}, Code{0x65}}) {
        const auto low = [&sweep, pp] { return static_cast<uint8_t>((sweep.Byte() & 0xfc) | pp); };
        sweep.TryTails(prefix + Code{0xc5, low(), last});
        for (uint8_t map = 1; map < 4; ++map) {
          const auto rxb = [&sweep, map] {
            return static_cast<uint8_t>((sweep.Byte() & 0xe0) | map);
          };
          // vvvv unused must be 1111.
          const auto unused = static_cast<uint8_t>((sweep.Byte() & 0x84) | 0x78 | pp);
          sweep.TryTails(prefix + Code{0xc4, rxb(), low(), last});
          sweep.TryTails(prefix + Code{0xc4, rxb(), unused, last});
        }
      }
    }
  }
  CHECK(sweep.decoded() > 14'000);
  CHECK(sweep.patched() > 30'000);
}
