// Goldens: the host code of one small block for each way in which the translator treats an
// instruction, so that a change of it shows in a diff. After an intended change
//
//   VMM_UPDATE_GOLDENS=1 build/unit_tests '[emitted]'
//
// writes emitted_code.txt anew. Only what every x86-64 host translates alike is here: no
// instruction beyond SSE2, no shift by a constant (see HostShiftsSetAuxiliary).
#include <Zydis/Zydis.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "bt/interp/fpu.h"
#include "tests/unit/bt/code_workshop.h"
#include "tests/unit/support/source_root.h"

using namespace bt;

namespace {

using Code = std::vector<uint8_t>;

struct Sample {
  const char* name;
  Code code;
  uint16_t second_page = 0;
  Counting counting = Counting::kNone;
  CodeWorkshop::Blocks others = {};  // that follow it, which is at 0x5100
};

const Sample kSamples[] = {
    {"registers only: ADD RAX, RCX", {0x48, 0x01, 0xc8}},
    {"RSP has another register: ADD RSP, 16", {0x48, 0x83, 0xc4, 0x10}},
    {"R9 to R11 borrow registers: MOV R9, R10", {0x4d, 0x89, 0xd1}},
    {"or are read where they live: ADD R9, R10", {0x4d, 0x01, 0xd1}},
    {"or are read where they live: CMP EAX, R11D; IMUL RCX, R10",
     {0x44, 0x39, 0xd8, 0x49, 0x0f, 0xaf, 0xca}},
    {"a flag is kept: INC EAX", {0xff, 0xc0}},
    {"a hint: NOP [RAX]", {0x0f, 0x1f, 0x00}},
    {"an address: LEA RAX, [RSP+RCX*8+16]", {0x48, 0x8d, 0x44, 0xcc, 0x10}},
    {"an address: LEA RAX, [RIP+256]", {0x48, 0x8d, 0x05, 0, 1, 0, 0}},
    {"a load: MOV EAX, [RDI]", {0x8b, 0x07}},
    {"a load: MOV RAX, [RIP+256]", {0x48, 0x8b, 0x05, 0, 1, 0, 0}},
    {"a load: MOV EAX, [EDI+8]", {0x67, 0x8b, 0x47, 0x08}},
    {"a load: MOV RAX, GS:[40]", {0x65, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0}},
    {"a load of one byte: MOVZX EAX, BYTE [RDI+RSI]", {0x0f, 0xb6, 0x04, 0x37}},
    {"a store: MOV [RDI+8], RAX", {0x48, 0x89, 0x47, 0x08}},
    {"a load that sets the flags: CMP EAX, [RDI]", {0x3b, 0x07}},
    {"a load that needs the flags: ADC EAX, [RDI]", {0x13, 0x07}},
    {"the flags live across a load: CMP EAX, ECX; MOV EDX, [RDI]; JZ",
     {0x39, 0xc8, 0x8b, 0x17, 0x74, 0x10}},
    {"a change of memory: ADD [RDI], EAX", {0x01, 0x07}},
    {"atomic: LOCK CMPXCHG [RDI], RCX", {0xf0, 0x48, 0x0f, 0xb1, 0x0f}},
    {"aligned to 16 bytes: CMPXCHG16B GS:[RSI]", {0x65, 0x48, 0x0f, 0xc7, 0x0e}},
    {"PUSH RBX", {0x53}},
    {"PUSH 1", {0x6a, 0x01}},
    {"PUSH [RAX]", {0xff, 0x30}},
    {"PUSHFQ", {0x9c}},
    {"CLI", {0xfa}},
    {"STI and NOP", {0xfb, 0x90}},
    {"a selector: MOV EAX, SS", {0x8c, 0xd0}},
    {"a selector: MOV R10W, GS", {0x66, 0x41, 0x8c, 0xea}},
    {"SWAPGS", {0x0f, 0x01, 0xf8}},
    {"STAC", {0x0f, 0x01, 0xcb}},
    {"SYSCALL", {0x0f, 0x05}},
    {"SYSRETQ", {0x48, 0x0f, 0x07}},
    {"POP RSP", {0x5c}},
    {"DIV RCX", {0x48, 0xf7, 0xf1}},
    {"IDIV dword [RDI]", {0xf7, 0x3f}},
    {"x87: FADD qword [RDI]", {0xdc, 0x07}},
    {"POP RBX", {0x5b}},
    {"a span: MOV EAX, [RDI+8]; MOV [RDI], RCX", {0x8b, 0x47, 0x08, 0x48, 0x89, 0x0f}},
    {"a span on the stack: PUSH RBX; PUSH RBP; SUB RSP, 24; MOV [RSP+8], RDI",
     {0x53, 0x55, 0x48, 0x83, 0xec, 0x18, 0x48, 0x89, 0x7c, 0x24, 0x08}},
    {"a span and another look-up: MOV EAX, [RDI]; MOV EDX, [RSI]; MOV ECX, [RDI+4]",
     {0x8b, 0x07, 0x8b, 0x16, 0x8b, 0x4f, 0x04}},
    {"an aligned span: MOVUPS XMM0, [RDI+4]; MOVAPS [RDI+16], XMM0",
     {0x0f, 0x10, 0x47, 0x04, 0x0f, 0x29, 0x47, 0x10}},
    {"POP RBX and RET", {0x5b, 0xc3}},
    {"RSP moves once: PUSH RBX; PUSH RBP; PUSH RSP; POP RAX; POP RCX; CALL",
     {0x53, 0x55, 0x54, 0x58, 0x59, 0xe8, 0, 1, 0, 0}},
    {"the flags live, the address unknown before: ADD RDI, RAX; MOV EDX, [RDI]; JZ",
     {0x48, 0x01, 0xc7, 0x8b, 0x17, 0x74, 0x10}},
    {"a look-up ahead of the flags: MOV EAX, [RDI]; ADD EAX, ECX; MOV [RSI], EAX",
     {0x8b, 0x07, 0x01, 0xc8, 0x89, 0x06}},
    {"PUSH [RSP+8]", {0xff, 0x74, 0x24, 0x08}},
    {"LEAVE", {0xc9}},
    {"JMP forward", {0xeb, 0x10}},
    {"JMP to itself", {0xeb, 0xfe}},
    {"across pages: MOV EAX, ECX", {0x89, 0xc8}, 5},
    {"across pages: MOV R9, RCX", {0x49, 0x89, 0xc9}, 5},
    {"CMP and JZ", {0x48, 0x39, 0xc8, 0x74, 0x10}},
    {"some flags are made, and nobody sees the others: MOV EAX, [RDI]; BTS EAX, ECX; ADD EAX, ECX",
     {0x8b, 0x07, 0x0f, 0xab, 0xc8, 0x01, 0xc8}},
    {"somebody may: MOV EAX, [RDI]; BTS EAX, ECX; MOV EDX, [RAX]; ADD EAX, ECX",
     {0x8b, 0x07, 0x0f, 0xab, 0xc8, 0x8b, 0x10, 0x01, 0xc8}},
    {"two blocks: LEA R9, [RDI+1]; TEST RAX, RAX; JZ; CMP RAX, RCX; MOV [RSI], R9; JZ",
     {0x4c, 0x8d, 0x4f, 0x01, 0x48, 0x85, 0xc0, 0x74, 0x10},
     0,
     Counting::kNone,
     {{0x5109, {0x48, 0x39, 0xc8, 0x4c, 0x89, 0x0e, 0x74, 0x20}}}},
    {"four blocks: PUSH RBX; CALL; TEST EAX, EAX; JZ; RET; ADD EAX, 1; POP RBX; RET",
     {0x53, 0xe8, 0x20, 0, 0, 0},
     0,
     Counting::kNone,
     {{0x5126, {0x85, 0xc0, 0x74, 0x10}},
      {0x512a, {0xc3}},
      {0x5106, {0x83, 0xc0, 0x01, 0x5b, 0xc3}}}},
    {"CALL", {0xe8, 0, 1, 0, 0}},
    {"RET", {0xc3}},
    {"RET 16", {0xc2, 0x10, 0}},
    {"JMP RAX", {0xff, 0xe0}},
    {"JMP [RAX+RCX*8]", {0xff, 0x24, 0xc8}},
    {"CALL RAX", {0xff, 0xd0}},
    {"CALL [RAX]", {0xff, 0x10}},
    {"REP MOVSB", {0xf3, 0xa4}},
    {"REP STOSQ", {0xf3, 0x48, 0xab}},
    {"the interpreter's: CPUID", {0x0f, 0xa2}},
    {"a bit of a string: BT [RDI], EAX", {0x0f, 0xa3, 0x07}},
    {"a bit of a string, changed: BTS GS:[RDI+8], R9W", {0x65, 0x66, 0x44, 0x0f, 0xab, 0x4f, 0x08}},
    {"a bit of a string, atomic: LOCK BTR [RIP+256], RSI; JC",
     {0xf0, 0x48, 0x0f, 0xb3, 0x35, 0, 1, 0, 0, 0x72, 0x10}},
    {"vector registers only: PXOR XMM0, XMM1", {0x66, 0x0f, 0xef, 0xc1}},
    {"a vector load that must be aligned: MOVDQA XMM0, [RDI]", {0x66, 0x0f, 0x6f, 0x07}},
    {"a vector load: MOVDQU XMM0, [RDI]", {0xf3, 0x0f, 0x6f, 0x07}},
    {"a vector store: MOVUPS [RDI], XMM0", {0x0f, 0x11, 0x07}},
    {"with --stats: CMP and JZ", {0x48, 0x39, 0xc8, 0x74, 0x10}, 0, Counting::kCount},
    {"in a deterministic run: CMP and JZ", {0x48, 0x39, 0xc8, 0x74, 0x10}, 0, Counting::kBounded},
    {"with --stats, two blocks: CMP and JZ; DEC ECX and JZ",
     {0x48, 0x39, 0xc8, 0x74, 0x10},
     0,
     Counting::kCount,
     {{0x5105, {0xff, 0xc9, 0x74, 0x10}}}},
    {"with --stats: DEC ECX and JNZ to it", {0xff, 0xc9, 0x75, 0xfc}, 0, Counting::kCount},
    {"in a deterministic run: DEC R13D and JNZ to it",
     {0x41, 0xff, 0xcd, 0x75, 0xfb},
     0,
     Counting::kBounded},
    {"with --stats: PXOR XMM0, XMM1; INC EAX",
     {0x66, 0x0f, 0xef, 0xc1, 0xff, 0xc0},
     0,
     Counting::kCount},
};

// A user's code in a cell, where memory is at its linear address.
const Sample kDirectSamples[] = {
    {"in a cell, a load: MOV EAX, [RSP+8]", {0x8b, 0x44, 0x24, 0x08}},
    {"in a cell, a load: MOV RAX, [RIP+256]", {0x48, 0x8b, 0x05, 0, 1, 0, 0}},
    {"in a cell, the stack: PUSH RBX; PUSH [RAX]; POP RSP; LEAVE", {0x53, 0xff, 0x30, 0x5c, 0xc9}},
    {"in a cell: R9 is at home: ADD R9, R10", {0x4d, 0x01, 0xd1}},
    {"in a cell: PUSHFQ", {0x9c}},
    {"in a cell: CALL", {0xe8, 0, 1, 0, 0}},
    {"in a cell: CALL RAX", {0xff, 0xd0}},
    {"in a cell: RET 16", {0xc2, 0x10, 0}},
    {"in a cell: DEC ECX and JNZ to it", {0xff, 0xc9, 0x75, 0xfc}},
    {"in a cell: JMP to itself", {0xeb, 0xfe}},
};

class Emitter {
 public:
  explicit Emitter(bool direct) : workshop_(LeaveOut::kNothing, direct) { NameThings(); }

