#include "vmm/core/irq/local_apic.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <deque>

#include "irq_fakes.h"

using namespace vmm;
using namespace vmm::test;
using apic::Bit;
using apic::Reg;
using namespace std::chrono_literals;

namespace {

struct CountingHost final : LocalApic::Host {
  int attentions = 0;
  void OnApicAttention() override { ++attentions; }
};

// A machine of `count` processors, each with the local APIC as a kernel finds it.
struct Cpus {
  explicit Cpus(unsigned count) : hosts(count) {
    for (unsigned id = 0; id < count; ++id)
      apics.emplace_back(id, time.clock, time.timers, bus, hosts[id]);
  }
  LocalApic& operator[](unsigned id) { return apics[id]; }

  FakeTime time;
  FakePic pic;
  FakeEoiListener ioapic;
  ApicBus bus{pic, ioapic};
  std::deque<CountingHost> hosts;
  std::deque<LocalApic> apics;
};

uint32_t Get(LocalApic& apic, Reg reg) {
  uint32_t value = 0;
  apic.Read(Bit(reg), {reinterpret_cast<uint8_t*>(&value), 4});
  return value;
}

void Put(LocalApic& apic, Reg reg, uint32_t value) {
  apic.Write(Bit(reg), {reinterpret_cast<const uint8_t*>(&value), 4});
}

void Enable(LocalApic& apic) {
  Put(apic, Reg::SVR, 0x1ff);
}

void EnableX2Apic(LocalApic& apic) {
  REQUIRE(apic.WriteMsr(apic::kMsrApicBase, apic.apic_base() | 0xc00));
  REQUIRE(apic.WriteMsr(0x80f, 0x1ff));
}

uint64_t GetMsr(LocalApic& apic, uint32_t index) {
  uint64_t value = 0;
  REQUIRE(apic.ReadMsr(index, &value));
  return value;
}

MsiMessage Msi(uint8_t destination, uint32_t data, bool logical = false, bool redirect = false) {
  return {0xfee00000ull | destination << 12 | (redirect ? 8 : 0) | (logical ? 4 : 0), data};
}

}  // namespace

TEST_CASE("A local APIC after RESET shows the values of [SDM 3A] 10.4.7.1") {
  Cpus cpus(2);
  CHECK(cpus[0].apic_base() == 0xfee00900);
  CHECK(cpus[1].apic_base() == 0xfee00800);
  CHECK(Get(cpus[1], Reg::ID) == 1u << 24);
  CHECK((Get(cpus[1], Reg::VERSION) & 0xff00ff) == 0x050014);
  CHECK(Get(cpus[1], Reg::SVR) == 0xff);
  CHECK(Get(cpus[1], Reg::DFR) == 0xffffffff);
  CHECK(Get(cpus[1], Reg::LDR) == 0);
  CHECK(Get(cpus[1], Reg::LVT_LINT0) == 0x10000);
  CHECK(Get(cpus[1], Reg::LVT_TIMER) == 0x10000);
  // The boot processor's LINT0 is left to the 8259, as firmware would.
  CHECK(Get(cpus[0], Reg::LVT_LINT0) == 0x700);
  CHECK_FALSE(cpus[0].HasAttention());
}

TEST_CASE("The APIC page answers where IA32_APIC_BASE says, in xAPIC mode only") {
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  CHECK(apic.Claims(GuestPhys(0xfee00300)));
  CHECK_FALSE(apic.Claims(GuestPhys(0xfee01000)));
  REQUIRE(apic.WriteMsr(apic::kMsrApicBase, 0xfed00900));
  CHECK(apic.Claims(GuestPhys(0xfed00020)));
  CHECK_FALSE(apic.Claims(GuestPhys(0xfee00020)));
  REQUIRE(apic.WriteMsr(apic::kMsrApicBase, 0xfed00d00));
  CHECK_FALSE(apic.Claims(GuestPhys(0xfed00020)));
}

