#include "forms.h"

#include <map>
#include <set>
#include <unordered_set>

#include "bt/isa/decoder.h"
#include "exclusions.h"

namespace difftest {
namespace {

using bt::CodeSize;
using bt::Insn;
using bt::Mnemonic;

bool HasMemory(const Insn& insn) {
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    if (insn.operand[i].kind == bt::OperandKind::kMem) return true;
  }
  return false;
}

class Finder {
 public:
  Finder(CodeSize code_size, const bt::FeatureSet& features)
      : code_size_(code_size), features_(features) {}

  void Legacy() {
    static const std::vector<std::vector<uint8_t>> kPrefixes = {
        {}, {0x66}, {0xf2}, {0xf3}, {0xf0}, {0x66, 0xf2}, {0x66, 0xf3}, {0xf0, 0x66}, {0x67}};
    for (const auto& prefixes : kPrefixes) {
      for (unsigned rex_w = 0; rex_w < (code_size_ == CodeSize::k64 ? 2 : 1); ++rex_w) {
        for (uint8_t map = 0; map < 4; ++map) {
          for (unsigned opcode = 0; opcode < 256; ++opcode) {
            Form form;
            form.prefixes = prefixes;
            form.rex_w = rex_w;
            form.map = map;
            form.opcode = static_cast<uint8_t>(opcode);
            TryOperands(form);
          }
        }
      }
    }
  }

  void Vex() {
    for (uint8_t map = 1; map < 4; ++map) {
      for (unsigned bits = 0; bits < 256 * 32; ++bits) {
        Form form;
        form.vex = true;
        form.map = map;
        form.opcode = static_cast<uint8_t>(bits >> 5);
        form.pp = bits & 3;
        form.rex_w = bits & 4;
        form.vex_256 = bits & 8;
        form.vvvv = bits & 16;
        TryOperands(form);
      }
    }
  }

  std::vector<Form> list;
  std::set<Mnemonic> advertised;  // rows with at least one encoding that the guest has
  std::map<Mnemonic, const char*> reasons;

 private:
  void TryOperands(Form& form) {
    const uint8_t reg_step = 1;
    for (unsigned memory = 0; memory < 3; ++memory) {  // register, memory, memory with SIB
      form.memory = memory != 0;
      form.sib = memory == 2;
      if (form.sib && !form.vex) continue;
      const bool x87 = !form.vex && form.map == 0 && (form.opcode & 0xf8) == 0xd8;
      const bool system = !form.vex && form.map == 1 && form.opcode == 0x01;
      for (uint8_t reg = 0; reg < 8; reg += reg_step) {
        for (uint8_t rm = 0; rm < ((x87 || system) && !memory ? 8 : 1); ++rm) {
          form.reg = reg;
          form.rm = rm;
          Try(form);
        }
      }
    }
  }

  void Try(Form& form) {
    uint8_t code[15] = {};
    unsigned at = 0;
    for (uint8_t prefix : form.prefixes) code[at++] = prefix;
    if (form.vex) {
      code[at++] = 0xc4;
      code[at++] = static_cast<uint8_t>(0xe0 | form.map);
      const unsigned vvvv = form.vvvv ? 0xd : 0xf;
      code[at++] = static_cast<uint8_t>((form.rex_w ? 0x80 : 0) | vvvv << 3 |
                                        (form.vex_256 ? 4 : 0) | form.pp);
    } else {
      if (form.rex_w) code[at++] = 0x48;
      if (form.map) code[at++] = 0x0f;
      if (form.map == 2) code[at++] = 0x38;
      if (form.map == 3) code[at++] = 0x3a;
    }
    code[at++] = form.opcode;
    const uint8_t mod_rm = form.memory ? (form.sib ? 0x84 : 0x83) : 0xc0 | form.rm;
    code[at++] = static_cast<uint8_t>(mod_rm | form.reg << 3);
    if (form.sib) code[at++] = 0x20 | 3;
    Insn insn;
    if (bt::Decode(code, code_size_, insn) != bt::DecodeStatus::kOk) return;
    // A prefix or an escape byte is no opcode of its own.
    if (insn.opcode_map != form.map || insn.opcode != form.opcode || insn.has_vex != form.vex)
      return;
    if (!features_.Has(insn.feature)) return;
    advertised.insert(insn.mnemonic);
    if (form.memory && insn.modrm_offset == 0) return;
    if (const char* why = WhyExcluded(insn)) {
      reasons.emplace(insn.mnemonic, why);
      return;
    }
    if (!seen_.insert(FormKey(insn)).second) return;
    form.key = FormKey(insn);
    form.mnemonic = insn.mnemonic;
    form.modrm = insn.modrm_offset != 0;
    list.push_back(form);
  }

  const CodeSize code_size_;
  const bt::FeatureSet& features_;
  std::unordered_set<uint64_t> seen_;
};

}  // namespace

uint64_t FormKey(const Insn& insn) {
  uint64_t form = static_cast<uint64_t>(insn.mnemonic) << 8 | insn.opcode;
  form = form << 8 | insn.operand_bits;
  form = form << 3 | insn.opcode_map | (insn.has_vex ? 4u : 0u);
  const bool wide = insn.has_vex && insn.rex_w;
  const bool narrow_address = insn.address_bits != (insn.code_size == CodeSize::k64 ? 64 : 32);
  return form << 7 | (HasMemory(insn) ? 1u : 0u) | (insn.lock ? 2u : 0u) |
         (insn.rep && !insn.has_vex ? 4u : 0u) | (insn.repne && !insn.has_vex ? 8u : 0u) |
         (insn.vex_256 ? 16u : 0u) | (wide ? 32u : 0u) | (narrow_address ? 64u : 0u);
}

Forms FindForms(CodeSize code_size, const bt::FeatureSet& features) {
  Finder finder(code_size, features);
  finder.Legacy();
  finder.Vex();
  Forms forms;
  forms.list = std::move(finder.list);
  std::set<Mnemonic> generated;
  for (const Form& form : forms.list) generated.insert(form.mnemonic);
  forms.advertised_rows = static_cast<unsigned>(finder.advertised.size());
  forms.generated_rows = static_cast<unsigned>(generated.size());
  for (Mnemonic mnemonic : finder.advertised) {
    if (generated.count(mnemonic)) continue;
    const auto why = finder.reasons.find(mnemonic);
    const std::string name = bt::MnemonicName(mnemonic);
    if (why == finder.reasons.end())
      forms.missing.push_back(name);
    else
      forms.excluded.push_back(name + ": " + why->second);
  }
  return forms;
}

}  // namespace difftest
