// The device's end of a ring, with drivers that follow the rules and drivers that don't.
#include "virtio/split_queue.h"

#include <catch2/catch.hpp>
#include <functional>
#include <string>

#include "tests/unit/support/fakes.h"
#include "tests/unit/virtio/ring_driver.h"

namespace virtio {
namespace {

using Taken = SplitQueue::Taken;
constexpr auto kVersion1 = static_cast<uint64_t>(Feature::VERSION_1);
constexpr auto kIndirectFeature = kVersion1 | static_cast<uint64_t>(Feature::INDIRECT_DESC);
constexpr auto kEventFeature = kVersion1 | static_cast<uint64_t>(Feature::EVENT_IDX);

constexpr uint64_t kRam = 4 << 20;
constexpr uint64_t kTable = 0x40000;  // of indirect descriptors

struct Rig {
  explicit Rig(uint64_t features = kVersion1, uint16_t size = 8)
      : driver(memory, 0x10000, size), queue(memory, writes) {
    REQUIRE(queue.Enable(driver.layout(), features, {}));
  }
  Taken Offer(uint16_t head) {
    driver.Offer(head);
    return queue.Take(chain);
  }

  vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(kRam).value());
  NotedWrites writes;
  RingDriver driver;
  SplitQueue queue;
  DescriptorChain chain;
};

}  // namespace

TEST_CASE("A chain's buffers come in order, and are returned with what was written",
          "[virtio]") {  // [VIRTIO 1.2] 2.7.13, 2.7.14
  Rig r;
  CHECK(r.queue.Take(r.chain) == Taken::kNothing);
  r.driver.Chain(3, {{0x1000, 4, false}, {0x3000, 0, false}, {0x2000, 6, true}, {0x5000, 2, true}});
  REQUIRE(r.Offer(3) == Taken::kChain);
  CHECK(r.chain.head == 3);
  CHECK(r.chain.readable.length() == 4);
  CHECK(r.chain.writable.length() == 8);
  r.driver.Set<uint32_t>(0x1000, 0x44332211);
  std::array<uint8_t, 2> two{};
  r.chain.readable.Read(1, two);
  CHECK(two == std::array<uint8_t, 2>{0x22, 0x33});
  const std::array<uint8_t, 4> four{1, 2, 3, 4};
  r.chain.writable.Write(4, four, r.writes);
  CHECK(r.driver.Get<uint16_t>(0x2004) == 0x0201);
  CHECK(r.driver.Get<uint16_t>(0x5000) == 0x0403);
  CHECK(r.writes.Covers(0x2004, 2));
  CHECK(r.writes.Covers(0x5000, 2));
  std::vector<iovec> list;
  r.chain.writable.AppendTo(list, 5, 2);
  REQUIRE(list.size() == 2);
  CHECK(list[0].iov_base == r.memory.Ram(vmm::GuestPhys(0x2005), 1));
  CHECK(list[0].iov_len == 1);
  CHECK(list[1].iov_base == r.memory.Ram(vmm::GuestPhys(0x5000), 1));

  r.queue.Return(3, 8);
  CHECK(r.driver.used_index() == 1);
  CHECK(r.driver.Used(0) == std::pair<uint32_t, uint32_t>{3, 8});
  CHECK(r.writes.Covers(r.driver.layout().device.value + 4, 8));
  CHECK(r.writes.Covers(r.driver.layout().device.value + 2, 2));
}

TEST_CASE("The rings' indices run over 65535 and go on", "[virtio]") {
  Rig r(kEventFeature);
  r.driver.Chain(0, {{0x1000, 4, true}});
  for (unsigned i = 0; i < 70'000; ++i) {
    REQUIRE(r.Offer(0) == Taken::kChain);
    r.queue.Return(0, i);
    REQUIRE(r.driver.used_index() == static_cast<uint16_t>(i + 1));
    REQUIRE(r.driver.Used(static_cast<uint16_t>(i)).second == i);
  }
}