  std::string Emit(const Sample& sample) {
    CodeWorkshop::Blocks blocks = {{sample.second_page ? 0x5fffu : 0x5100u, sample.code}};
    blocks.insert(blocks.end(), sample.others.begin(), sample.others.end());
    const CodeWorkshop::Emitted emitted =
        workshop_.Translate(blocks, LeaveOut::kNothing, false, sample.second_page, sample.counting);
    const Translation& translation = emitted.translation;
    labels_.clear();
    labels_[translation.from(FlagHome::kHost)] = "entry, flags in the host's:";
    std::string& memory = labels_[translation.from(FlagHome::kMemory)];
    memory = memory.empty() ? "entry, flags in memory:" : "entry:";
    std::vector<Line> lines;
    Disassemble(emitted.hot, lines);
    const size_t hot_lines = lines.size();
    Disassemble(emitted.cold, lines);
    std::ostringstream out;
    out << "== " << sample.name << '\n'
        << sample.code.size() << " bytes to " << emitted.hot.end - emitted.hot.begin << " and "
        << emitted.cold.end - emitted.cold.begin << '\n';
    for (size_t i = 0; i < lines.size(); ++i) {
      if (i == hot_lines) out << "cold:\n";
      if (const auto label = labels_.find(lines[i].offset); label != labels_.end())
        out << label->second << '\n';
      out << "    " << lines[i].text << (lines[i].target ? Target(lines[i].target) : "") << '\n';
    }
    return out.str();
  }

