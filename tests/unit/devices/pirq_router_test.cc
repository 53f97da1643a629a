// From a function's interrupt pin to the 8259s and the IOAPIC.
#include "vmm/core/pci/pirq_router.h"

#include <catch2/catch.hpp>
#include <vector>

#include "../support/fakes.h"
#include "vmm/core/pci/piix3_isa.h"

using namespace fakes;
using namespace vmm;

namespace {

struct Rig final : IoapicOutput, ExtIntListener {
  Rig() {
    for (unsigned i = 0; i < 4; ++i) pirqs.Route(i, isa.RouteOf(i));
    for (const uint8_t word : {0x11, 0x08, 0x04, 0x01, 0x00}) Init(pic.master(), word);
    for (const uint8_t word : {0x11, 0x70, 0x02, 0x01, 0x00}) Init(pic.slave(), word);
    Out(pic.elcr(), 0, 0x20);
    Out(pic.elcr(), 1, 0x0C);  // 10 and 11 are levels
    for (unsigned pin = 16; pin < 20; ++pin) {
      Out(ioapic, 0, 0x10 + 2 * pin, 4);
      Out(ioapic, 0x10, 0x8000 | (0x40 + pin), 4);  // level
    }
  }
  static void Init(Device& chip, uint8_t word) { Out(chip, word == 0x11 ? 0 : 1, word); }
  void SendMsi(MsiMessage message) override { vectors.push_back(message.data & 0xFF); }
  void ExtIntChanged() override {}
  void IoapicRouteChanged(unsigned, MsiMessage, bool, bool) override {}
  // The 8259s' requests: 8 to 15 above 0 to 7.
  uint64_t Requests() {
    Out(pic.slave(), 0, 0x0A);
    return In(pic.slave(), 0) << 8;
  }
  std::vector<uint32_t> TakeVectors() { return std::exchange(vectors, {}); }

  std::vector<uint32_t> vectors;
  Pic8259Pair pic{*this};
  Ioapic ioapic{*this};
  IrqRouter router{pic, ioapic};
  PirqRouter pirqs{router};
  Piix3Isa isa{[this](unsigned pirq, Piix3Isa::Route route) { pirqs.Route(pirq, route); }};
};

}  // namespace

TEST_CASE("pins of slots take turns on the four PIRQs", "[pci]") {  // [ACPI] 6.2.13
  CHECK(PirqRouter::PirqOf({1, 0}, 0) == 0);
  CHECK(PirqRouter::PirqOf({1, 3}, 3) == 3);
  CHECK(PirqRouter::PirqOf({2, 0}, 0) == 1);
  CHECK(PirqRouter::PirqOf({4, 0}, 0) == 3);
  CHECK(PirqRouter::PirqOf({5, 0}, 0) == 0);
  CHECK(PirqRouter::PirqOf({31, 0}, 1) == 3);
}

TEST_CASE("a pin reaches its IOAPIC input and the ISA interrupt of its PIRQ", "[pci]") {
  Rig r;
  IrqLine& line = r.pirqs.Pin({4, 0}, 0);  // PIRQD
  line.Set(true);
  CHECK(r.TakeVectors() == std::vector<uint32_t>{0x40 + 19});
  CHECK(r.Requests() == 1u << 11);
  line.Set(false);
  CHECK(r.Requests() == 0);
}

TEST_CASE("a PIRQ is high while any function holds it, and asks again after EOI", "[pci]") {
  Rig r;
  IrqLine& one = r.pirqs.Pin({1, 0}, 0);
  IrqLine& two = r.pirqs.Pin({5, 0}, 0);
  one.Set(true);
  two.Set(true);
  two.Set(true);
  CHECK(r.TakeVectors() == std::vector<uint32_t>{0x40 + 16});
  one.Set(false);
  CHECK(r.Requests() == 1u << 10);
  r.ioapic.OnEoi(0x50);
  CHECK(r.TakeVectors() == std::vector<uint32_t>{0x50});
  two.Set(false);
  CHECK(r.Requests() == 0);
  r.ioapic.OnEoi(0x50);
  CHECK(r.TakeVectors().empty());
}

TEST_CASE("a PIRQ that is routed elsewhere takes its level along", "[pci]") {  // [PIIX3] PIRQRC
  Rig r;
  IrqLine& line = r.pirqs.Pin({1, 0}, 0);
  IrqLine& other = r.pirqs.Pin({2, 0}, 0);
  line.Set(true);
  other.Set(true);
  CHECK(r.Requests() == 1u << 10);  // both go there
  const auto route = [&](unsigned pirq, uint8_t value) {
    r.isa.WriteConfig(static_cast<uint16_t>(0x60 + pirq), {&value, 1});
  };
  route(0, 11);
  CHECK(r.Requests() == (1u << 10 | 1u << 11));
  route(1, 11);
  CHECK(r.Requests() == 1u << 11);
  route(0, 0x80);
  CHECK(r.Requests() == 1u << 11);
  route(1, 0x8B);
  CHECK(r.Requests() == 0);
  CHECK(r.TakeVectors() == std::vector<uint32_t>{0x50, 0x51});
  r.isa.Reset();
  CHECK(r.Requests() == 1u << 10);
}