TEST_CASE("A fixed MSI goes through IRR and ISR to EOI") {
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  cpus.bus.SendMsi(Msi(0, 0x41));
  CHECK_FALSE(apic.HasDeliverable());  // software-disabled: refused, not held [SDM 3A] 10.4.7.2
  Enable(apic);
  cpus.bus.SendMsi(Msi(0, 0x41));
  CHECK(apic.HasDeliverable());
  CHECK(apic.HasAttention());
  CHECK(cpus.hosts[0].attentions == 1);
  CHECK(Get(apic, static_cast<Reg>(0x220)) == 2);
  CHECK(apic.Acknowledge() == 0x41);
  CHECK(apic.Acknowledge() == -1);
  CHECK(Get(apic, static_cast<Reg>(0x220)) == 0);
  CHECK(Get(apic, static_cast<Reg>(0x120)) == 2);
  CHECK(Get(apic, Reg::PPR) == 0x40);
  Put(apic, Reg::EOI, 0);
  CHECK(Get(apic, static_cast<Reg>(0x120)) == 0);
  CHECK(Get(apic, Reg::PPR) == 0);
  CHECK(cpus.ioapic.eois.empty());  // edge triggered
}

TEST_CASE("Priorities: only a higher class interrupts, the rest waits for EOI or TPR") {
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  Enable(apic);
  cpus.bus.SendMsi(Msi(0, 0x51));
  REQUIRE(apic.Acknowledge() == 0x51);
  cpus.bus.SendMsi(Msi(0, 0x5f));  // same class [SDM 3A] 10.8.3.1
  CHECK_FALSE(apic.HasDeliverable());
  cpus.bus.SendMsi(Msi(0, 0x61));
  REQUIRE(apic.Acknowledge() == 0x61);
  Put(apic, Reg::EOI, 0);
  CHECK_FALSE(apic.HasDeliverable());
  Put(apic, Reg::EOI, 0);
  REQUIRE(apic.HasDeliverable());
  apic.set_cr8(5);
  CHECK(Get(apic, Reg::TPR) == 0x50);
  CHECK_FALSE(apic.HasDeliverable());
  const int before = cpus.hosts[0].attentions;
  Put(apic, Reg::TPR, 0x4f);
  CHECK(apic.cr8() == 4);
  CHECK(cpus.hosts[0].attentions == before + 1);
  CHECK(apic.Acknowledge() == 0x5f);
}

TEST_CASE("EOI of a level-triggered vector is told to the IOAPIC unless suppressed") {
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  Enable(apic);
  cpus.bus.SendMsi(Msi(0, 0xc041));
  REQUIRE(apic.Acknowledge() == 0x41);
  CHECK(Get(apic, static_cast<Reg>(0x1a0)) == 2);
  Put(apic, Reg::EOI, 0);
  CHECK(cpus.ioapic.eois == std::vector<int>{0x41});
  Put(apic, Reg::SVR, 0x11ff);  // [SDM 3A] 10.8.5
  cpus.bus.SendMsi(Msi(0, 0xc041));
  REQUIRE(apic.Acknowledge() == 0x41);
  Put(apic, Reg::EOI, 0);
  CHECK(cpus.ioapic.eois.size() == 1);
}

TEST_CASE("The 8259 reaches the boot processor through LINT0 while it is ExtINT") {
  Cpus cpus(2);
  LocalApic& apic = cpus[0];
  const auto raise = [&](bool level) {
    cpus.pic.intr = level;
    cpus.bus.ExtIntChanged();
  };
  raise(true);
  CHECK(apic.HasDeliverable());
  CHECK_FALSE(cpus[1].HasDeliverable());
  CHECK(cpus.hosts[0].attentions == 1);
  CHECK(apic.Acknowledge() == 0x30);
  CHECK_FALSE(apic.HasDeliverable());
  CHECK(Get(apic, static_cast<Reg>(0x110)) == 0);  // ExtINT does not touch ISR

  Enable(apic);
  Put(apic, Reg::TPR, 0xff);  // nor does it ask TPR
  raise(true);
  CHECK(apic.HasDeliverable());
  Put(apic, Reg::LVT_LINT0, 0x10700);
  CHECK_FALSE(apic.HasDeliverable());
  Put(apic, Reg::LVT_LINT0, 0x700);
  CHECK(apic.HasDeliverable());
  raise(false);
  CHECK_FALSE(apic.HasDeliverable());
}