 private:
  struct Line {
    CodeSpace::Offset offset;
    std::string text;
    CodeSpace::Offset target;  // of a jump; 0: none
  };

  void NameThings() {
    const auto name = [this](const void* at, const std::string& text) {
      names_[reinterpret_cast<uint64_t>(at)] = text;
    };
    static const char* const kGpr[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI"};
    static const char* const kSegments[] = {"ES", "CS", "SS", "DS", "FS", "GS"};
    for (unsigned i = 0; i < 16; ++i)
      name(&around_.r[i], std::string("guest.") + (i < 8 ? kGpr[i] : "R" + std::to_string(i)));
    name(&around_.r[kRip], "guest.RIP");
    for (unsigned i = 0; i < 6; ++i)
      name(&around_.seg_base[i], std::string("base.") + kSegments[i]);
    for (unsigned i = 0; i < 6; ++i)
      name(&around_.seg[i].selector, std::string("selector.") + kSegments[i]);
    name(&around_.flags, "flags");
    name(&around_.bell, "bell");
    name(&around_.tlb, "tlb");
    name(&around_.key, "key");
    name(&around_.attention, "attention");
    name(&around_.rflags, "rflags");
    name(&around_.cpl, "cpl");
    name(&around_.instructions, "instructions");
    name(&around_.turn_end, "turn_end");
    name(&around_.state.apic, "apic");
    name(&around_.state.x87, "x87");
    name(&around_.fpu[FpuState::kFip], "FIP");
    name(&around_.fpu[FpuState::kFdp], "FDP");
    name(&around_.state.page, "page");
    name(&around_.state.scratch, "scratch");
    for (unsigned i = 0; i < kSpanSlots; ++i)
      name(&around_.state.span[i], "span." + std::to_string(i));
    name(&around_.state.vector, "vector");
    name(&around_.state.exit, "exit");
    name(&around_.state.site, "site");
    name(&around_.state.jumps, "jumps");
    name(space_.run(stubs_.leave), "leave");
    for (unsigned i = 0; i < stubs_.repeat.size(); ++i)
      name(space_.run(stubs_.repeat[i]),
           (i < 4 ? "rep_stos" : "rep_movs") + std::to_string(8 << i % 4));
    name(space_.run(stubs_.run_site), "run_site");
    name(space_.run(stubs_.indirect), "indirect");
    name(space_.run(stubs_.load_vectors), "load_vectors");
  }

  std::string NameOf(uint64_t address) const {
    const auto found = names_.find(address);
    return found == names_.end() ? "?" : found->second;
  }

  std::string Target(CodeSpace::Offset target) const {
    const auto label = labels_.find(target);
    if (label == labels_.end()) return NameOf(reinterpret_cast<uint64_t>(space_.run(target)));
    return label->second.substr(0, label->second.size() - 1);
  }

  void Disassemble(const CodeVerifier::Range& range, std::vector<Line>& lines) {
    ZydisDecoder decoder;
    ZydisFormatter formatter;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    for (CodeSpace::Offset at = range.begin; at < range.end;) {
      const uint8_t* code = space_.run(at);
      ZydisDecodedInstruction insn;
      ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
      REQUIRE(
          ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code, range.end - at, &insn, operands)));
      char text[128];
      ZydisFormatterFormatInstruction(&formatter, &insn, operands, insn.operand_count_visible, text,
                                      sizeof(text), ZYDIS_RUNTIME_ADDRESS_NONE, nullptr);
      lines.push_back({at, text, 0});
      for (unsigned i = 0; i < insn.operand_count_visible; ++i)
        NameOperand(insn, operands[i], code, lines.back());
      at += insn.length;
    }
  }

