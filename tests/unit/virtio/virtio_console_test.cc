// The console device, as a driver uses it and as none may.
#include "virtio/virtio_console.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/fake_char_backend.h"
#include "tests/unit/virtio/ring_driver.h"
#include "vmm/core/base/bytes.h"

namespace virtio {
namespace {

using console::Event;

constexpr uint64_t kVersion1 = uint64_t{1} << 32;
constexpr uint64_t kMany = kVersion1 | 3;  // 5.3.3: SIZE, MULTIPORT
constexpr uint64_t kControlAt = 0x200000, kOutputAt = 0x210000, kInputAt = 0x280000;
constexpr uint32_t kInputBytes = 64, kControlBytes = 128;
constexpr unsigned kNeedsReset = 0x40;

// A console and two named ports; the registers without a transport.
struct Rig final : VirtioDevice::Transport {
  Rig() { device.SetTransport(*this); }
  ~Rig() override { device.Pause(); }

  void InterruptQueue(unsigned queue) override { interrupts.push_back(queue); }
  void InterruptConfig() override { ++config_interrupts; }
  bool MayAccessMemory() const override { return true; }

  void Start(uint64_t features = kMany) {
    device.SetStatus(0);
    device.SetStatus(3);
    device.SetDriverFeatures(features);
    device.SetStatus(0xB);
    drivers.clear();
    told = 0;
    for (unsigned i = 0; i < device.queue_count(); ++i) {
      drivers.emplace_back(memory, 0x10000 + 0x10000 * i, uint16_t{16});
      std::memset(memory.Ram(drivers[i].layout().descriptors, 0x10000), 0, 0x10000);
      device.SetLayout(i, drivers[i].layout());
      device.EnableQueue(i);
    }
    device.SetStatus(0xF);
    REQUIRE(status() == 0xF);
    for (uint16_t i = 0; i < 16; ++i) {
      drivers[2].Offer(
          drivers[2].Chain(i, {{kControlAt + kControlBytes * i, kControlBytes, true}}));
    }
    device.Work();
  }
  unsigned status() const { return static_cast<unsigned>(device.status().raw()); }

  // The driver says something.
  void Say(uint32_t id, Event event, uint16_t value) {
    const console::Control control{id, static_cast<uint16_t>(event), value};
    drivers[3].Set(kControlAt + 0x8000, control);
    drivers[3].Offer(drivers[3].Chain(0, {{kControlAt + 0x8000, sizeof control, false}}));
    device.Work();
  }
  // What it was told since the last call: "ID EVENT VALUE TEXT".
  std::vector<std::string> Told() {
    std::vector<std::string> all;
    for (; told != drivers[2].used_index(); ++told) {
      const auto [head, written] = drivers[2].Used(told);
      const uint64_t at = kControlAt + kControlBytes * head;
      const auto control = drivers[2].Get<console::Control>(at);
      REQUIRE(written >= sizeof control);
      std::string text(written - sizeof control, 0);
      std::memcpy(text.data(), memory.Ram(vmm::GuestPhys(at + 8), 64), text.size());
      all.push_back(std::to_string(control.id) + " " + std::to_string(control.event) + " " +
                    std::to_string(control.value) + " " + text);
      drivers[2].Offer(static_cast<uint16_t>(head));
    }
    return all;
  }
  // A driver's beginning, up to two ports that a program has open.
  void StartPorts() {
    Start();
    Say(0, Event::DEVICE_READY, 1);
    for (uint32_t id = 0; id < 3; ++id) Say(id, Event::PORT_READY, 1);
    for (uint32_t id = 0; id < 3; ++id) Say(id, Event::PORT_OPEN, 1);
    Told();
  }
  void Send(unsigned port, const std::string& text, uint16_t entry = 0) {
    OfferOutput(port, text, entry);
    device.Work();
  }
  void OfferOutput(unsigned port, const std::string& text, uint16_t entry = 0) {
    RingDriver& driver = drivers[console::TransmitQueue(port)];
    const uint64_t at = kOutputAt + 0x10000 * uint64_t{port} + 0x1000 * uint64_t{entry};
    std::memcpy(memory.Ram(vmm::GuestPhys(at), text.size()), text.data(), text.size());
    driver.Offer(driver.Chain(entry, {{at, static_cast<uint32_t>(text.size()), false}}));
  }
  uint16_t Sent(unsigned port) { return drivers[console::TransmitQueue(port)].used_index(); }
  void OfferInput(unsigned port, uint16_t count) {
    RingDriver& driver = drivers[console::ReceiveQueue(port)];
    for (uint16_t i = 0; i < count; ++i) {
      driver.Offer(driver.Chain(i, {{kInputAt + kInputBytes * i, kInputBytes, true}}));
    }
    device.Work();
  }
  std::string Input(unsigned port, uint16_t index) {
    const auto [head, written] = drivers[console::ReceiveQueue(port)].Used(index);
    std::string text(written, 0);
    std::memcpy(text.data(), memory.Ram(vmm::GuestPhys(kInputAt + kInputBytes * head), kInputBytes),
                written);
    return text;
  }
  uint32_t Config(unsigned offset, unsigned size) const {
    std::array<uint8_t, 4> data{};
    device.ReadConfig(offset, std::span(data).first(size));
    return static_cast<uint32_t>(vmm::LoadLittleEndian(data));
  }

