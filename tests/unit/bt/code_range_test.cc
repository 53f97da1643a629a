// What a kernel reads of its global pages without an entry of the TLB for each. [SDM 3A] 4.10
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bt/interp/page_entry.h"
#include "bt/translator/translator.h"
#include "tests/unit/bt/bare_machine.h"
#include "tests/unit/bt/code_workshop.h"

namespace {

using bt::LeaveOut;
using bt::LinearRange;
using Code = std::vector<uint8_t>;

constexpr uint64_t kPage = vmm::kPageSize, kPages = 512;
constexpr uint64_t kRights =
    bt::kPresent | bt::kWritable | bt::kAccessed | bt::kDirty | bt::kGlobal;

std::vector<std::string> g_reports;  // of lock-step

std::unique_ptr<bt::Tier> MakeTier(bt::Cpu& cpu) {
  return std::make_unique<bt::Translator>(
      cpu, bt::Translator::Trial{LeaveOut::kNothing,
                                 [](const std::string& report) { g_reports.push_back(report); }});
}

// At CPL 0, with global pages.
class Machine : public LongModeMachine {
 public:
  static constexpr uint64_t kCode = 0x10000, kData = 0x20000, kOther = 0x30000;

  explicit Machine(bool lockstep = false, vmm::TranslateAside aside = vmm::TranslateAside::kWorthIt)
      : LongModeMachine(kRights, &MakeTier, [lockstep, aside](vmm::VmParts& parts) {
          parts.lockstep = lockstep;
          parts.translate_aside = aside;
        }) {
    cpu().cr4_ |= bt::cr4::PGE;
    cpu().FlushTlb();
    for (unsigned i = 0; i < kPage; i += 8) {
      Fill(kData + i, 1);
      Fill(kOther + i, 2);
    }
  }
  void Fill(uint64_t phys, uint64_t value) { std::memcpy(Host(phys), &value, sizeof(value)); }
  void SetPage(uint64_t number, uint64_t entry) { SetEntry(0x4000 + number * 8, entry); }
  // 16 pages at the end, or the beginning, of the 512 GiB that entry `top` stands for, by tables
  // from `tables` on.
  void MapEdge(uint64_t top, uint64_t tables, bool at_end, uint64_t frame) {
    const uint64_t slot = at_end ? 511 * 8 : 0;
    SetEntry(kTable + top * 8, tables | kRights);
    SetEntry(tables + slot, (tables + kPage) | kRights);
    SetEntry(tables + kPage + slot, (tables + 2 * kPage) | kRights);
    for (uint64_t i = 0; i < 16; ++i)
      SetEntry(tables + 2 * kPage + (at_end ? 496 + i : i) * 8, (frame + i) * kPage | kRights);
  }
  // Until a range has been looked for.
  void ReadPages(uint64_t first = 64) {
    for (uint64_t page = first; page < first + 16; ++page) {
      uint8_t byte = 0;
      REQUIRE(cpu().Load(page * kPage, byte));
    }
  }
  const LinearRange& Range() { return cpu().BankForTest(bt::View::kSupervisor).ranges[0]; }
  bool HasPage(uint64_t number) {
    return Range().Holds(number * kPage) && Range().Holds(number * kPage + kPage - 1);
  }
  uint64_t Compared() const { return Counted("instructions compared"); }
  // What MOV RAX, [RDI] finds there, in translated code.
  uint64_t Read(uint64_t linear) {
    const Code load = {0x48, 0x8b, 0x07};
    if (!stored_) Store(kCode, load);
    stored_ = true;
    for (unsigned i = 0; i < 40; ++i) {
      Registers gpr{};
      gpr[7] = linear;
      RunHot(kCode, load.size(), gpr, 50);
    }
    return cpu().r[0];
  }
  // Adds what is there, once in each of so many blocks, and all of that so often.
  uint64_t Sum(uint32_t blocks, uint8_t rounds) {
    const Code block = {0xbf, 0,    0,    2,    0,  // MOV EDI, kData
                        0x48, 0x03, 0x07,           // ADD RAX, [RDI]
                        0x48, 0x83, 0xc7, 0x08,     // ADD RDI, 8
                        0xeb, 0};                   // JMP to what follows
    Code code = {0xba, rounds, 0, 0, 0};            // MOV EDX, rounds
    for (uint32_t i = 0; i < blocks; ++i) code.insert(code.end(), block.begin(), block.end());
    code.insert(code.end(), {0xff, 0xca, 0x0f, 0x85});  // DEC EDX; JNZ to the first
    const uint32_t back = -(blocks * static_cast<uint32_t>(block.size()) + 8);
    for (unsigned i = 0; i < 4; ++i) code.push_back(static_cast<uint8_t>(back >> 8 * i));
    code.push_back(0xf4);  // HLT
    Store(kCode, code);
    cpu().ResetForTest(Registers{}, kCode, 2, {});
    REQUIRE(cpu().Run().exit == vmm::RunExit::kHalted);
    return cpu().r[0];
  }