  void NameOperand(const ZydisDecodedInstruction& insn, const ZydisDecodedOperand& operand,
                   const uint8_t* code, Line& line) {
    ZyanU64 address;
    if (!ZYAN_SUCCESS(
            ZydisCalcAbsoluteAddress(&insn, &operand, reinterpret_cast<uint64_t>(code), &address)))
      return;
    if (operand.type == ZYDIS_OPERAND_TYPE_IMMEDIATE && operand.imm.is_relative) {
      line.text.resize(line.text.find(' ') + 1);
      line.target =
          static_cast<CodeSpace::Offset>(address - reinterpret_cast<uint64_t>(space_.run(0)));
      if (!names_.contains(address) && !labels_.contains(line.target))
        labels_[line.target] = std::to_string(labels_.size()) + ":";
    }
    const size_t open = line.text.find("[rip"), close = line.text.find(']');
    if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY && open != std::string::npos)
      line.text.replace(open + 1, close - open - 1, NameOf(address));
  }

  CodeWorkshop workshop_;
  const CodeSpace& space_ = workshop_.space;
  const Stubs& stubs_ = workshop_.stubs;
  Surroundings& around_ = workshop_.around;
  std::map<uint64_t, std::string> names_;
  std::map<CodeSpace::Offset, std::string> labels_;
};

}  // namespace

TEST_CASE("the translator emits the code that it did", "[emitted]") {
  const auto path = SourceRoot() / "tests/unit/bt/emitted_code.txt";
  Emitter emitter(false), direct(true);
  std::string emitted;
  for (const Sample& sample : kSamples) emitted += emitter.Emit(sample) + '\n';
  for (const Sample& sample : kDirectSamples) emitted += direct.Emit(sample) + '\n';
  if (std::getenv("VMM_UPDATE_GOLDENS")) std::ofstream(path) << emitted;
  std::ifstream file(path);
  std::stringstream golden;
  golden << file.rdbuf();
  std::istringstream is(emitted), was(golden.str());
  INFO("an intended change: VMM_UPDATE_GOLDENS=1 build/unit_tests '[emitted]'");
  std::string is_line, was_line, name;
  while (true) {
    const bool more = static_cast<bool>(std::getline(is, is_line));
    REQUIRE(static_cast<bool>(std::getline(was, was_line)) == more);
    if (!more) break;
    if (was_line.starts_with("== ")) name = was_line;
    INFO(name);
    REQUIRE(is_line == was_line);
  }
}
