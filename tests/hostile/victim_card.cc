// A network card on a stream socket, whose other end is here.
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "tests/hostile/victim.h"
#include "virtio/virtio_net_regs.h"
#include "vmm/core/base/check.h"
#include "vmm/core/net/net_offload.h"
#include "vmm/core/net/stream_backend.h"
#include "vmm/machine/board_nets.h"

namespace hostile {
namespace {

using vmm::Choices;
using vmm::NetHeader;
namespace net = virtio::net;

constexpr size_t kHeaderSize = sizeof(NetHeader);
constexpr size_t kMostWaiting = 256 * 1024;  // bytes on their way to the card

struct Wire {
  Wire() {
    std::array<int, 2> ends{};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    near = vmm::UniqueFd(ends[0]);
    far = vmm::UniqueFd(ends[1]);
  }
  vmm::UniqueFd near, far;
};

class CardVictim final : public Victim {
 public:
  explicit CardVictim(vmm::VirtioBoard& board)
      : far_(wire_.far.get(), vmm::FrameStream::kMaxFrame + 4096),
        backend_(std::move(wire_.near), {.any_size = true}, /*is_near=*/true),
        slot_(vmm::BoardSlot::kFirstNic, 0,
              {.backend = &backend_, .mac = {0x52, 1, 2, 3, 4, 5}, .mtu = 1500}, board.host(),
              board.socket()) {}

  vmm::BoardSlot& slot() override { return slot_; }

  Request Compose(unsigned queue, Choices& choices) override {
    Request request;
    if (queue == net::kReceive) {
      request.in = static_cast<uint32_t>(choices.OneIn(4) ? 70000 : choices.Below(4096));
    } else if (queue == net::kTransmit) {
      request.out = Sent(choices);
    } else {
      request.out = {static_cast<uint8_t>(choices.Below(5)),
                     static_cast<uint8_t>(choices.Below(4))};
      request.out.resize(2 + choices.Below(16), 1);
      request.in = 1;
    }
    return request;
  }

  void Stir(Choices& choices) override {
    Drain([](std::span<const uint8_t>) {});
    if (choices.OneIn(16)) slot_.net().SetLink(choices.OneIn(2));
    if (far_.waiting() < kMostWaiting) {
      std::vector<uint8_t> frame = Segment(choices, choices.OneIn(8) ? 65000 : 2000);
      frame.resize(std::max(frame.size(), vmm::NetBackend::kMinFrame));
      far_.Add(frame);
    }
    far_.Flush();
  }

  std::string IsAlive(GoodDriver& driver) override {
    slot_.net().SetLink(true);
    if (!driver.Begin(virtio::kAllRingFeatures | static_cast<uint64_t>(net::Feature::CTRL_VQ) |
                      static_cast<uint64_t>(net::Feature::CTRL_RX))) {
      return "it does not begin";
    }
    constexpr uint64_t kData = GoodDriver::kBuffers, kBuffer = kData + 0x10000;
    driver.Put(kData, std::array<uint8_t, 3>{0, 0, 1});  // every frame is for it
    const auto answer = driver.Ask(net::kControl, {{kData, 3, false}, {kBuffer, 1, true}});
    if (answer != 1 || driver.Take(kBuffer, 1)[0] != net::kOk) return "it takes no command";
    std::vector<uint8_t> frame(600, 0x5A);
    frame[0] = 0xC3;
    std::vector<uint8_t> sent(kHeaderSize + frame.size());
    std::ranges::copy(frame, sent.begin() + kHeaderSize);
    driver.Put(kData, sent);
    const auto length = static_cast<uint32_t>(sent.size());
    if (driver.Ask(net::kTransmit, {{kData, length, false}}) != 0) return "it does not send";
    bool arrived = false;
    const bool in_time = Await([&] {
      Drain([&](std::span<const uint8_t> came) {
        arrived = arrived || std::ranges::equal(came, frame);
      });
      return arrived;
    });
    if (!in_time) return "what it sends does not arrive";
    // Older frames come first.
    far_.Add(frame);
    for (unsigned count = 0; count < 100'000; ++count) {
      driver.Offer(net::kReceive, 0, {{kBuffer, 70'000, true}});
      if (!Await([&] {
            far_.Flush();
            return driver.HasReturned(net::kReceive);
          })) {
        return "it does not receive";
      }
      const auto returned = driver.Returned(net::kReceive);
      const auto got = driver.Take(kBuffer, returned->second);
      if (got.size() == sent.size() &&
          std::ranges::equal(frame, std::span(got).subspan(kHeaderSize)))
        return {};
    }
    return "it receives all but what was sent";
  }

 private:
  template <class Visit>
  void Drain(const Visit& visit) {
    while (far_.Fill()) {
      for (std::span<const uint8_t> frame; far_.Next(frame);) visit(frame);
    }
  }
  // A TCP segment, or nearly one.
  static std::vector<uint8_t> Segment(Choices& choices, uint64_t most) {
    std::vector<uint8_t> frame(choices.Below(most));
    const bool is_ipv6 = choices.OneIn(2);
    const auto put = [&](size_t at, uint8_t value) {
      if (at < frame.size()) frame[at] = value;
    };
    put(12, is_ipv6 ? 0x86 : 0x08);
    put(13, is_ipv6 ? 0xDD : 0x00);
    put(14, is_ipv6 ? 0x60 : 0x45);
    put(is_ipv6 ? 20 : 23, 6);
    put(is_ipv6 ? 66 : 46, 0x50);
    put(choices.Below(80), static_cast<uint8_t>(choices.Take(1)));
    return frame;
  }
  static std::vector<uint8_t> Sent(Choices& choices) {
    NetHeader header;
    header.flags = static_cast<uint8_t>(choices.Below(4));
    header.gso_type = choices.OneOf(std::array<uint8_t, 6>{0, 0, 1, 4, 3, 0x81});
    header.gso_size = static_cast<uint16_t>(choices.OneIn(4) ? choices.Take(2) : 1400);
    header.csum_start = static_cast<uint16_t>(choices.OneIn(4) ? choices.Take(2) : 34);
    header.csum_offset = static_cast<uint16_t>(choices.OneIn(4) ? choices.Take(2) : 16);
    std::vector<uint8_t> sent = Segment(choices, choices.OneIn(8) ? 66'000 : 2000);
    sent.insert(sent.begin(), kHeaderSize, 0);
    std::memcpy(sent.data(), &header, kHeaderSize);
    return sent;
  }

  Wire wire_;
  vmm::FrameStream far_;
  vmm::StreamBackend backend_;
  vmm::NetSlot slot_;
};

}  // namespace

std::unique_ptr<Victim> MakeCard(vmm::VirtioBoard& board) {
  return std::make_unique<CardVictim>(board);
}

}  // namespace hostile