TEST_CASE("A globally disabled APIC leaves the INTR pin to the 8259") {
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  Enable(apic);
  Put(apic, Reg::LVT_LINT0, 0x10000);
  REQUIRE(apic.WriteMsr(apic::kMsrApicBase, 0xfee00100));
  CHECK_FALSE(apic.Claims(GuestPhys(0xfee00000)));
  cpus.pic.intr = true;
  cpus.bus.ExtIntChanged();
  CHECK(apic.Acknowledge() == 0x30);
  cpus.bus.SendMsi(Msi(0, 0x41));
  CHECK_FALSE(apic.HasDeliverable());
}

TEST_CASE("LINT0 in fixed mode interrupts at each rising edge of the 8259's INTR") {
  // Linux's last resort when the timer interrupt does not come through the IOAPIC.
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  Enable(apic);
  Put(apic, Reg::LVT_LINT0, 0x30);
  cpus.pic.intr = true;
  cpus.bus.ExtIntChanged();
  cpus.bus.ExtIntChanged();
  CHECK(apic.Acknowledge() == 0x30);
  Put(apic, Reg::EOI, 0);
  CHECK_FALSE(apic.HasDeliverable());
}

TEST_CASE("A level-triggered LINT0 is taken again after EOI while it stays high") {
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  Enable(apic);
  Put(apic, Reg::LVT_LINT0, 0x8031);
  cpus.pic.intr = true;
  cpus.bus.ExtIntChanged();
  CHECK(Get(apic, Reg::LVT_LINT0) == 0xc031);  // remote IRR [SDM 3A] 10.5.1
  REQUIRE(apic.Acknowledge() == 0x31);
  Put(apic, Reg::EOI, 0);
  REQUIRE(apic.Acknowledge() == 0x31);
  cpus.pic.intr = false;
  cpus.bus.ExtIntChanged();
  Put(apic, Reg::EOI, 0);
  CHECK_FALSE(apic.HasDeliverable());
  CHECK(cpus.ioapic.eois.empty());
}

TEST_CASE("The NMI button is what LINT1 makes of it") {
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  Enable(apic);
  apic.PulseLint1();
  CHECK_FALSE(apic.HasNmi());  // masked
  Put(apic, Reg::LVT_LINT1, 0x400);
  apic.PulseLint1();
  CHECK(apic.TakeNmi());
  CHECK_FALSE(apic.TakeNmi());
  Put(apic, Reg::LVT_LINT1, 0x45);
  apic.PulseLint1();
  CHECK(apic.Acknowledge() == 0x45);
}

TEST_CASE(
    "INIT, then start-up, start an application processor; a second start-up changes nothing") {
  Cpus cpus(2);
  Enable(cpus[0]);
  Put(cpus[1], Reg::LVT_ERROR, 0x77);
  Put(cpus[0], Reg::ICR_HIGH, 1u << 24);
  Put(cpus[0], Reg::ICR_LOW, 0xc500);  // INIT, level, assert
  CHECK(cpus.hosts[1].attentions == 1);
  Put(cpus[0], Reg::ICR_LOW, 0x8500);  // de-assert
  CHECK(cpus.hosts[1].attentions == 1);
  CHECK(cpus[1].HasInit());
  REQUIRE(cpus[1].TakeInit());
  Put(cpus[0], Reg::ICR_LOW, 0x0608);  // SIPI that comes before the reset is done
  cpus[1].InitReset();
  CHECK(Get(cpus[1], Reg::LVT_ERROR) == 0x10000);
  CHECK(cpus[1].HasSipi());
  CHECK(cpus[1].TakeSipi() == 8);
  CHECK(cpus[1].TakeSipi() == -1);
  CHECK_FALSE(cpus[0].HasAttention());
  // A start-up that was left over does not survive the next INIT.
  Put(cpus[0], Reg::ICR_LOW, 0x0609);
  Put(cpus[0], Reg::ICR_LOW, 0xc500);
  CHECK(cpus[1].TakeSipi() == -1);
}