 private:
  bool stored_ = false;
};

}  // namespace

TEST_CASE("a range ends where pages are not what a supervisor reads", "[interp]") {
  Machine whole;
  whole.ReadPages();
  CHECK(whole.HasPage(0));
  CHECK(whole.HasPage(kPages - 1));
  CHECK_FALSE(whole.Range().Holds(kPages * kPage));
  CHECK(whole.Range().size == kPages * kPage - LinearRange::kWidest);
  constexpr uint64_t kOdd = 100, kAddress = kOdd * kPage;
  const uint64_t odd[] = {0,
                          kAddress | (kRights & ~bt::kPresent),
                          kAddress | (kRights & ~bt::kAccessed),
                          kAddress | (kRights & ~bt::kGlobal),
                          (kAddress + kPage) | kRights,
                          (1ull << 40) | kRights};
  for (const uint64_t entry : odd) {
    CAPTURE(entry);
    Machine machine;
    machine.SetPage(kOdd, entry);
    machine.ReadPages();
    CHECK(machine.HasPage(kOdd - 1));
    CHECK_FALSE(machine.Range().Holds(kAddress));
    machine.cpu().FlushTlb();
    machine.ReadPages(kOdd + 1);
    CHECK(machine.HasPage(kOdd + 1));
    CHECK(machine.HasPage(kPages - 1));
    CHECK_FALSE(machine.Range().Holds(kAddress + kPage - 1));
  }
  // What follows the lower half in the tables is no address.
  Machine edge;
  constexpr uint64_t kEnd = 1ull << 47;
  edge.MapEdge(255, 0x5000, true, 240);
  edge.MapEdge(256, 0x8000, false, 256);
  edge.ReadPages(kEnd / kPage - 16);
  CHECK(edge.Range().Holds(kEnd - 1));
  CHECK_FALSE(edge.Range().Holds(kEnd));
  Machine watched;
  watched.cpu().cr4_ &= ~uint64_t{bt::cr4::PGE};
  watched.ReadPages();
  CHECK(watched.Range().size == 0);
}

TEST_CASE("a range goes when the guest invalidates one of its addresses", "[interp]") {
  Machine machine;
  machine.SetPage(100, 0);
  machine.ReadPages();
  REQUIRE(machine.HasPage(64));
  machine.cpu().FlushTlbPage(101 * kPage);
  CHECK(machine.HasPage(64));
  machine.cpu().SelectAddressSpace(false);  // global pages stay
  CHECK(machine.HasPage(64));
  machine.cpu().FlushTlbPage(3 * kPage + 5);
  CHECK(machine.Range().size == 0);
  machine.ReadPages(32);
  CHECK(machine.HasPage(3));
  machine.cpu().FlushTlb();
  CHECK(machine.Range().size == 0);
}

