// [SDM 3A] 4.10
#include "bt/interp/tlb.h"

#include <catch2/catch.hpp>

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
  const uint64_t epoch = tlb.epoch();
  Install(tlb, kPage, 0x10000);
  tlb.Select(2, true);
  CHECK_FALSE(Holds(tlb, kPage));
  CHECK(tlb.epoch() != epoch);
  tlb.Select(1, true);
  CHECK(Holds(tlb, kPage));
  CHECK(tlb.epoch() == epoch);
  tlb.Select(1, false);
  CHECK_FALSE(Holds(tlb, kPage));
  CHECK(tlb.epoch() != epoch);
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
  const uint64_t epoch = tlb.epoch();
  tlb.FlushPage(kPage + 0x1000);
  CHECK(tlb.epoch() == epoch);
  tlb.FlushPage(kPage + 0x10);
  CHECK(tlb.epoch() != epoch);
  // What has not been flushed may still be fetched from without another note.
  const uint64_t later = tlb.epoch();
  tlb.FlushPage(kPage);
  CHECK(tlb.epoch() != later);
  tlb.Flush();
  const uint64_t last = tlb.epoch();
  tlb.FlushPage(kPage);
  CHECK(tlb.epoch() == last);
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
