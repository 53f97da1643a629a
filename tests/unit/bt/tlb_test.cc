// [SDM 3A] 4.10
#include "bt/interp/tlb.h"

#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <random>

using bt::Tlb;
using bt::TlbBank;
using bt::View;

namespace {

constexpr uint64_t kPage = 0x7f0000123000;

void Install(Tlb& tlb, uint64_t page, uint64_t host) {
  TlbBank& bank = tlb.bank(View::kUser);
  bank.SetRead(page, host);
  bank.SetWrite(page, host);
  bank.SetExec(page, 0);
}
bool Holds(Tlb& tlb, uint64_t page) {
  TlbBank& bank = tlb.bank(View::kUser);
  const bool read = bank.read.Holds(page);
  CHECK(read == bank.write.Holds(page));
  CHECK(read == bank.exec.Holds(page));
  return read;
}

}  // namespace

TEST_CASE("an address space keeps its entries while others run, if the guest says so", "[interp]") {
  Tlb tlb;
  tlb.Select(1, false);
  const uint64_t epoch = tlb.epoch(true);
  Install(tlb, kPage, 0x10000);
  tlb.Select(2, true);
  CHECK_FALSE(Holds(tlb, kPage));
  CHECK(tlb.epoch(true) != epoch);
  tlb.Select(1, true);
  CHECK(Holds(tlb, kPage));
  CHECK(tlb.epoch(true) == epoch);
  tlb.Select(1, false);
  CHECK_FALSE(Holds(tlb, kPage));
  CHECK(tlb.epoch(true) != epoch);
}

TEST_CASE("an address space that lost its place starts empty", "[interp]") {
  Tlb tlb;
  tlb.Select(1, false);
  Install(tlb, kPage, 0x10000);
  for (uint16_t pcid = 2; pcid < 2 + Tlb::kContexts; ++pcid) {
    tlb.Select(pcid, true);
    CHECK_FALSE(Holds(tlb, kPage));
    Install(tlb, kPage, 0x20000);
  }
  tlb.Select(1, true);
  CHECK_FALSE(Holds(tlb, kPage));
}

TEST_CASE("INVLPG voids what was found by linear address only where code was fetched", "[interp]") {
  Tlb tlb;
  tlb.Select(1, false);
  tlb.bank(View::kUser).NoteFetch(kPage);
  const uint64_t epoch = tlb.epoch(true);
  tlb.FlushPage(kPage + 0x1000);
  CHECK(tlb.epoch(true) == epoch);
  tlb.FlushPage(kPage + 0x10);
  CHECK(tlb.epoch(true) != epoch);
  // What has not been flushed may still be fetched from without another note.
  const uint64_t later = tlb.epoch(true);
  tlb.FlushPage(kPage);
  CHECK(tlb.epoch(true) != later);
  tlb.Flush();
  const uint64_t last = tlb.epoch(true);
  tlb.FlushPage(kPage);
  CHECK(tlb.epoch(true) == last);
}

TEST_CASE("INVLPG of users' pages leaves what a kernel's code was found by", "[interp]") {
  Tlb tlb;
  tlb.Select(1, false);
  constexpr uint64_t kKernel = 0xffffffff81000000;
  for (uint64_t page = 0; page < 0x1000; ++page)
    tlb.NoteFetch(View::kSupervisor, kKernel + page * 0x1000, true);
  const uint64_t epoch = tlb.epoch(false);
  for (uint64_t page = 0; page < 0x1000; ++page) tlb.FlushPage(kPage + page * 0x1000);
  CHECK(tlb.epoch(false) == epoch);
  tlb.NoteLargePage(kKernel, 21);
  tlb.FlushPage(kKernel + 0x1000);
  CHECK(tlb.epoch(false) != epoch);
}