  vmm::GuestMemory memory = std::move(vmm::GuestMemory::Create(4 << 20).value());
  NotedWrites writes;
  std::vector<unsigned> interrupts;
  unsigned config_interrupts = 0, rings = 0;
  vmm::FakeCharBackend hvc, a, b;
  VirtioConsole device{"console",
                       {{"", true, &hvc}, {"port.a", false, &a}, {"port.b", false, &b}},
                       {memory, writes},
                       [this] { ++rings; }};
  std::vector<RingDriver> drivers;
  uint16_t told = 0;
};

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("A console device has two queues a port and two more", "[virtio][console]") {
  Rig r;  // [VIRTIO 1.2] 5.3.1, 5.3.2, 5.3.4
  CHECK(r.device.type() == 3);
  CHECK(r.device.queue_count() == 2 * 3 + 2);
  CHECK((r.device.offered_features() & 0xFFFFFF) == 3);
  CHECK(r.device.config_size() == 12);
  CHECK(r.Config(4, 4) == 3);  // max_nr_ports
  CHECK(r.Config(8, 4) == 0);
  CHECK(r.Config(12, 4) == 0);
  CHECK(console::ReceiveQueue(0) == 0);
  CHECK(console::ReceiveQueue(1) == 4);
  CHECK(console::TransmitQueue(2) == 7);
}

TEST_CASE("Ports are added, then named and opened as they are ready", "[virtio][console]") {
  Rig r;  // [VIRTIO 1.2] 5.3.5, 5.3.6.2
  r.hvc.shown_on = {132, 43};
  r.b.reader_number = 0;
  r.Start();
  CHECK(r.Told().empty());
  r.Say(0, Event::DEVICE_READY, 1);
  CHECK(r.Told() == Texts{"0 1 0 ", "1 1 0 ", "2 1 0 "});
  r.Say(1, Event::PORT_READY, 1);
  CHECK(r.Told() == Texts{"1 7 1 port.a", "1 6 1 "});
  r.Say(2, Event::PORT_READY, 1);
  CHECK(r.Told() == Texts{"2 7 1 port.b"});  // nobody reads it
  r.Say(0, Event::PORT_READY, 1);
  const std::string size{static_cast<char>(132), 0, 43, 0};  // columns first
  CHECK(r.Told() == Texts{"0 4 1 ", "0 6 1 ", "0 5 0 " + size});
  // What is no port's, or no event of a driver's, is nothing.
  r.Say(3, Event::PORT_READY, 1);
  r.Say(~0u, Event::PORT_OPEN, 1);
  r.Say(1, static_cast<Event>(99), 1);
  r.Say(1, Event::PORT_ADD, 1);
  CHECK(r.Told().empty());
  CHECK(r.status() == 0xF);
}

TEST_CASE("A driver that gives up is told of no ports", "[virtio][console]") {
  Rig r;
  r.Start();
  r.Say(0, Event::DEVICE_READY, 0);
  CHECK(r.Told().empty());
  r.Say(0, Event::DEVICE_READY, 1);
  r.Told();
  r.Say(1, Event::PORT_READY, 0);
  CHECK(r.Told().empty());
}

TEST_CASE("Messages wait for buffers, in order", "[virtio][console]") {
  Rig r;
  r.Start();
  for (int i = 0; i < 5; ++i) r.Say(0, Event::DEVICE_READY, 1);
  r.Say(1, Event::PORT_READY, 1);
  CHECK(r.drivers[2].used_index() == 16);  // that is all
  const Texts first = r.Told();
  REQUIRE(first.size() == 16);
  CHECK(first[15] == "1 7 1 port.a");
  r.device.Work();
  CHECK(r.Told() == Texts{"1 6 1 "});
  CHECK(r.status() == 0xF);
}

TEST_CASE("A reader that goes is told of, also when the next comes at once", "[virtio][console]") {
  Rig r;
  r.StartPorts();
  r.a.NextReader();
  CHECK(r.rings != 0);
  r.device.Work();
  CHECK(r.Told() == Texts{"1 6 0 ", "1 6 1 "});
  r.a.Leave();
  r.device.Work();
  CHECK(r.Told() == Texts{"1 6 0 "});
  r.device.Work();
  CHECK(r.Told().empty());
}

TEST_CASE("A window of another size is told in both ways", "[virtio][console]") {
  Rig r;
  r.StartPorts();
  r.hvc.shown_on = {100, 50};
  r.device.OnWindowChange();
  r.device.Work();
  CHECK(r.Told() == Texts{std::string("0 5 0 d\0002\000", 10)});
  CHECK(r.Config(0, 2) == 100);
  CHECK(r.Config(2, 2) == 50);
  CHECK(r.config_interrupts == 1);
  CHECK(r.device.config_generation() == 1);
}

TEST_CASE("What the guest sends reaches the host, of every port its own", "[virtio][console]") {
  Rig r;  // [VIRTIO 1.2] 5.3.6.1
  r.StartPorts();
  r.Send(0, "login: ");
  r.Send(1, "one");
  r.Send(2, "two", 1);
  r.Send(1, "", 2);
  CHECK(r.hvc.got == "login: ");
  CHECK(r.a.got == "one");
  CHECK(r.b.got == "two");
  CHECK(r.Sent(0) == 1);
  CHECK(r.Sent(1) == 2);
  CHECK(r.drivers[console::TransmitQueue(1)].Used(0).second == 0);
}

TEST_CASE("What a console prints is out when its doorbell returns", "[virtio][console]") {
  Rig r;
  r.StartPorts();
  r.OfferOutput(0, "kernel: hello");
  const unsigned before = r.rings;
  r.device.RingDoorbell(console::TransmitQueue(0));
  CHECK(r.hvc.got == "kernel: hello");
  CHECK(r.Sent(0) == 1);
  CHECK(r.rings == before);
  r.OfferOutput(1, "a port's is not");
  r.device.RingDoorbell(console::TransmitQueue(1));
  CHECK(r.a.got.empty());
  CHECK(r.rings == before + 1);
  r.device.Pause();
  r.OfferOutput(0, "late");
  r.device.RingDoorbell(console::TransmitQueue(0));
  CHECK(r.hvc.got == "kernel: hello");
  r.device.Resume();
  r.device.Work();
  CHECK(r.hvc.got == "kernel: hellolate");
}

TEST_CASE("A slow reader loses nothing, and the guest's buffers wait", "[virtio][console]") {
  Rig r;
  r.StartPorts();
  r.a.room = 4;
  r.Send(1, "abcdef");
  r.Send(1, "ghi", 1);
  CHECK(r.a.got == "abcd");
  CHECK(r.Sent(1) == 0);
  r.Send(2, "two");  // others go on
  CHECK(r.b.got == "two");
  r.a.room = 3;
  r.device.Work();
  CHECK(r.a.got == "abcdefg");
  CHECK(r.Sent(1) == 1);
  r.a.room = SIZE_MAX;
  r.device.Work();
  CHECK(r.a.got == "abcdefghi");
  CHECK(r.Sent(1) == 2);
  // A driver that resets takes back what was not sent, also the half of it.
  r.a.room = 1;
  r.Send(1, "xyz", 2);
  r.StartPorts();
  r.a.room = SIZE_MAX;
  r.Send(1, "new");
  CHECK(r.a.got == "abcdefghixnew");
}

TEST_CASE("A long chain goes in turns, and stops for a pause", "[virtio][console]") {
  Rig r;
  r.StartPorts();
  RingDriver& driver = r.drivers[console::TransmitQueue(1)];
  std::vector<RingDriver::Buffer> buffers(10, {kOutputAt, 0x20000, false});
  driver.Offer(driver.Chain(0, buffers));
  const unsigned before = r.rings;
  r.device.Work();
  CHECK(r.a.got.size() == 16 * 16 * 1024);
  CHECK(r.rings == before + 1);  // it wants to go on
  CHECK(r.Sent(1) == 0);
  for (int i = 0; i < 10; ++i) r.device.Work();
  CHECK(r.a.got.size() == 10 * 0x20000);
  CHECK(r.Sent(1) == 1);
}

TEST_CASE("What the host sends fills the buffers of a port that is open", "[virtio][console]") {
  Rig r;
  r.Start();
  r.Say(0, Event::DEVICE_READY, 1);
  r.Say(1, Event::PORT_READY, 1);
  r.OfferInput(1, 3);
  CHECK(r.a.Send("hello") == 0);  // no program has it open
  r.Say(1, Event::PORT_OPEN, 1);
  CHECK(r.a.resumed == 1);
  CHECK(r.a.Send("hello") == 5);
  CHECK(r.Input(1, 0) == "hello");
  CHECK(r.writes.Covers(kInputAt, 5));
  // More than the buffers hold waits at the host side, until there are others.
  const std::string much(200, 'x');
  CHECK(r.a.Send(much) == 128);
  CHECK(r.Input(1, 1) + r.Input(1, 2) == much.substr(0, 128));
  CHECK(r.a.resumed == 1);
  r.OfferInput(1, 2);
  CHECK(r.a.resumed == 2);
  CHECK(r.a.Send(much.substr(128)) == 72);
  CHECK(r.Input(1, 3) + r.Input(1, 4) == much.substr(128));
  r.Say(1, Event::PORT_OPEN, 0);
  CHECK(r.a.Send("late") == 0);
}

TEST_CASE("A driver of one port has the console alone", "[virtio][console]") {
  Rig r;  // [VIRTIO 1.2] 5.3.2
  r.Start(kVersion1);
  r.Say(0, Event::DEVICE_READY, 1);
  CHECK(r.Told().empty());
  r.OfferInput(0, 1);
  CHECK(r.hvc.Send("ls\n") == 3);
  CHECK(r.Input(0, 0) == "ls\n");
  r.Send(0, "ok");
  CHECK(r.hvc.got == "ok");
  CHECK(r.a.Send("x") == 0);
}

TEST_CASE("What no driver may do to a console needs a reset", "[virtio][console]") {  // 2.1.2
  const auto broken = [](const auto& act) {
    Rig r;
    r.StartPorts();
    act(r);
    r.device.Work();
    CHECK((r.status() & kNeedsReset) != 0);
    CHECK(r.config_interrupts == 1);
    r.StartPorts();
    r.Send(1, "again");
    CHECK(r.a.got == "again");
  };
  broken([](Rig& r) { r.drivers[3].Offer(r.drivers[3].Chain(0, {{kControlAt, 7, false}})); });
  broken([](Rig& r) {
    r.drivers[3].Offer(r.drivers[3].Chain(0, {{kControlAt, 8, false}, {kControlAt, 8, true}}));
  });
  broken([](Rig& r) {
    r.drivers[5].Offer(r.drivers[5].Chain(0, {{kOutputAt, 8, false}, {kOutputAt, 8, true}}));
  });
  broken([](Rig& r) {
    r.drivers[4].Offer(r.drivers[4].Chain(0, {{kInputAt, 8, false}}));
    CHECK(r.a.Send("x") == 0);
  });
  broken([](Rig& r) {
    r.drivers[4].Offer(r.drivers[4].Chain(0, {{kInputAt, 0, true}}));
    CHECK(r.a.Send("x") == 0);
  });
  broken([](Rig& r) {  // the sixteen buffers of the start, then one that is too short
    for (int i = 0; i < 16; ++i) r.Say(1, Event::PORT_READY, 1);
    r.drivers[2].Offer(r.drivers[2].Chain(0, {{kControlAt, 7, true}}));
  });
}

TEST_CASE("A saved console goes on in another, in the middle of a chain", "[virtio][console]") {
  Rig one;
  one.StartPorts();
  one.a.room = 2;
  one.Send(1, "abcd");
  one.device.Pause();
  CHECK(one.a.Send("x") == 0);
  const VirtioDeviceState common = one.device.SaveCommon();
  const VirtioConsoleState state = one.device.SaveConsole();
  CHECK(state.port[1].sent == 2);

  Rig two;
  std::memcpy(two.memory.Ram(vmm::GuestPhys(0), 4 << 20),
              one.memory.Ram(vmm::GuestPhys(0), 4 << 20), 4 << 20);
  two.b.reader_number = 0;  // the new process has a reader for one of them only
  two.device.Pause();
  REQUIRE(two.device.LoadCommon(common));
  REQUIRE(two.device.LoadConsole(state));
  CHECK(two.device.SaveConsole().port[1] == state.port[1]);
  two.drivers = one.drivers;
  for (RingDriver& driver : two.drivers) driver = driver.On(two.memory);
  two.told = one.drivers[2].used_index();
  two.device.Resume();
  two.device.Work();
  CHECK(two.a.got == "cd");
  CHECK(two.Told() == Texts{"2 6 0 "});
  CHECK(two.a.Send("") == 0);
  two.OfferInput(1, 1);
  CHECK(two.a.Send("in") == 2);
}

TEST_CASE("A saved console of other ports is refused", "[virtio][console]") {
  Rig r;
  r.device.Pause();
  const VirtioConsoleState good = r.device.SaveConsole();
  CHECK(r.device.LoadConsole(good));
  VirtioConsoleState bad = good;
  bad.ports = 2;
  CHECK_FALSE(r.device.LoadConsole(bad));
  bad = good;
  bad.port[0].to_tell = 8;
  CHECK_FALSE(r.device.LoadConsole(bad));
  bad = good;
  bad.version = 2;
  CHECK_FALSE(r.device.LoadConsole(bad));
  bad = good;
  bad.port[1].name[0] = 'q';
  CHECK_FALSE(r.device.LoadConsole(bad));
  bad = good;
  bad.port[0].is_console = false;
  CHECK_FALSE(r.device.LoadConsole(bad));
}

TEST_CASE("At the end a reader gets what the guest has sent", "[virtio][console]") {
  using std::chrono::milliseconds;
  Rig r;
  r.StartPorts();
  r.a.room = 1;
  r.Send(1, "abc");
  r.a.room_when_waited = 1;
  r.device.HandOut(milliseconds(1000), milliseconds(5000));
  CHECK(r.a.got == "abc");
  r.a.room = 1;
  r.a.room_when_waited = 0;  // it has stopped
  r.Send(1, "de", 1);
  r.device.HandOut(milliseconds(1000), milliseconds(5000));
  CHECK(r.a.got == "abcd");
}

}  // namespace virtio
