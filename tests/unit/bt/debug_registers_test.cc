// [SDM 3B] 17.2
#include "bt/interp/debug_registers.h"

#include <catch2/catch.hpp>

using bt::DebugRegisters;

namespace {

constexpr uint64_t kG0 = 2, kL1 = 4, kWrite = 1, kPort = 2, kAccess = 3;
constexpr uint64_t Field(unsigned index, uint64_t kind, uint64_t length) {
  return (kind | length << 2) << (16 + 4 * index);
}

}  // namespace

TEST_CASE("fixed bits of DR6 and DR7 read as the manual says", "[interp]") {
  DebugRegisters debug;
  debug.SetDr6(0);
  CHECK(debug.dr6() == 0xffff0ff0);
  debug.SetDr6(0xffffffff);
  CHECK(debug.dr6() == 0xffffefff);
  debug.SetDr7(0);
  CHECK(debug.dr7() == 0x400);
  debug.SetDr7(0xffffffff);
  CHECK(debug.dr7() == 0xffff27ff);
}

TEST_CASE("a breakpoint matches only when L or G enables it", "[interp]") {
  DebugRegisters debug;
  debug.SetAddress(0, 0x1000);
  debug.SetAddress(1, 0x1000);
  CHECK(debug.CodeHits(0x1000) == 0);
  CHECK_FALSE(debug.any());
  debug.SetDr7(kL1);
  CHECK(debug.CodeHits(0x1000) == 2);
  debug.SetDr7(kL1 | kG0);
  CHECK(debug.CodeHits(0x1000) == 3);
  CHECK(debug.CodeHits(0x1001) == 0);
  CHECK_FALSE(debug.data());
}

TEST_CASE("watched data is aligned down to the length and matches any overlap", "[interp]") {
  DebugRegisters debug;
  debug.SetAddress(0, 0x1006);
  debug.SetDr7(kG0 | Field(0, kWrite, 3));  // 4 bytes: 0x1004 to 0x1007
  CHECK(debug.DataHits(0x1000, 4, true) == 0);
  CHECK(debug.DataHits(0x1001, 4, true) == 1);
  CHECK(debug.DataHits(0x1007, 1, true) == 1);
  CHECK(debug.DataHits(0x1008, 8, true) == 0);
  CHECK(debug.DataHits(0x1004, 4, false) == 0);
  CHECK(debug.WatchesPage(0x1000, true));
  CHECK_FALSE(debug.WatchesPage(0x1000, false));
  CHECK_FALSE(debug.WatchesPage(0x2000, true));
  debug.SetDr7(kG0 | Field(0, kAccess, 2));  // 8 bytes
  CHECK(debug.DataHits(0x1000, 1, false) == 1);
  CHECK(debug.WatchesPage(0x1000, false));
}

TEST_CASE("ports are watched only with CR4.DE", "[interp]") {
  DebugRegisters debug;
  debug.SetAddress(0, 0x3f8);
  debug.SetDr7(kG0 | Field(0, kPort, 1));
  CHECK(debug.IoHits(0x3f8, 1) == 0);
  debug.SetDebuggingExtensions(true);
  CHECK(debug.IoHits(0x3f9, 1) == 1);
  CHECK(debug.IoHits(0x3fa, 1) == 0);
  CHECK(debug.DataHits(0x3f8, 1, true) == 0);
  CHECK(debug.CodeHits(0x3f8) == 0);
}

TEST_CASE("a report replaces B0 to B3 and leaves what software has not cleared", "[interp]") {
  DebugRegisters debug;
  debug.Report(bt::dr6::BS | 1);
  debug.Report(2);
  CHECK(debug.dr6() == (0xffff0ff0 | bt::dr6::BS | 2));
}