TEST_CASE("IPI shorthands reach self, all, and all but self") {
  Cpus cpus(3);
  for (unsigned i = 0; i < 3; ++i) Enable(cpus[i]);
  const auto taken = [&] {
    return std::vector<int>{cpus[0].Acknowledge(), cpus[1].Acknowledge(), cpus[2].Acknowledge()};
  };
  Put(cpus[1], Reg::ICR_LOW, 0x40031);
  CHECK(taken() == std::vector<int>{-1, 0x31, -1});
  Put(cpus[1], Reg::ICR_LOW, 0x80042);
  CHECK(taken() == std::vector<int>{0x42, 0x42, 0x42});
  Put(cpus[1], Reg::ICR_LOW, 0xc0053);
  CHECK(taken() == std::vector<int>{0x53, -1, 0x53});
  Put(cpus[1], Reg::ICR_LOW, 0xc0400);
  CHECK(cpus[0].TakeNmi());
  CHECK_FALSE(cpus[1].TakeNmi());
  CHECK(cpus[2].TakeNmi());
  CHECK((Get(cpus[1], Reg::ICR_LOW) & 0x1000) == 0);  // idle
}

TEST_CASE("Logical destinations: flat and cluster model, and broadcast") {
  Cpus cpus(3);
  for (unsigned i = 0; i < 3; ++i) {
    Enable(cpus[i]);
    Put(cpus[i], Reg::LDR, 0x01000000u << i);
  }
  const auto send = [&](uint8_t destination) {
    cpus.bus.SendMsi(Msi(destination, 0x41, true));
    unsigned mask = 0;
    for (unsigned i = 0; i < 3; ++i) {
      if (cpus[i].Acknowledge() == 0x41) mask |= 1u << i;
      Put(cpus[i], Reg::EOI, 0);
    }
    return mask;
  };
  CHECK(send(0x05) == 5);  // [SDM 3A] 10.6.2.2
  CHECK(send(0x08) == 0);
  CHECK(send(0xff) == 7);
  for (unsigned i = 0; i < 3; ++i) {
    Put(cpus[i], Reg::DFR, 0x0fffffff);
    Put(cpus[i], Reg::LDR, i == 2 ? 0x21000000u : 0x11000000u << i & 0x13000000u);
  }
  // Processors 0 and 1 are members 1 and 2 of cluster 1, processor 2 is member 1 of cluster 2.
  Put(cpus[1], Reg::LDR, 0x12000000);
  CHECK(send(0x11) == 1);
  CHECK(send(0x13) == 3);
  CHECK(send(0x23) == 4);
  CHECK(send(0xff) == 7);
}