TEST_CASE("INVLPG takes a page out of every address space", "[interp]") {
  Tlb tlb;
  for (uint16_t pcid : {1, 2}) {
    tlb.Select(pcid, false);
    Install(tlb, kPage, 0x10000);
    Install(tlb, kPage + 0x1000, 0x11000);
  }
  tlb.FlushPage(kPage + 0x10);
  for (uint16_t pcid : {1, 2}) {
    tlb.Select(pcid, true);
    CHECK_FALSE(Holds(tlb, kPage));
    CHECK(Holds(tlb, kPage + 0x1000));
  }
}

TEST_CASE("the pieces of a large page go together", "[interp]") {
  Tlb tlb;
  tlb.Select(0, false);
  const uint64_t region = kPage & ~0x3fffffull;
  const uint64_t other = region + 0x400000;
  tlb.NoteLargePage(region + 0x3ff000, 22);
  Install(tlb, region, 0x10000);
  Install(tlb, region + 0x3ff000, 0x20000);
  Install(tlb, other + 0x1000, 0x30000);
  tlb.FlushPage(region + 0x1000);
  CHECK_FALSE(Holds(tlb, region));
  CHECK_FALSE(Holds(tlb, region + 0x3ff000));
  CHECK(Holds(tlb, other + 0x1000));
  tlb.NoteLargePage(0, 30);
  tlb.FlushPage(region);
  CHECK_FALSE(Holds(tlb, other + 0x1000));
}

TEST_CASE("INVPCID touches the address space that it names", "[interp]") {
  Tlb tlb;
  for (uint16_t pcid : {1, 2}) {
    tlb.Select(pcid, false);
    Install(tlb, kPage, 0x10000);
  }
  tlb.FlushContextPage(1, kPage);
  CHECK(Holds(tlb, kPage));
  tlb.Select(1, true);
  CHECK_FALSE(Holds(tlb, kPage));
  tlb.FlushContext(2);
  tlb.Select(2, true);
  CHECK_FALSE(Holds(tlb, kPage));
}

TEST_CASE("write entries for a page of the host go everywhere", "[interp]") {
  Tlb tlb;
  for (uint16_t pcid : {1, 2}) {
    tlb.Select(pcid, false);
    tlb.bank(View::kUser).SetWrite(kPage, 0x10000);
  }
  tlb.DropWriteEntries(0x10000);
  for (uint16_t pcid : {1, 2}) {
    tlb.Select(pcid, true);
    CHECK_FALSE(tlb.bank(View::kUser).write.Holds(kPage));
  }
}

TEST_CASE("what supervisors see on global pages outlives a change of the address space",
          "[interp]") {
  Tlb tlb;
  tlb.Select(1, false);
  const TlbBank& bank = tlb.bank(View::kSupervisor);
  const auto install = [&](uint64_t page, bool global) {
    tlb.NotePage(View::kSupervisor, page, global);
    tlb.bank(View::kSupervisor).SetRead(page, 0x10000);
  };
  const uint64_t local = kPage + 0x1000;
  install(kPage, true);
  install(local, false);
  tlb.NoteFetch(View::kSupervisor, kPage, true);
  const uint64_t epoch = tlb.epoch(false);
  tlb.Select(1, true);  // the same one, kept
  CHECK(bank.read.Holds(local));
  tlb.Select(2, true);
  CHECK(bank.read.Holds(kPage));
  CHECK_FALSE(bank.read.Holds(local));
  CHECK(tlb.epoch(false) == epoch);
  CHECK(tlb.epoch(true) != epoch);

  install(local, false);
  tlb.Select(2, false);  // the same one, not kept
  CHECK_FALSE(bank.read.Holds(local));
  install(local, false);
  tlb.FlushContext(2);
  CHECK_FALSE(bank.read.Holds(local));
  CHECK(bank.read.Holds(kPage));

  tlb.FlushContextPage(2, kPage);
  CHECK_FALSE(bank.read.Holds(kPage));
  CHECK(tlb.epoch(false) != epoch);
  install(kPage, true);
  tlb.FlushPage(kPage);
  CHECK_FALSE(bank.read.Holds(kPage));
  install(kPage, true);
  tlb.Flush();
  CHECK_FALSE(bank.read.Holds(kPage));
}

