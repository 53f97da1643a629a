// The network card, as a driver uses it and as none may.
#include "virtio/virtio_net.h"

#include <catch2/catch.hpp>

#include "tests/unit/net/tcp_frames.h"
#include "tests/unit/virtio/net_rig.h"

namespace virtio {

using vmm::NetHeader;

TEST_CASE("The card tells its address, link and MTU", "[virtio][net]") {  // [VIRTIO 1.2] 5.1.4
  NetRig r({}, {.mac = {0x52, 1, 2, 3, 4, 5}, .mtu = 9000});
  CHECK(r.Config(0, 4) == 0x03020152);
  CHECK(r.Config(4, 2) == 0x0504);
  CHECK(r.Config(6, 2) == 1);
  CHECK(r.Config(8, 2) == 1);
  CHECK(r.Config(10, 2) == 9000);
  CHECK(r.net.type() == 1);
  CHECK((r.net.offered_features() & 1 << 3) != 0);
  CHECK((NetRig().net.offered_features() & 1 << 3) == 0);
  CHECK((NetRig().net.offered_features() & NetRig::kAll) == NetRig::kAll);
}

TEST_CASE("A frame that is sent reaches the wire without its header", "[virtio][net]") {  // 5.1.6.2
  NetRig r;
  r.Start();
  const auto frame = Bytes(100);
  r.Send({}, frame);
  REQUIRE(r.wire.sent.size() == 1);
  CHECK(r.wire.sent[0].bytes == frame);
  CHECK(r.wire.sent[0].header == NetHeader());
  CHECK(r.drivers[1].used_index() == 1);
  CHECK(r.drivers[1].Used(0) == std::pair<uint32_t, uint32_t>{0, 0});
}

TEST_CASE("Frames of no possible length are lost, and the card goes on", "[virtio][net]") {
  NetRig r;
  r.Start();
  r.Send({}, {});
  r.Send({}, Bytes(13));
  r.Send({}, Bytes(vmm::NetBackend::kMaxFrame + 1));
  CHECK(r.wire.sent.empty());
  CHECK(r.drivers[1].used_index() == 3);
  r.Send({}, Bytes(vmm::NetBackend::kMaxFrame));
  r.Send({}, Bytes(14));
  CHECK(r.wire.sent.size() == 2);
  CHECK(r.status() == 0xF);
}

TEST_CASE("What the wire has no room for waits, in order, and holds no buffer of the guest",
          "[virtio][net]") {
  NetRig r;
  r.Start();
  r.wire.room = 1;
  for (uint8_t i = 0; i < 4; ++i) r.Send({}, Bytes(60, i));
  CHECK(r.wire.sent.size() == 1);
  CHECK(r.drivers[1].used_index() == 2);  // one waits in the card, two in the ring
  r.wire.room = SIZE_MAX;
  r.net.Work();
  REQUIRE(r.wire.sent.size() == 4);
  CHECK(r.drivers[1].used_index() == 4);
}

TEST_CASE("A checksum that the wire does not take is finished", "[virtio][net]") {  // 5.1.6.2.1
  const auto [header, frame] = tcp::Frame4(100, true);
  for (const bool takes : {false, true}) {
    NetRig r({.checksum = takes});
    r.Start();
    r.Send({.flags = 1, .csum_start = header.csum_start, .csum_offset = 16}, frame);
    REQUIRE(r.wire.sent.size() == 1);
    CHECK(tcp::IsSound(r.wire.sent[0].bytes) == !takes);
    CHECK((r.wire.sent[0].header.flags == 1) == takes);
  }
}

TEST_CASE("Segments that the wire does not take are made", "[virtio][net]") {  // 5.1.6.2
  const auto [header, frame] = tcp::Frame4(5000, true);
  NetRig software, whole({.any_size = true}), kernel({.checksum = true, .tcp4 = true});
  for (NetRig* r : {&software, &whole, &kernel}) {
    r->Start();
    r->Send(header, frame);
  }
  REQUIRE(software.wire.sent.size() == 4);
  for (const auto& segment : software.wire.sent) CHECK(tcp::IsSound(segment.bytes));
  REQUIRE(whole.wire.sent.size() == 1);
  CHECK(tcp::IsSound(whole.wire.sent[0].bytes));
  REQUIRE(kernel.wire.sent.size() == 1);
  CHECK(kernel.wire.sent[0].header == header);
  CHECK(kernel.wire.sent[0].bytes == frame);
}

TEST_CASE("A header that does not fit its frame loses it, and nothing else", "[virtio][net]") {
  NetRig r;
  r.Start();
  const auto frame = Bytes(100);
  for (const NetHeader& bad :
       {NetHeader{.flags = 1, .csum_start = 99, .csum_offset = 0},
        NetHeader{.flags = 1, .csum_start = 0xFFFF, .csum_offset = 0xFFFF},
        NetHeader{.gso_type = 1, .gso_size = 10}, NetHeader{.flags = 1, .gso_type = 1},
        NetHeader{.flags = 1, .gso_type = 3, .gso_size = 100, .csum_start = 34, .csum_offset = 6},
        NetHeader{.flags = 1, .gso_type = 1, .gso_size = 1, .csum_start = 34, .csum_offset = 16}}) {
    r.Send(bad, frame);
  }
  CHECK(r.wire.sent.empty());
  CHECK(r.status() == 0xF);
  r.Send({}, frame);
  CHECK(r.wire.sent.size() == 1);
}

TEST_CASE("A frame comes in one buffer, or in as many as it needs", "[virtio][net]") {  // 5.1.6.3.1
  NetRig r;
  r.Start();
  r.OfferBuffers(8, 256);
  r.wire.coming.push_back({{}, Bytes(60)});
  r.wire.coming.push_back({{}, Bytes(1000)});
  r.net.Work();
  CHECK(r.drivers[0].used_index() == 5);
  const auto one = r.TakeReceived(0, 256), two = r.TakeReceived(1, 256);
  CHECK(one.header.num_buffers == 1);
  CHECK(one.bytes == Bytes(60));
  CHECK(two.header.num_buffers == 4);
  CHECK(two.bytes == Bytes(1000));
  CHECK(r.drivers[0].Used(1).second == 256);
  CHECK(r.writes.Covers(NetRig::kReceiveAt + 2 * 256, 256));
}

TEST_CASE("A frame without buffers waits until there are enough", "[virtio][net]") {
  NetRig r;
  r.Start();
  r.wire.coming.push_back({{}, Bytes(1000)});
  r.wire.coming.push_back({{}, Bytes(100)});
  r.net.Work();
  CHECK(r.drivers[0].used_index() == 0);
  r.OfferBuffers(2, 256);
  r.net.Work();
  CHECK(r.drivers[0].used_index() == 0);
  CHECK(r.function.SaveState().device.queues[0].taken == 0);  // they were put back
  r.OfferBuffers(3, 256, 2);
  r.net.Work();
  CHECK(r.drivers[0].used_index() == 5);
  CHECK(r.TakeReceived(0, 256).bytes == Bytes(1000));
  CHECK(r.TakeReceived(4, 256).bytes == Bytes(100));
}

TEST_CASE("Without mergeable buffers a frame that fits none is lost", "[virtio][net]") {
  NetRig r;
  r.Start(NetRig::kAll & ~uint64_t{1 << 15});
  r.OfferBuffers(4, 256);
  r.wire.coming.push_back({{}, Bytes(1000)});
  r.wire.coming.push_back({{}, Bytes(244)});
  r.net.Work();
  CHECK(r.drivers[0].used_index() == 1);
  CHECK(r.TakeReceived(0, 256).bytes == Bytes(244));
  CHECK(r.TakeReceived(0, 256).header.num_buffers == 1);
}

TEST_CASE("A frame that all buffers of a ring can't hold is lost", "[virtio][net]") {
  NetRig r;
  r.Start();
  r.OfferBuffers(NetRig::kEntries, 64);
  r.wire.coming.push_back({{}, Bytes(64 * NetRig::kEntries)});
  r.wire.coming.push_back({{}, Bytes(52)});
  r.net.Work();
  CHECK(r.drivers[0].used_index() == 1);
  CHECK(r.TakeReceived(0, 64).bytes == Bytes(52));
  CHECK(r.status() == 0xF);
}

TEST_CASE("The guest gets no more than it has agreed to", "[virtio][net]") {  // 5.1.6.4.1
  const auto [header, frame] = tcp::Frame4(3000, true);
  NetRig full, checksum_only, plain;
  full.Start();
  checksum_only.Start(NetRig::kAll & ~uint64_t{1 << 7 | 1 << 8});
  plain.Start(NetRig::kAll & ~uint64_t{1 << 1 | 1 << 7 | 1 << 8});
  for (NetRig* r : {&full, &checksum_only, &plain}) {
    r->OfferBuffers(32, 2048);
    r->wire.coming.push_back({header, frame});
    r->wire.coming.push_back({{.flags = NetHeader::kDataValid}, Bytes(60)});
    r->net.Work();
  }
  CHECK(full.wire.receive_offloads ==
        vmm::NetOffloads{.checksum = true, .tcp4 = true, .tcp6 = true});
  CHECK(plain.wire.receive_offloads == vmm::NetOffloads{});
  auto got = full.TakeReceived(0, 2048);
  CHECK(got.header.num_buffers == 2);
  CHECK(got.header.gso_type == NetHeader::kTcp4);
  CHECK(got.bytes == frame);
  CHECK(full.TakeReceived(2, 2048).header.flags == NetHeader::kDataValid);
  for (NetRig* r : {&checksum_only, &plain}) {
    CHECK(r->drivers[0].used_index() == 4);
    for (uint16_t i = 0; i < 3; ++i) {
      got = r->TakeReceived(i, 2048);
      CHECK(got.header.gso_type == 0);
      CHECK(tcp::IsSound(got.bytes));
    }
  }
  CHECK(checksum_only.TakeReceived(3, 2048).header.flags == NetHeader::kDataValid);
  CHECK(plain.TakeReceived(3, 2048).header.flags == 0);
}

TEST_CASE("A link that goes down is told, and carries nothing", "[virtio][net]") {  // 5.1.4.1
  NetRig r;
  r.Start();
  r.OfferBuffers(4, 256);
  const uint64_t generation = r.Read(NetRig::kRegisters + 0x15, 1);
  r.net.SetLink(false);
  CHECK(r.Config(6, 2) == 0);
  CHECK(r.Read(NetRig::kRegisters + 0x15, 1) != generation);
  CHECK((r.Read(NetRig::kRegisters + VirtioPci::kIsr, 1) & 2) != 0);
  r.wire.coming.push_back({{}, Bytes(60)});
  r.Send({}, Bytes(60));
  CHECK(r.wire.sent.empty());
  CHECK(r.drivers[0].used_index() == 0);
  r.net.SetLink(true);
  CHECK(r.Config(6, 2) == 1);
  r.Send({}, Bytes(60));
  CHECK(r.wire.sent.size() == 1);
  r.wire.up = false;
  r.net.Work();
  CHECK(r.Config(6, 2) == 0);
}

TEST_CASE("The control queue does what it offers and refuses the rest",
          "[virtio][net]") {  // 5.1.6.5
  NetRig r;
  r.Start();
  CHECK(r.Command({0, 0, 1}) == 0);  // promiscuous
  CHECK(r.Command({0, 1, 1}) == 0);
  CHECK(r.Command({0, 2, 1}) == 1);  // CTRL_RX_EXTRA's
  CHECK(r.Command({0, 0}) == 1);
  CHECK(r.Command({1, 0, 0, 0, 0, 0, 0, 0, 0, 0}) == 0);
  CHECK(r.Command({1, 1, 2, 4, 6, 8, 10, 12}) == 0);
  CHECK(r.Config(0, 4) == 0x08060402);
  CHECK(r.Command({1, 1, 2, 4}) == 1);
  CHECK(r.Command({3, 0}) == 0);
  CHECK(r.Command({9, 0, 0}) == 1);
  r.Start();  // a reset brings the first address back
  CHECK(r.Config(0, 4) == 0x03020152);
}

TEST_CASE("What no driver may offer to the card needs a reset", "[virtio][net]") {  // 2.1.2
  const auto broken = [](unsigned queue, const std::vector<RingDriver::Buffer>& buffers) {
    NetRig r;
    r.Start();
    r.wire.coming.push_back({{}, Bytes(60)});
    r.drivers[queue].Offer(r.drivers[queue].Chain(0, buffers));
    r.net.Work();
    const bool needs_reset = r.status() == 0x4F;
    r.Start();
    r.Send({}, Bytes(60));
    CHECK(r.wire.sent.size() == 1);
    return needs_reset;
  };
  CHECK(broken(0, {{NetRig::kReceiveAt, 2000, false}}));                              // to be read
  CHECK(broken(0, {{NetRig::kReceiveAt, 11, true}}));                                 // no header
  CHECK(broken(0, {{NetRig::kRam - 8, 2000, true}}));                                 // not in RAM
  CHECK(broken(1, {{NetRig::kSendAt, 11, false}}));                                   // no header
  CHECK(broken(1, {{NetRig::kSendAt, 100, false}, {NetRig::kSendAt, 100, true}}));    // writable
  CHECK(broken(2, {{NetRig::kCommandAt, 1, false}, {NetRig::kCommandAt, 1, true}}));  // no class
  CHECK(broken(2, {{NetRig::kCommandAt, 3, false}}));                                 // no answer
  CHECK_FALSE(broken(0, {{NetRig::kReceiveAt, 72, true}}));
}

TEST_CASE("A second buffer that is none breaks the card, and the first is not lost in it",
          "[virtio][net]") {
  NetRig r;
  r.Start();
  r.wire.coming.push_back({{}, Bytes(1000)});
  r.OfferBuffers(1, 256);
  r.drivers[0].Offer(r.drivers[0].Chain(9, {{NetRig::kReceiveAt, 200, false}}));
  r.net.Work();
  CHECK(r.status() == 0x4F);
  r.SetStatus(0);
  CHECK(r.status() == 0);  // nothing is under way
}

TEST_CASE("A frame for one driver does not reach the next", "[virtio][net]") {
  const auto [header, frame] = tcp::Frame4(3000, true);
  NetRig r;
  r.Start();
  r.wire.coming.push_back({header, frame});
  r.net.Work();                                        // waits for buffers
  r.Start(NetRig::kAll & ~uint64_t{1 << 1 | 1 << 7});  // who takes no segments
  r.OfferBuffers(4, 2048);
  r.wire.coming.push_back({{}, Bytes(60)});
  r.net.Work();
  CHECK(r.drivers[0].used_index() == 1);
  CHECK(r.TakeReceived(0, 2048).bytes == Bytes(60));
}

TEST_CASE("A card that rests touches nothing; its state comes back as it was", "[virtio][net]") {
  NetRig a({}, {.mac = {0x52, 1, 2, 3, 4, 5}, .mtu = 1400}),
      b({}, {.mac = {0x52, 9, 9, 9, 9, 9}, .mtu = 1400}), c;
  a.Start(NetRig::kAll | 1 << 3);
  a.OfferBuffers(8, 256);
  a.wire.coming.push_back({{}, Bytes(60)});
  a.net.Work();
  CHECK(a.Command({1, 1, 2, 4, 6, 8, 10, 12}) == 0);
  a.net.Pause();
  a.wire.coming.push_back({{}, Bytes(60)});
  a.net.Work();
  CHECK(a.drivers[0].used_index() == 1);
  const VirtioPciState state = a.function.SaveState();
  const VirtioNetState own = a.net.SaveNet();
  REQUIRE(b.memory.Write(vmm::GuestPhys(0),
                         {a.memory.Ram(vmm::GuestPhys(0), NetRig::kRam), NetRig::kRam}));
  b.net.Pause();
  REQUIRE(b.function.LoadState(state));
  REQUIRE(b.net.LoadNet(own));
  CHECK(b.function.SaveState().device == state.device);
  CHECK(b.Config(0, 4) == 0x08060402);
  CHECK(b.Config(6, 2) == 3);  // the guest shall announce itself: the network may be another
  CHECK(b.net.SaveNet().announce);
  b.net.Resume();
  b.wire.coming.push_back({{}, Bytes(61)});
  b.net.Work();
  CHECK(b.TakeReceived(1, 256).bytes == Bytes(61));
  CHECK(b.Command({3, 0}) == -1);  // its place in the ring is over already
  CHECK(b.Command({3, 0}) == 0);
  CHECK(b.Config(6, 2) == 1);
  CHECK_FALSE(c.net.LoadNet(own));  // another MTU
}

TEST_CASE("A cable that was pulled out is out in a saved card too", "[virtio][net]") {  // 5.1.4.1
  NetRig a, b;
  a.Start(kAllRingFeatures | 1 << 16);  // STATUS, and no announcements
  a.net.SetLink(false);
  a.net.Pause();
  REQUIRE(b.memory.Write(vmm::GuestPhys(0),
                         {a.memory.Ram(vmm::GuestPhys(0), NetRig::kRam), NetRig::kRam}));
  b.net.Pause();
  REQUIRE(b.function.LoadState(a.function.SaveState()));
  REQUIRE(b.net.LoadNet(a.net.SaveNet()));
  CHECK_FALSE(b.net.is_plugged());
  CHECK(b.Config(6, 2) == 0);
  CHECK(b.pin.high);  // the guest shall look: the wire may be another
  b.net.Resume();
  b.net.SetLink(true);
  CHECK(b.Config(6, 2) == 1);
}

}  // namespace virtio
