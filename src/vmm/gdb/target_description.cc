// RegisterSet's list of registers, and its XML. [GDB] G
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "vmm/gdb/registers.h"

namespace vmm::gdb {
namespace {

using Source = Register::Source;

constexpr std::string_view kSystemFeature = "vmm.x86.system";

std::string_view NameOf(Architecture architecture) {
  switch (architecture) {
    case Architecture::k16:
      return "i8086";
    case Architecture::k32:
      return "i386";
    case Architecture::k64:
      break;
  }
  return "i386:x86-64";
}

struct FlagBit {
  std::string_view name;
  unsigned bit;
};
struct FlagsType {
  std::string_view feature, name;
  unsigned size;
  std::vector<FlagBit> bits;
};

const std::vector<FlagsType>& FlagsTypes() {
  static const std::vector<FlagsType> kTypes = {
      {"org.gnu.gdb.i386.core",
       "i386_eflags",
       4,
       {{"CF", 0},
        {"", 1},
        {"PF", 2},
        {"AF", 4},
        {"ZF", 6},
        {"SF", 7},
        {"TF", 8},
        {"IF", 9},
        {"DF", 10},
        {"OF", 11},
        {"NT", 14},
        {"RF", 16},
        {"VM", 17},
        {"AC", 18},
        {"VIF", 19},
        {"VIP", 20},
        {"ID", 21}}},
      {"org.gnu.gdb.i386.sse",
       "i386_mxcsr",
       4,
       {{"IE", 0},
        {"DE", 1},
        {"ZE", 2},
        {"OE", 3},
        {"UE", 4},
        {"PE", 5},
        {"DAZ", 6},
        {"IM", 7},
        {"DM", 8},
        {"ZM", 9},
        {"OM", 10},
        {"UM", 11},
        {"PM", 12},
        {"FZ", 15}}},
      {kSystemFeature,
       "x86_cr0",
       4,
       {{"PE", 0},
        {"MP", 1},
        {"EM", 2},
        {"TS", 3},
        {"ET", 4},
        {"NE", 5},
        {"WP", 16},
        {"AM", 18},
        {"NW", 29},
        {"CD", 30},
        {"PG", 31}}},
      {kSystemFeature,
       "x86_cr4",
       4,
       {{"VME", 0},
        {"PVI", 1},
        {"TSD", 2},
        {"DE", 3},
        {"PSE", 4},
        {"PAE", 5},
        {"MCE", 6},
        {"PGE", 7},
        {"PCE", 8},
        {"OSFXSR", 9},
        {"OSXMMEXCPT", 10},
        {"UMIP", 11},
        {"LA57", 12},
        {"FSGSBASE", 16},
        {"PCIDE", 17},
        {"OSXSAVE", 18},
        {"SMEP", 20},
        {"SMAP", 21},
        {"PKE", 22}}},
      {kSystemFeature, "x86_efer", 4, {{"SCE", 0}, {"LME", 8}, {"LMA", 10}, {"NXE", 11}}},
  };
  return kTypes;
}

void WriteFlags(std::string& xml, std::string_view feature) {
  for (const FlagsType& type : FlagsTypes()) {
    if (type.feature != feature) continue;
    xml += fmt::format("<flags id=\"{}\" size=\"{}\">\n", type.name, type.size);
    for (const FlagBit& flag : type.bits) {
      xml += fmt::format("<field name=\"{}\" start=\"{}\" end=\"{}\"/>\n", flag.name, flag.bit,
                         flag.bit);
    }
    xml += "</flags>\n";
  }
}

// What a vector register may be looked at as.
void WriteVectorTypes(std::string& xml) {
  struct Lane {
    std::string_view id, type;
    unsigned count;
  };
  constexpr Lane kLanes[] = {{"v4f", "ieee_single", 4}, {"v2d", "ieee_double", 2},
                             {"v16i8", "int8", 16},     {"v8i16", "int16", 8},
                             {"v4i32", "int32", 4},     {"v2i64", "int64", 2}};
  constexpr std::string_view kFields[] = {"v4_float", "v2_double", "v16_int8",
                                          "v8_int16", "v4_int32",  "v2_int64"};
  for (const Lane& lane : kLanes) {
    xml += fmt::format("<vector id=\"{}\" type=\"{}\" count=\"{}\"/>\n", lane.id, lane.type,
                       lane.count);
  }
  xml += "<union id=\"vec128\">\n";
  for (unsigned i = 0; i < std::size(kLanes); ++i) {
    xml += fmt::format("<field name=\"{}\" type=\"{}\"/>\n", kFields[i], kLanes[i].id);
  }
  xml += "<field name=\"uint128\" type=\"uint128\"/>\n</union>\n";
}

}  // namespace

RegisterSet::RegisterSet(Architecture architecture, bool avx) : architecture_(architecture) {
  AddCore();
  AddVectors(avx);
  AddSystem();
}

void RegisterSet::BeginFeature(std::string_view name) {
  features_.push_back({name, count()});
}

void RegisterSet::Add(std::string name, std::string_view type, uint8_t size, Source source,
                      unsigned index) {
  registers_.push_back({std::move(name), type, size, source, static_cast<uint8_t>(index)});
}

void RegisterSet::AddCore() {
  const bool wide = architecture_ == Architecture::k64;
  const uint8_t size = wide ? 8 : 4;
  const std::string_view integer = wide ? "int64" : "int32";
  BeginFeature("org.gnu.gdb.i386.core");
  struct Name {
    std::string_view letters;
    Gpr gpr;
  };
  // The old order of each; newer registers follow by number.
  constexpr Name kWide[] = {{"ax", Gpr::RAX}, {"bx", Gpr::RBX}, {"cx", Gpr::RCX}, {"dx", Gpr::RDX},
                            {"si", Gpr::RSI}, {"di", Gpr::RDI}, {"bp", Gpr::RBP}, {"sp", Gpr::RSP}};
  constexpr Name kNarrow[] = {{"ax", Gpr::RAX}, {"cx", Gpr::RCX}, {"dx", Gpr::RDX},
                              {"bx", Gpr::RBX}, {"sp", Gpr::RSP}, {"bp", Gpr::RBP},
                              {"si", Gpr::RSI}, {"di", Gpr::RDI}};
  for (const Name& name : wide ? kWide : kNarrow) {
    const bool pointer = name.gpr == Gpr::RSP || name.gpr == Gpr::RBP;
    Add(fmt::format("{}{}", wide ? 'r' : 'e', name.letters), pointer ? "data_ptr" : integer, size,
        Source::kGpr, static_cast<unsigned>(name.gpr));
  }
  for (unsigned i = 8; wide && i < 16; ++i)
    Add(fmt::format("r{}", i), integer, size, Source::kGpr, i);
  Add(wide ? "rip" : "eip", "code_ptr", size, Source::kRip);
  Add("eflags", "i386_eflags", 4, Source::kFlags);
  constexpr std::string_view kSelectors[] = {"cs", "ss", "ds", "es", "fs", "gs"};
  for (unsigned i = 0; i < 6; ++i)
    Add(std::string(kSelectors[i]), "int32", 4, Source::kSelector, i);
  for (unsigned i = 0; i < 8; ++i) Add(fmt::format("st{}", i), "i387_ext", 10, Source::kSt, i);
  constexpr std::string_view kX87[] = {"fctrl", "fstat", "ftag",  "fiseg",
                                       "fioff", "foseg", "fooff", "fop"};
  for (unsigned i = 0; i < 8; ++i) Add(std::string(kX87[i]), "int", 4, Source::kX87Control, i);
}

void RegisterSet::AddVectors(bool avx) {
  const unsigned vectors = architecture_ == Architecture::k64 ? 16 : 8;
  BeginFeature("org.gnu.gdb.i386.sse");
  for (unsigned i = 0; i < vectors; ++i)
    Add(fmt::format("xmm{}", i), "vec128", 16, Source::kXmm, i);
  Add("mxcsr", "i386_mxcsr", 4, Source::kMxcsr);
  if (!avx) return;
  BeginFeature("org.gnu.gdb.i386.avx");
  for (unsigned i = 0; i < vectors; ++i) {
    Add(fmt::format("ymm{}h", i), "uint128", 16, Source::kYmmHigh, i);
  }
}

void RegisterSet::AddSystem() {
  constexpr unsigned kFs = 4, kGs = 5;  // of SegmentAt()
  const bool wide = architecture_ == Architecture::k64;
  if (wide) {
    BeginFeature("org.gnu.gdb.i386.segments");
    Add("fs_base", "int64", 8, Source::kSegmentBase, kFs);
    Add("gs_base", "int64", 8, Source::kSegmentBase, kGs);
  }
  BeginFeature(kSystemFeature);
  constexpr std::string_view kBases[] = {"cs_base", "ss_base", "ds_base",
                                         "es_base", "fs_base", "gs_base"};
  for (unsigned i = 0; i < (wide ? kFs : 6); ++i) {
    Add(std::string(kBases[i]), "int64", 8, Source::kSegmentBase, i);
  }
  if (wide) Add("k_gs_base", "int64", 8, Source::kKernelGsBase);
  // Flags of 32 bits, which is all that is in use: GDB assigns no number to wider ones.
  Add("cr0", "x86_cr0", 4, Source::kControl, 0);
  Add("cr2", "int64", 8, Source::kControl, 2);
  Add("cr3", "int64", 8, Source::kControl, 3);
  Add("cr4", "x86_cr4", 4, Source::kControl, 4);
  Add("cr8", "int64", 8, Source::kControl, 8);
  Add("efer", "x86_efer", 4, Source::kEfer);
  for (const unsigned i : {0u, 1u, 2u, 3u, 6u, 7u}) {
    Add(fmt::format("dr{}", i), "int64", 8, Source::kDebug, i);
  }
}

std::string RegisterSet::Description() const {
  std::string xml = fmt::format(
      "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
      "<target version=\"1.0\">\n<architecture>{}</architecture>\n",
      NameOf(architecture_));
  for (size_t i = 0; i < features_.size(); ++i) {
    const Feature& feature = features_[i];
    const unsigned end = i + 1 < features_.size() ? features_[i + 1].first : count();
    xml += fmt::format("<feature name=\"{}\">\n", feature.name);
    WriteFlags(xml, feature.name);
    if (feature.name == "org.gnu.gdb.i386.sse") WriteVectorTypes(xml);
    for (unsigned number = feature.first; number < end; ++number) {
      const Register& reg = registers_[number];
      const bool system = feature.name == kSystemFeature;
      xml += fmt::format("<reg name=\"{}\" bitsize=\"{}\" type=\"{}\" regnum=\"{}\"{}/>\n",
                         reg.name, reg.size * 8, reg.type, number,
                         system ? " group=\"system\" save-restore=\"no\"" : "");
    }
    xml += "</feature>\n";
  }
  return xml + "</target>\n";
}

}  // namespace vmm::gdb