TEST_CASE("x2APIC mode: ids, logical ids in clusters, and a single ICR") {
  Cpus cpus(18);
  for (unsigned i = 0; i < 18; ++i) EnableX2Apic(cpus[i]);
  CHECK(GetMsr(cpus[17], 0x802) == 17);
  CHECK(GetMsr(cpus[17], 0x80d) == 0x10002);  // [SDM 3A] 10.12.10.2
  const auto received = [&](uint64_t icr) {
    REQUIRE(cpus[0].WriteMsr(0x830, icr));
    uint32_t mask = 0;
    for (unsigned i = 0; i < 18; ++i) {
      if (cpus[i].Acknowledge() >= 0) mask |= 1u << i;
      REQUIRE(cpus[i].WriteMsr(0x80b, 0));
    }
    return mask;
  };
  CHECK(received(0x00000011'00000041) == 1u << 17);  // physical
  CHECK(received(0x000000ff'00000041) == 0);         // an id like any other
  CHECK(received(0xffffffff'00000041) == 0x3ffff);   // broadcast
  CHECK(received(0x00000005'00000841) == 0x5);       // logical, cluster 0
  CHECK(received(0x00010003'00000841) == 0x30000);   // logical, cluster 1
  CHECK(received(0x00000000'000c0041) == 0x3fffe);   // all but self
  CHECK(GetMsr(cpus[0], 0x830) == 0x000c0041);
  CHECK(received(0xffffffff'00000841) == 0x3ffff);
  REQUIRE(cpus[3].WriteMsr(0x83f, 0x99));  // self IPI
  CHECK(cpus[3].Acknowledge() == 0x99);
}

TEST_CASE("x2APIC mode: reserved bits, holes and wrong directions are #GP") {
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  uint64_t value;
  CHECK_FALSE(apic.ReadMsr(0x802, &value));  // not in x2APIC mode
  CHECK_FALSE(apic.WriteMsr(0x808, 0));
  EnableX2Apic(apic);
  for (uint32_t index : {0x800u, 0x804u, 0x809u, 0x80cu, 0x80eu, 0x80bu, 0x831u, 0x83fu, 0x82fu}) {
    CAPTURE(index);
    CHECK_FALSE(apic.ReadMsr(index, &value));
  }
  for (uint32_t index : {0x802u, 0x803u, 0x80au, 0x80du, 0x810u, 0x839u, 0x80eu, 0x831u}) {
    CAPTURE(index);
    CHECK_FALSE(apic.WriteMsr(index, 0));
  }
  CHECK_FALSE(apic.WriteMsr(0x80b, 1));  // EOI and ESR take 0 only
  CHECK_FALSE(apic.WriteMsr(0x828, 1));
  CHECK_FALSE(apic.WriteMsr(0x808, 0x100));
  CHECK_FALSE(apic.WriteMsr(0x808, uint64_t{1} << 32));
  CHECK_FALSE(apic.WriteMsr(0x83e, 4));
  CHECK_FALSE(apic.WriteMsr(0x830, 0x100000));
  CHECK(apic.WriteMsr(0x832, 0x400ec));
  CHECK(apic.WriteMsr(0x838, 0xffffffff));
  // The page is gone.
  uint32_t read = 0;
  apic.Read(0x20, {reinterpret_cast<uint8_t*>(&read), 4});
  CHECK(read == 0xffffffff);
}

TEST_CASE("IA32_APIC_BASE allows the transitions of [SDM 3A] figure 10-27 only") {
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  apic.SetPhysicalAddressBits(40);
  CHECK_FALSE(apic.WriteMsr(apic::kMsrApicBase, 0xfee00500));  // x2APIC, not enabled
  CHECK_FALSE(apic.WriteMsr(apic::kMsrApicBase, 0xfee00901));
  CHECK_FALSE(apic.WriteMsr(apic::kMsrApicBase, uint64_t{1} << 40 | 0xfee00900));
  CHECK(apic.WriteMsr(apic::kMsrApicBase, 0xfee00d00));
  CHECK_FALSE(apic.WriteMsr(apic::kMsrApicBase, 0xfee00900));  // straight back
  CHECK(apic.WriteMsr(apic::kMsrApicBase, 0xfee00100));
  CHECK_FALSE(apic.WriteMsr(apic::kMsrApicBase, 0xfee00d00));  // disabled to x2APIC
  CHECK(apic.WriteMsr(apic::kMsrApicBase, 0xfee00900));
  CHECK(Get(apic, Reg::SVR) == 0xff);
}

TEST_CASE("Lowest priority: the least busy processor takes it, equals take turns") {
  Cpus cpus(4);
  for (unsigned i = 0; i < 4; ++i) {
    if (i != 3) Enable(cpus[i]);
    Put(cpus[i], Reg::LDR, 0x01000000u << i);
  }
  Put(cpus[0], Reg::TPR, 0x20);
  std::vector<int> counts(4);
  for (int n = 0; n < 6; ++n) {
    cpus.bus.SendMsi(Msi(0xff, 0x141, true));
    for (unsigned i = 0; i < 4; ++i) {
      if (cpus[i].Acknowledge() != 0x41) continue;
      ++counts[i];
      Put(cpus[i], Reg::EOI, 0);
    }
  }
  CHECK(counts == std::vector<int>{0, 3, 3, 0});
  // A redirection hint means the same. [SDM 3A] 10.11.1
  cpus.bus.SendMsi(Msi(0x03, 0x42, true, true));
  CHECK_FALSE(cpus[0].HasDeliverable());
  CHECK(cpus[1].Acknowledge() == 0x42);
}

TEST_CASE("MSIs elsewhere than 0xFEExxxxx and start-up messages are dropped") {
  Cpus cpus(1);
  Enable(cpus[0]);
  cpus.bus.SendMsi({0xfed00000, 0x41});
  cpus.bus.SendMsi({0x1fee00000, 0x41});
  cpus.bus.SendMsi(Msi(0, 0x641));
  cpus.bus.SendMsi(Msi(7, 0x41));
  CHECK_FALSE(cpus[0].HasAttention());
  cpus.bus.SendMsi(Msi(0, 0x400));
  CHECK(cpus[0].TakeNmi());
  cpus.bus.SendMsi(Msi(0, 0x700));  // ExtINT: the vector comes from the 8259
  CHECK(cpus[0].Acknowledge() == 0x30);
}

TEST_CASE(
    "Illegal vectors and registers show in ESR after it is written, and raise the error LVT") {
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  Enable(apic);
  Put(apic, Reg::LVT_ERROR, 0xfe);
  Put(apic, Reg::ICR_LOW, 0x40005);
  CHECK(apic.Acknowledge() == 0xfe);
  Put(apic, Reg::EOI, 0);
  CHECK(Get(apic, Reg::ESR) == 0);
  Put(apic, Reg::ESR, 0);
  CHECK(Get(apic, Reg::ESR) == 0x20);  // [SDM 3A] 10.5.3: send illegal vector
  cpus.bus.SendMsi(Msi(0, 0x0f));
  Put(apic, Reg::ESR, 0);
  CHECK(Get(apic, Reg::ESR) == 0x40);
  Get(apic, static_cast<Reg>(0x3f0));
  Put(apic, Reg::ESR, 0);
  CHECK(Get(apic, Reg::ESR) == 0x80);
  Put(apic, Reg::ESR, 0);
  CHECK(Get(apic, Reg::ESR) == 0);
}

TEST_CASE("An error LVT with an illegal vector does not report itself for ever") {
  Cpus cpus(1);
  Enable(cpus[0]);
  Put(cpus[0], Reg::LVT_ERROR, 3);
  cpus.bus.SendMsi(Msi(0, 2));
  Put(cpus[0], Reg::ESR, 0);
  CHECK(Get(cpus[0], Reg::ESR) == 0x40);
}

TEST_CASE("Software disable masks the LVT and keeps it masked") {
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  Enable(apic);
  Put(apic, Reg::LVT_TIMER, 0x50);
  Put(apic, Reg::SVR, 0xff);
  CHECK(Get(apic, Reg::LVT_TIMER) == 0x10050);
  Put(apic, Reg::LVT_TIMER, 0x51);
  CHECK(Get(apic, Reg::LVT_TIMER) == 0x10051);
}

TEST_CASE("Odd accesses to the page answer zeros or vanish") {
  Cpus cpus(1);
  LocalApic& apic = cpus[0];
  uint8_t byte = 0xaa;
  apic.Read(0x32, {&byte, 1});
  CHECK(byte == 0x05);
  uint64_t wide = ~0ull;
  apic.Read(0x30, {reinterpret_cast<uint8_t*>(&wide), 8});
  CHECK(wide == apic::kVersion);
  apic.Read(0x34, {reinterpret_cast<uint8_t*>(&wide), 8});
  CHECK(wide == 0);
  byte = 0xff;
  apic.Write(0x80, {&byte, 1});
  CHECK(Get(apic, Reg::TPR) == 0);
}