TEST_CASE("An indirect table stands for a chain, after others too", "[virtio]") {  // 2.7.5.3
  Rig r(kIndirectFeature);
  r.driver.Chain(kTable, 0, {{0x1000, 16, false}, {0x2000, 512, true}, {0x3000, 1, true}});
  r.driver.Describe(1, kTable, 48, RingDriver::kIndirect);
  REQUIRE(r.Offer(1) == Taken::kChain);
  CHECK(r.chain.readable.length() == 16);
  CHECK(r.chain.writable.length() == 513);
  r.driver.Describe(2, 0x4000, 8, RingDriver::kNext, 1);
  // A WRITE flag of the table itself means nothing. 2.7.5.3.2
  r.driver.Describe(1, kTable, 48, RingDriver::kIndirect | RingDriver::kWrite);
  REQUIRE(r.Offer(2) == Taken::kChain);
  CHECK(r.chain.readable.length() == 24);
}

TEST_CASE("What no driver may put into a ring breaks it", "[virtio]") {
  constexpr uint16_t kNext = RingDriver::kNext, kWrite = RingDriver::kWrite,
                     kIndirect = RingDriver::kIndirect;
  struct Evil {
    std::string name;
    std::function<void(Rig&)> set_up;  // of entry 0, and what comes behind it
    uint16_t head = 0;
  };
  const std::vector<Evil> cases = {
      {"a head outside the table", [](Rig&) {}, 8},
      {"a head far outside", [](Rig&) {}, 0xFFFF},
      {"a chain that comes back to itself",
       [](Rig& r) { r.driver.Describe(0, 0x1000, 4, kNext, 0); }},
      {"a chain that comes back later",
       [](Rig& r) {
         r.driver.Describe(0, 0x1000, 4, kNext, 1);
         r.driver.Describe(1, 0x1000, 4, kNext, 0);
       }},
      {"a next one outside the table", [](Rig& r) { r.driver.Describe(0, 0x1000, 4, kNext, 8); }},
      {"a buffer outside RAM", [](Rig& r) { r.driver.Describe(0, kRam, 4, 0); }},
      {"a buffer that runs over the end of RAM",
       [](Rig& r) { r.driver.Describe(0, kRam - 4, 5, 0); }},
      {"a buffer that runs over the end of all addresses",
       [](Rig& r) { r.driver.Describe(0, ~uint64_t{0} - 3, 0x1000, kWrite); }},
      {"a buffer as long as can be",
       [](Rig& r) { r.driver.Describe(0, 0x1000, 0xFFFFFFFF, kWrite); }},
      {"a buffer to read behind one to write",
       [](Rig& r) { r.driver.Chain(0, {{0x1000, 4, true}, {0x2000, 4, false}}); }},
      {"a table that goes on",
       [](Rig& r) { r.driver.Describe(0, kTable, 16, kIndirect | kNext, 1); }},
      {"a table of no length", [](Rig& r) { r.driver.Describe(0, kTable, 0, kIndirect); }},
      {"a table of half an entry", [](Rig& r) { r.driver.Describe(0, kTable, 24, kIndirect); }},
      {"a table outside RAM", [](Rig& r) { r.driver.Describe(0, kRam, 16, kIndirect); }},
      {"a table that is too long for RAM",
       [](Rig& r) { r.driver.Describe(0, kTable, 0xFFFFFFF0, kIndirect); }},
      {"a table in a table",
       [](Rig& r) {
         r.driver.Describe(kTable, 0, kTable, 16, kIndirect, 0);
         r.driver.Describe(0, kTable, 16, kIndirect);
       }},
      {"a next one outside the indirect table",
       [](Rig& r) {
         r.driver.Describe(kTable, 0, 0x1000, 4, kNext, 1);
         r.driver.Describe(0, kTable, 16, kIndirect);
       }},
      {"more buffers in a table than the queue has entries",
       [](Rig& r) {
         r.driver.Chain(kTable, 0, std::vector<RingDriver::Buffer>(9, {0x1000, 4, false}));
         r.driver.Describe(0, kTable, 144, kIndirect);
       }},
      {"a loop in a table",
       [](Rig& r) {
         r.driver.Describe(kTable, 0, 0x1000, 4, kNext, 0);
         r.driver.Describe(0, kTable, 16, kIndirect);
       }},
  };
  for (const Evil& evil : cases) {
    INFO(evil.name);
    Rig r(kIndirectFeature);
    r.driver.Chain(0, {{0x1000, 4, false}});
    evil.set_up(r);
    CHECK(r.Offer(evil.head) == Taken::kBroken);
  }
}

