#include "campaign.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <optional>
#include <unordered_map>

#include "bt/isa/decoder.h"
#include "compare.h"
#include "generator.h"
#include "guest_cpu.h"
#include "native_cpu.h"
#include "neighbours.h"
#include "random.h"
#include "sequence_check.h"
#include "use_check.h"

namespace difftest {
namespace {

NativeCpu& Native() {
  static NativeCpu native;
  return native;
}

// One case of so many runs in a cell as well: the way there and back is long.
constexpr uint64_t kInCell = 15;

// Instructions that random cases meet once in tens of millions, and that were wrong. Each run
// begins with them, besides the cases that it counts.
constexpr uint64_t kKeptChunk = ~0ull, kKeptCases = 64;
const std::vector<uint8_t> kKept[] = {
    {0x2e, 0x0f, 0xf7, 0xf1},  // MASKMOVQ to CS
};

// Four chunks of five are 64-bit.
bool IsNarrow(uint64_t chunk) {
  return chunk % 5 == 4;
}

std::string Bits(const std::vector<bool>& bits) {
  std::string text;
  for (bool bit : bits) text += bit ? '1' : '0';
  return text;
}

uint64_t Count(const std::vector<bool>& bits) {
  return static_cast<uint64_t>(std::count(bits.begin(), bits.end(), true));
}

}  // namespace

// One code size: the engines in it, its forms, and how far they are covered.
class Campaign::Side {
 public:
  Side(bt::CodeSize code_size, std::vector<bool>& covered_forms)
      : code_size(code_size),
        guest(Engine::kInterpreter, code_size),
        forms(FindForms(code_size, guest.features())),
        covered(covered_forms) {
    if (covered.size() != forms.list.size()) covered.assign(forms.list.size(), false);
    for (size_t i = 0; i < forms.list.size(); ++i) index.emplace(forms.list[i].key, i);
    if (code_size != bt::CodeSize::k64) return;
    translator = std::make_unique<GuestCpu>(Engine::kTranslator, code_size);
    cell = std::make_unique<GuestCpu>(Engine::kCell, code_size);
  }
  const bt::CodeSize code_size;
  GuestCpu guest;
  // The translator, here and in a cell; null: not of this code size.
  std::unique_ptr<GuestCpu> translator, cell;
  const Forms forms;
  std::unordered_map<uint64_t, size_t> index;
  std::vector<bool>& covered;
};

Campaign::Campaign(const Options& options) : options_(options) {}

// The case in the translator, with neighbours, against what the host made of it.
std::string Campaign::RunTranslated(const Case& test, const char* engine, GuestCpu& guest,
                                    Result& native, Random& random) {
  std::vector<uint8_t> before = Neighbours(random), after = Neighbours(random);
  if (test.transfers || test.illegal) after.clear();
  // Control must not come back to what stands before it.
  if (kInsn - native.outcome.rip <= before.size()) before.clear();
  Result result{{}, test.registers, guest.writable()};
  result.outcome = guest.RunTranslated(test, before, after, result.registers);
  return Compare(test, engine, native, result);
}

void Campaign::RunChunk(Side& side, uint64_t chunk, uint64_t cases) {
  NativeCpu& native = Native();
  const uint64_t seed = options_.seed * 0x9e3779b97f4a7c15 + chunk;
  Generator generator(side.code_size, side.forms, side.guest.features(), seed);
  Random filler(seed);
  UseCheck use_check(native, ~seed);
  std::optional<SequenceCheck> sequences;
  if (side.translator) sequences.emplace(side.guest, *side.translator, seed);
  for (std::span<uint8_t> bytes : {native.writable(), native.read_only()}) {
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(filler());
  }
  std::vector<GuestCpu*> guests{&side.guest};
  if (side.translator) guests.insert(guests.end(), {side.translator.get(), side.cell.get()});
  for (GuestCpu* guest : guests) {
    std::ranges::copy(native.writable(), guest->writable().begin());
    std::ranges::copy(native.read_only(), guest->read_only().begin());
  }
  Result a{{}, {}, native.writable()}, b{{}, {}, side.guest.writable()};
  for (uint64_t i = 0; i < cases; ++i) {
    // Every other case goes through the forms one after the other.
    const bool by_form = i % 2 == 0;
    const size_t form = (chunk / 5 * cases + i) / 2 % side.forms.list.size();
    Case test = chunk == kKeptChunk ? generator.OfBytes(kKept[i % std::size(kKept)])
                : by_form           ? generator.OfForm(form)
                                    : generator.Any();
    test.insn.code_size = side.code_size;
    const bool in_cell = side.cell && i % kInCell == kInCell - 1;
    if (in_cell) std::ranges::copy(a.memory, side.cell->writable().begin());
    for (const Case::Poke& poke : test.pokes) {
      const auto at = static_cast<int64_t>(poke.address - kWritable);
      std::ranges::copy(poke.bytes, a.memory.begin() + at);
      for (GuestCpu* guest : guests) std::ranges::copy(poke.bytes, guest->writable().begin() + at);
    }
    a.registers = b.registers = test.registers;
    a.outcome = native.Run(test, a.registers);
    std::string difference = i % 4 < 2 ? use_check.Check(test, b.memory, a) : "";
    b.outcome = side.guest.Run(test, b.registers);
    totals_.faults += a.outcome.faulted;
    difference += Compare(test, "interpreter", a, b);
    if (side.translator) {
      difference += RunTranslated(test, "translator", *side.translator, a, filler);
      if (in_cell) difference += RunTranslated(test, "cell", *side.cell, a, filler);
      if (i % 4 >= 2) {
        difference += sequences->Check(test, a.outcome.faulted);
        std::ranges::copy(b.memory, a.memory.begin());
      }
    }
    if (!test.illegal) {
      const auto found = side.index.find(FormKey(test.insn));
      if (found != side.index.end()) side.covered[found->second] = true;
    }
    if (!difference.empty() && ++totals_.mismatches <= options_.most) {
      std::printf("chunk %" PRIu64 " case %" PRIu64 ": %s%s", chunk, i, Describe(test).c_str(),
                  difference.c_str());
      std::fflush(stdout);
    }
  }
  if (chunk == kKeptChunk) return;
  (side.code_size == bt::CodeSize::k64 ? totals_.cases64 : totals_.cases32) += cases;
}

bool Campaign::Run() {
  if (!LoadState()) return false;
  Side wide(bt::CodeSize::k64, totals_.covered64), narrow(bt::CodeSize::k32, totals_.covered32);
  if (!options_.only64) RunChunk(narrow, kKeptChunk, kKeptCases);
  if (!options_.only32) RunChunk(wide, kKeptChunk, kKeptCases);
  while (totals_.cases64 + totals_.cases32 < options_.cases) {
    const uint64_t left = options_.cases - totals_.cases64 - totals_.cases32;
    const uint64_t chunk = totals_.next_chunk++;
    if (options_.only64 && IsNarrow(chunk)) continue;
    if (options_.only32 && !IsNarrow(chunk)) continue;
    RunChunk(IsNarrow(chunk) ? narrow : wide, chunk, std::min(left, kChunk));
    if (!SaveState()) return false;
  }
  return Report(wide, narrow);
}

// A state file is text: a version, the seed, the counts, and a digit for each form.
bool Campaign::LoadState() {
  if (options_.state_file.empty()) return true;
  std::ifstream in(options_.state_file);
  if (!in) return true;  // the first run
  std::string word, bits64, bits32;
  uint64_t version = 0, seed = 0;
  in >> word >> version >> seed >> totals_.next_chunk >> totals_.cases64 >> totals_.cases32 >>
      totals_.faults >> totals_.mismatches >> bits64 >> bits32;
  if (!in || word != "differential" || version != 2 || seed != options_.seed) {
    std::fprintf(stderr,
                 "differential: %s is not a state file of this test with seed %" PRIu64 "\n",
                 options_.state_file.c_str(), options_.seed);
    return false;
  }
  for (char bit : bits64) totals_.covered64.push_back(bit == '1');
  for (char bit : bits32) totals_.covered32.push_back(bit == '1');
  std::printf("differential: going on at chunk %" PRIu64 "\n", totals_.next_chunk);
  return true;
}

bool Campaign::SaveState() const {
  if (options_.state_file.empty()) return true;
  const std::string next = options_.state_file + ".new";
  {
    std::ofstream out(next);
    out << "differential 2 " << options_.seed << ' ' << totals_.next_chunk << ' ' << totals_.cases64
        << ' ' << totals_.cases32 << ' ' << totals_.faults << ' ' << totals_.mismatches << '\n'
        << Bits(totals_.covered64) << '\n'
        << Bits(totals_.covered32) << '\n';
    if (!out.flush()) {
      std::perror(next.c_str());
      return false;
    }
  }
  if (std::rename(next.c_str(), options_.state_file.c_str()) == 0) return true;
  std::perror(options_.state_file.c_str());
  return false;
}

bool Campaign::Report(const Side& wide, const Side& narrow) const {
  bool complete = true;
  for (const Side* side : {&wide, &narrow}) {
    const char* bits = side == &wide ? "64-bit" : "32-bit";
    if (side == &wide ? options_.only32 : options_.only64) continue;
    const uint64_t covered = Count(side->covered);
    for (const std::string& name : side->forms.missing)
      std::printf("%s: %s is advertised, but neither generated nor excluded\n", bits, name.c_str());
    for (const std::string& line : side->forms.excluded)
      std::printf("%s: excluded %s\n", bits, line.c_str());
    std::printf(
        "%s: %u instructions advertised, %u generated, %zu excluded; forms covered: %" PRIu64
        " of %zu\n",
        bits, side->forms.advertised_rows, side->forms.generated_rows, side->forms.excluded.size(),
        covered, side->forms.list.size());
    // A run too short to go once through all forms proves nothing of coverage.
    const uint64_t cases = side == &wide ? totals_.cases64 : totals_.cases32;
    const bool enough = cases >= 2 * side->forms.list.size();
    complete &= side->forms.missing.empty() && (!enough || covered == side->forms.list.size());
  }
  if (wide.translator)
    std::printf("64-bit: %" PRIu64 " runs of cases in translated code, %" PRIu64
                " hand-overs to a cell\n",
                wide.translator->translated(), wide.cell->hand_overs());
  std::printf("differential: %" PRIu64 " cases (%" PRIu64 " 64-bit, %" PRIu64 " 32-bit), %" PRIu64
              " faults, %" PRIu64 " mismatches (seed %" PRIu64 ")%s\n",
              totals_.cases64 + totals_.cases32, totals_.cases64, totals_.cases32, totals_.faults,
              totals_.mismatches, options_.seed, complete ? "" : ", coverage incomplete");
  return complete && totals_.mismatches == 0;
}

}  // namespace difftest