TEST_CASE("code that supervisors fetched from a page of one address space is void in the next",
          "[interp]") {
  Tlb tlb;
  tlb.Select(1, false);
  for (View view : {View::kSupervisor, View::kSupervisorAc}) {
    tlb.NoteFetch(view, kPage, false);
    const uint64_t epoch = tlb.epoch(false);
    tlb.Select(view == View::kSupervisor ? 2 : 3, true);
    CHECK(tlb.epoch(false) != epoch);
  }
}

TEST_CASE("more pages of one address space than can be listed go all the same", "[interp]") {
  Tlb tlb;
  tlb.Select(1, false);
  TlbBank& bank = tlb.bank(View::kSupervisor);
  constexpr unsigned kPages = 300;
  for (unsigned i = 0; i < kPages; ++i) {
    tlb.NotePage(View::kSupervisor, kPage + i * 0x1000, false);
    bank.SetWrite(kPage + i * 0x1000, 0x10000);
  }
  tlb.Select(2, true);
  unsigned left = 0;
  for (unsigned i = 0; i < kPages; ++i) left += bank.write.Holds(kPage + i * 0x1000);
  CHECK(left == 0);
}

TEST_CASE("each way of emptying a table empties what it says, and nothing else", "[interp]") {
  auto bank = std::make_unique<TlbBank>();
  std::mt19937_64 random(1);
  std::map<uint64_t, uint64_t> expected;  // page: host page; no two of one index
  const auto& table = bank->write;
  const auto check = [&] {
    unsigned held = 0;
    for (const bt::TlbEntry& entry : table.entries) held += entry.page != 0;
    CHECK(held == expected.size());
    for (const auto& [page, host] : expected) CHECK(table.At(page).page == host);
  };
  const auto fill = [&] {
    for (unsigned i = 0; i < 2000; ++i) {
      const uint64_t page = (random() % 4 ? random() % 0x8000 : random() >> 17) << 12;
      const uint64_t host = (1 + random() % 64) << 12;
      const auto same = [&](const auto& at) { return table.Index(at.first) == table.Index(page); };
      std::erase_if(expected, same);
      bank->SetWrite(page, host);
      expected[page] = host;
    }
  };
  CHECK_FALSE(table.Holds(0));
  fill();
  check();
  for (unsigned i = 0; i < 500; ++i) {
    const uint64_t page = i % 2 ? expected.begin()->first : random() % 0x8000 << 12;
    bank->FlushPage(page + i);
    expected.erase(page);
  }
  check();
  for (uint64_t region : {uint64_t{0}, expected.rbegin()->first, uint64_t{0x1400000}}) {
    bank->FlushLargePage(region + 0x123456);
    std::erase_if(expected,
                  [&](const auto& at) { return at.first >> 22 == (region + 0x123456) >> 22; });
    check();
  }
  fill();
  bank->write.DropIf([](const bt::TlbEntry& entry) { return entry.page == 0x5000; });
  std::erase_if(expected, [](const auto& at) { return at.second == 0x5000; });
  check();
  bank->Flush();
  expected.clear();
  check();
  for (uint64_t page : {uint64_t{0}, uint64_t{0x1000}, kPage}) CHECK_FALSE(table.Holds(page));
}

TEST_CASE("the last 4 MiB of all are invalidated like others", "[interp]") {
  constexpr uint64_t kLast = 0xfffffffffffff000;
  Tlb tlb;
  tlb.Select(0, false);
  TlbBank& bank = tlb.bank(View::kSupervisor);
  bank.SetRead(kLast, 0x10000);
  tlb.NoteLargePage(kLast, 21);
  const uint64_t epoch = tlb.epoch(false);
  tlb.FlushPage(kLast - 0x3000);
  CHECK_FALSE(bank.read.Holds(kLast));
  CHECK(tlb.epoch(false) == epoch);  // nothing was fetched there
  tlb.NoteFetch(View::kSupervisor, kLast, true);
  tlb.FlushPage(kLast);
  CHECK(tlb.epoch(false) != epoch);
}