TEST_CASE("An index that jumps, or chains that are offered twice, break the ring", "[virtio]") {
  Rig r;
  r.driver.Chain(0, {{0x1000, 4, false}});
  r.driver.SetIndex(9);
  CHECK(r.queue.Take(r.chain) == Taken::kBroken);
  Rig backwards;
  backwards.driver.Chain(0, {{0x1000, 4, false}});
  REQUIRE(backwards.Offer(0) == Taken::kChain);
  backwards.driver.SetIndex(0);
  CHECK(backwards.queue.Take(backwards.chain) == Taken::kBroken);
  // The same head again and again, without waiting for it.
  Rig twice;
  twice.driver.Chain(0, {{0x1000, 4, false}});
  for (int i = 0; i < 8; ++i) REQUIRE(twice.Offer(0) == Taken::kChain);
  CHECK(twice.queue.outstanding() == 8);
  CHECK(twice.Offer(0) == Taken::kBroken);
}

TEST_CASE("Without the feature an indirect descriptor breaks the ring", "[virtio]") {
  Rig r;
  r.driver.Chain(kTable, 0, {{0x1000, 16, false}});
  r.driver.Describe(0, kTable, 16, RingDriver::kIndirect);
  CHECK(r.Offer(0) == Taken::kBroken);
}

