// A console device of three ports, whose readers come, go and stop.
#include <algorithm>
#include <string>

#include "tests/hostile/victim.h"
#include "tests/support/terminal.h"
#include "virtio/virtio_console_regs.h"
#include "vmm/core/base/bytes.h"
#include "vmm/machine/board_console.h"

namespace hostile {
namespace {

using virtio::console::Event;
using vmm::Choices;
using vmm::Terminal;
namespace console = virtio::console;

class ConsoleVictim final : public Victim {
 public:
  explicit ConsoleVictim(vmm::VirtioBoard& board)
      : slot_({{.name = "", .is_console = true, .backend = &terminals_[0]},
               {.name = "second", .is_console = true, .backend = &terminals_[1]},
               {.name = "org.vmm.stream", .is_console = false, .backend = &terminals_[2]}},
              board.host(), board.socket()) {}

  vmm::BoardSlot& slot() override { return slot_; }

  Request Compose(unsigned queue, Choices& choices) override {
    Request request;
    if (queue == console::kControlTransmit) {
      request.out =
          Message(static_cast<uint32_t>(choices.Below(5)), static_cast<Event>(choices.Below(9)),
                  static_cast<uint16_t>(choices.Below(3)));
      if (choices.OneIn(16)) request.out.resize(choices.Below(64));
    } else if (queue % 2 == 1) {
      request.out.resize(choices.Below(choices.OneIn(8) ? 60'000 : 300), 'o');
    } else {
      request.in = static_cast<uint32_t>(1 + choices.Below(256));
    }
    return request;
  }

  void Stir(Choices& choices) override {
    Terminal& terminal = terminals_[choices.Below(kPorts)];
    const auto reader = static_cast<unsigned>(choices.Below(3));
    const size_t room = choices.OneIn(2) ? SIZE_MAX : choices.Below(64);
    terminal.Change(reader, room, static_cast<uint16_t>(80 + choices.Below(2)));
    static_cast<void>(terminal.Type(std::string(choices.Below(200), 'x')));
    slot_.OnWindowChange();
  }

  std::string IsAlive(GoodDriver& driver) override {
    for (Terminal& terminal : terminals_) terminal.Change(1, SIZE_MAX, 80);
    if (!driver.Begin(virtio::kAllRingFeatures |
                      static_cast<uint64_t>(console::Feature::MULTIPORT))) {
      return "it does not begin";
    }
    constexpr uint64_t kData = GoodDriver::kBuffers, kInput = kData + 0x1000;
    const auto say = [&](uint32_t port, Event event) {
      driver.Put(kData, Message(port, event, 1));
      return driver.Ask(console::kControlTransmit, {{kData, 8, false}}) == 0;
    };
    if (!say(0, Event::DEVICE_READY)) return "it hears nothing";
    for (unsigned port = 0; port < kPorts; ++port) {
      driver.Offer(console::kControlReceive, 0, {{kInput, 128, true}});
      const auto told = driver.Returned(console::kControlReceive);
      if (!told || driver.Take(kInput, 8) != Message(port, Event::PORT_ADD, 0)) {
        return "it does not tell of its ports";
      }
    }
    for (uint32_t port = 0; port < kPorts; ++port) {
      if (!say(port, Event::PORT_READY) || !say(port, Event::PORT_OPEN)) return "it hears nothing";
      const std::string text = "good " + std::to_string(port);
      driver.Put(kData, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
      const auto length = static_cast<uint32_t>(text.size());
      if (driver.Ask(console::TransmitQueue(port), {{kData, length, false}}) != 0 ||
          !Await([&] { return terminals_[port].got().find(text) != std::string::npos; })) {
        return "it does not print";
      }
      driver.Offer(console::ReceiveQueue(port), 0, {{kInput, 64, true}});
      if (!Await([&] { return terminals_[port].Type(text) == text.size(); })) {
        return "it takes no input";
      }
      const auto input = driver.Returned(console::ReceiveQueue(port));
      const auto got = driver.Take(kInput, text.size());
      if (!input || input->second != length || !std::ranges::equal(got, text)) {
        return "its input is not what was typed";
      }
    }
    return {};
  }

 private:
  static constexpr unsigned kPorts = 3;
  static std::vector<uint8_t> Message(uint32_t port, Event event, uint16_t value) {
    std::vector<uint8_t> bytes(sizeof(console::Control));
    vmm::StoreLittleEndian(std::span(bytes).first(4), port);
    vmm::StoreLittleEndian(std::span(bytes).subspan(4, 2), static_cast<uint64_t>(event));
    vmm::StoreLittleEndian(std::span(bytes).subspan(6, 2), value);
    return bytes;
  }

  std::array<Terminal, kPorts> terminals_;
  vmm::ConsoleSlot slot_;
};

}  // namespace

std::unique_ptr<Victim> MakeConsole(vmm::VirtioBoard& board) {
  return std::make_unique<ConsoleVictim>(board);
}

}  // namespace hostile