TEST_CASE("translated code reads in a range what the page tables say", "[interp]") {
  Machine machine;
  machine.ReadPages();
  REQUIRE(machine.HasPage(Machine::kData / kPage));
  CHECK(machine.Read(Machine::kData) == 1);
  machine.SetPage(Machine::kData / kPage, Machine::kOther | kRights);
  machine.cpu().FlushTlbPage(Machine::kData);
  CHECK(machine.Read(Machine::kData) == 2);
  // Beside it there may be a range again.
  machine.ReadPages(Machine::kOther / kPage + 1);
  REQUIRE(machine.HasPage(Machine::kOther / kPage));
  CHECK_FALSE(machine.Range().Holds(Machine::kData));
  CHECK(machine.Read(Machine::kOther) == 2);
  CHECK(machine.Read(Machine::kData) == 2);
  machine.Fill(Machine::kData + kPage, 0x0807060504030201);
  CHECK(machine.Read(Machine::kData + kPage - 1) == 0x0706050403020100);  // across its beginning
  machine.SetPage(Machine::kData / kPage, 0);
  machine.cpu().FlushTlbPage(Machine::kData);
  machine.Read(Machine::kData + 8);
  CHECK(machine.cpu().fault_.active);
  CHECK(machine.cpu().fault_.vector == bt::kPF);
  CHECK(machine.cpu().cr2_ == Machine::kData + 8);
  CHECK(machine.Read(Machine::kOther) == 2);
}

TEST_CASE("lock-step knows that a range needs no entry of the TLB", "[lockstep]") {
  g_reports.clear();
  Machine machine(true);
  machine.ReadPages();
  machine.Read(Machine::kData);  // in a range from its first translation on
  for (uint64_t page = 100; page < 120; ++page) machine.Read(page * kPage);
  CHECK(machine.Compared() > 100);
  INFO((g_reports.empty() ? "" : g_reports.front()));
  CHECK(g_reports.empty());
}

TEST_CASE("the guest reads on in a range while code of its is translated", "[interp][threads]") {
  for (unsigned i = 0; i < 8; ++i) {
    Machine machine(false, vmm::TranslateAside::kAlways);
    machine.ReadPages();
    CHECK(machine.Sum(2000, 250) == 2000 * 250);
  }
}

TEST_CASE("only what begins in a range is read there", "[verifier]") {
  CodeWorkshop workshop;
  const auto bank = std::make_unique<bt::TlbBank>();
  constexpr uint64_t kBegin = 0xffff888000000000, kImage = 0xffffffff81000000;
  bank->ranges[0] = {kBegin, kPage, 0x1000};
  bank->ranges[1] = {kImage, kPage, 0x2000};
  const auto fault = [&](const Code& code, uint64_t rdi, LeaveOut leave_out) {
    workshop.around.tlb = bank.get();
    workshop.around.r[7] = rdi;
    const std::string text = workshop.Verify(workshop.Translate(code, leave_out));
    return text.substr(0, text.find(" at 0x"));
  };
  const Code load = {0x8b, 0x07}, loads = {0x8b, 0x07, 0x8b, 0x47, 0x08};  // MOV EAX, [RDI] ...
  const Code store = {0x89, 0x07}, aligned = {0x0f, 0x28, 0x07};           // MOVAPS XMM0, [RDI]
  for (const uint64_t rdi : {kBegin + 8, kImage + 8}) {
    for (const Code& code : {load, loads, store, aligned})
      CHECK(fault(code, rdi, LeaveOut::kNothing) == "");
    CHECK(fault(load, rdi, LeaveOut::kRange) == "memory without a check");
    CHECK(fault(loads, rdi, LeaveOut::kRange) == "memory without a check");
    CHECK(fault(load, rdi, LeaveOut::kCrossing) == "more memory than was checked");
    CHECK(fault(aligned, rdi, LeaveOut::kAlignment) == "a misaligned operand");
    CHECK(fault(store, rdi, LeaveOut::kRange) == "");  // which only the TLB allows
  }
  CHECK(fault(load, 0x7000, LeaveOut::kRange) == "");  // nothing says that it is in one
}