TEST_CASE("Rings must be in RAM, aligned and of a possible size", "[virtio]") {  // 2.7, 2.7.5
  vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(kRam).value());
  NotedWrites writes;
  SplitQueue queue(memory, writes);
  using vmm::GuestPhys;
  const SplitQueue::Layout good{8, GuestPhys(0x10000), GuestPhys(0x11000), GuestPhys(0x12000)};
  const auto enabled = [&](auto change) {
    SplitQueue::Layout layout = good;
    change(layout);
    const bool is = queue.Enable(layout, kVersion1, {});
    CHECK(is == queue.enabled());
    return is;
  };
  CHECK(enabled([](auto&) {}));
  CHECK(enabled([](auto& l) { l.size = 1; }));
  CHECK(enabled([](auto& l) { l.device = GuestPhys(kRam - 4 - 64 - 4); }));
  CHECK_FALSE(enabled([](auto& l) { l.size = 0; }));
  CHECK_FALSE(enabled([](auto& l) { l.size = 6; }));
  CHECK_FALSE(enabled([](auto& l) { l.size = 0xFFFF; }));
  CHECK_FALSE(enabled([](auto& l) { l.descriptors = GuestPhys(0x10008); }));
  CHECK_FALSE(enabled([](auto& l) { l.driver = GuestPhys(0x11001); }));
  CHECK_FALSE(enabled([](auto& l) { l.device = GuestPhys(0x12002); }));
  CHECK_FALSE(enabled([](auto& l) { l.descriptors = GuestPhys(kRam - 112); }));
  CHECK_FALSE(enabled([](auto& l) { l.driver = GuestPhys(kRam - 20); }));
  CHECK_FALSE(enabled([](auto& l) { l.device = GuestPhys(kRam - 4 - 64); }));
  CHECK_FALSE(enabled([](auto& l) { l.device = GuestPhys(0xFFFF'FFFF'FFFF'FFF0); }));
}

TEST_CASE("Interrupts are wanted as the driver says", "[virtio]") {  // 2.7.7, 2.7.10
  SECTION("by a flag") {
    Rig r;
    r.driver.Chain(0, {{0x1000, 4, true}});
    CHECK_FALSE(r.queue.WantsInterrupt());
    REQUIRE(r.Offer(0) == Taken::kChain);
    r.queue.Return(0, 0);
    CHECK(r.queue.WantsInterrupt());
    CHECK_FALSE(r.queue.WantsInterrupt());
    r.driver.SetFlags(1);
    REQUIRE(r.Offer(0) == Taken::kChain);
    r.queue.Return(0, 0);
    CHECK_FALSE(r.queue.WantsInterrupt());
  }
  SECTION("by an event index") {
    Rig r(kEventFeature);
    r.driver.Chain(0, {{0x1000, 4, true}});
    r.driver.SetFlags(1);      // means nothing then
    r.driver.SetUsedEvent(2);  // after the third
    std::vector<bool> wanted;
    for (int i = 0; i < 5; ++i) {
      REQUIRE(r.Offer(0) == Taken::kChain);
      r.queue.Return(0, 0);
      wanted.push_back(r.queue.WantsInterrupt());
    }
    CHECK(wanted == std::vector<bool>{false, false, true, false, false});
    // Several at once that pass the event.
    r.driver.SetUsedEvent(6);
    for (int i = 0; i < 3; ++i) REQUIRE(r.Offer(0) == Taken::kChain);
    for (int i = 0; i < 3; ++i) r.queue.Return(0, 0);
    CHECK(r.queue.WantsInterrupt());
  }
}

TEST_CASE("Notifications are asked for when there is nothing left", "[virtio]") {  // 2.7.10
  SECTION("by a flag") {
    Rig r;
    r.driver.Chain(0, {{0x1000, 4, true}});
    r.queue.StopNotifications();
    CHECK(r.driver.used_flags() == 1);
    CHECK_FALSE(r.queue.AskForNotifications());
    CHECK(r.driver.used_flags() == 0);
    r.queue.StopNotifications();
    r.driver.Offer(0);
    CHECK(r.queue.AskForNotifications());  // none may tell of it
  }
  SECTION("by an event index") {
    Rig r(kEventFeature);
    r.driver.Chain(0, {{0x1000, 4, true}});
    REQUIRE(r.Offer(0) == Taken::kChain);
    CHECK_FALSE(r.queue.AskForNotifications());
    CHECK(r.driver.avail_event() == 1);
    CHECK(r.driver.used_flags() == 0);
  }
}

TEST_CASE("Whatever stands in memory, a ring comes to an end inside RAM", "[virtio]") {
  fakes::Random random(20261121);
  unsigned chains = 0, broken = 0;
  for (int round = 0; round < 20'000; ++round) {
    static vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(kRam).value());
    NotedWrites writes;
    RingDriver driver(memory, 0x10000, static_cast<uint16_t>(1u << random.Below(5)));
    SplitQueue queue(memory, writes);
    REQUIRE(queue.Enable(driver.layout(), random.Below(4) ? kAllRingFeatures : kVersion1, {}));
    // Mostly plausible numbers.
    const auto address = [&] {
      return random.Below(16) ? random.Below(kRam) & ~uint64_t{15} : random.Next();
    };
    const auto length = [&] {
      return static_cast<uint32_t>(random.Below(8) ? 16 * random.Below(12) : random.Next());
    };
    for (const uint64_t table : {driver.layout().descriptors.value, kTable}) {
      for (unsigned i = 0; i < 16; ++i) {
        const bool indirect = random.Below(8) == 0;
        driver.Describe(
            table, i, indirect ? kTable : address(), length(),
            static_cast<uint16_t>(indirect ? 4 : random.Below(random.Below(8) ? 4 : 65536)),
            static_cast<uint16_t>(random.Below(random.Below(8) ? 16 : 65536)));
      }
    }
    for (unsigned i = 0; i < 16; ++i) {
      driver.Set<uint16_t>(driver.layout().driver.value + 4 + 2 * i,
                           static_cast<uint16_t>(random.Below(17)));
    }
    driver.SetIndex(static_cast<uint16_t>(random.Below(18)));
    DescriptorChain chain;
    for (int i = 0; i < 20; ++i) {
      const Taken taken = queue.Take(chain);
      if (taken == Taken::kNothing) break;
      if (taken == Taken::kBroken) {
        ++broken;
        break;
      }
      ++chains;
      std::vector<iovec> list;
      chain.readable.AppendTo(list, 0, chain.readable.length());
      chain.writable.AppendTo(list, 0, chain.writable.length());
      REQUIRE(list.size() <= 16);
      uint8_t* ram = memory.Ram(vmm::GuestPhys(0), kRam);
      for (const iovec& piece : list) {
        auto* start = static_cast<uint8_t*>(piece.iov_base);
        REQUIRE((start >= ram && start + piece.iov_len <= ram + kRam));
      }
      queue.Return(chain.head, 1);
      queue.WantsInterrupt();
    }
  }
  // Both happened, or the numbers were bad.
  CHECK(chains > 1000);
  CHECK(broken > 1000);
}

}  // namespace virtio
