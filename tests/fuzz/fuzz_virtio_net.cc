// Any bytes as what a guest does to a virtio network card, and as what comes over its wire:
// registers, rings, doorbells, frames with any header, in any order, with resets and saved states
// in between.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "tests/fuzz/virtio_guest.h"
#include "tests/support/fake_wire.h"
#include "virtio/virtio_net.h"
#include "vmm/core/base/bytes.h"

namespace {

using namespace vmm;

constexpr size_t kMostFrames = 64;

class Guest final : public VirtioGuest {
 public:
  explicit Guest(const NetOffloads& takes)
      : VirtioGuest(3),
        wire_(takes),
        net_("net0", wire_, {.mac = {0x52, 1, 2, 3, 4, 5}, .mtu = 1500}, board_.host(), [] {}),
        pci_(net_, 0x020000, board_.socket()) {
    PciAddressPlan plan;
    CHECK(pci_.AssignResources(plan, 11));
    SetStatus(0);
    Begin(pci_);
  }
  ~Guest() { net_.Pause(); }

  void Step(Choices& in) {
    switch (in.Take(1) % 12) {
      case 0:
        return WriteRegister(in);
      case 1:
        return ReadRegister(in);
      case 2:
        return PokeRings(in);
      case 3:
      case 4:
        return Describe(in, 0xE0);
      case 5:
      case 6:
        return Offer(in);
      case 7:
        return Header(in);
      case 8:
        return Comes(in);
      case 9:
        wire_.sent.clear();
        wire_.room = in.Take(1) % 8 == 0 ? 0 : SIZE_MAX;
        static_cast<void>(net_.Work());
        return;
      case 10:
        return Rest(in.Take(1));
      default:
        if (in.Take(1) % 4 == 0) net_.SetLink(in.Take(1) % 2 == 0);
        SetStatus(0);
        return Begin(pci_);
    }
  }

 private:
  void WriteRegister(Choices& in) {
    const uint64_t offset = in.Take(1) % 0x38, value = in.Take(8);
    Write(offset, value, SizeOf(in));
  }
  void ReadRegister(Choices& in) {
    const uint64_t offset = in.Take(2) % 0x5000;
    Read(offset, SizeOf(in));
  }
  static NetHeader AnyHeader(Choices& in) {
    NetHeader header;
    header.flags = static_cast<uint8_t>(in.Take(1));
    header.gso_type = static_cast<uint8_t>(in.Take(1));
    header.gso_size = static_cast<uint16_t>(in.Take(2));
    header.csum_start = static_cast<uint16_t>(in.Take(1));
    header.csum_offset = static_cast<uint16_t>(in.Take(1));
    return header;
  }
  // A TCP segment, or nearly one.
  static std::array<uint8_t, 80> AnyStart(Choices& in) {
    std::array<uint8_t, 80> start{};
    const bool is_ipv6 = in.Take(1) % 2 != 0;
    StoreLittleEndian(std::span(start).subspan(12, 2), is_ipv6 ? 0xDD86 : 0x0008);
    start[14] = is_ipv6 ? 0x60 : 0x45;
    start[is_ipv6 ? 20 : 23] = 6;
    start[is_ipv6 ? 66 : 46] = 0x50;
    const auto value = static_cast<uint8_t>(in.Take(1));
    start[in.Take(1) % 80] = value;
    return start;
  }
  // Something to send, or a command, at a page.
  void Header(Choices& in) {
    const GuestPhys at(PageAt(in.Take(1)));
    const NetHeader header = AnyHeader(in);
    const auto start = AnyStart(in);
    uint8_t* to = board_.memory().Ram(at, sizeof header + start.size());
    std::memcpy(to, &header, sizeof header);
    std::ranges::copy(start, to + sizeof header);
  }
  void Comes(Choices& in) {
    if (wire_.coming.size() >= kMostFrames) return;
    const NetHeader header = AnyHeader(in);
    const auto start = AnyStart(in);
    std::vector<uint8_t> frame(std::max<uint64_t>(NetBackend::kMinFrame, in.Take(2)));
    std::copy_n(start.begin(), std::min(start.size(), frame.size()), frame.begin());
    wire_.coming.push_back({header, std::move(frame)});
  }
  void Rest(uint64_t how) {
    net_.Pause();
    CHECK(net_.LoadNet(net_.SaveNet()));
    SaveAndLoad(pci_, how);
    net_.Resume();
  }

  FakeWire wire_;
  virtio::VirtioNet net_;
  virtio::VirtioPci pci_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Choices in(std::span(data, size));
  const auto takes = static_cast<unsigned>(in.Take(1));
  Guest guest({.checksum = (takes & 1) != 0,
               .tcp4 = (takes & 2) != 0,
               .tcp6 = (takes & 4) != 0,
               .any_size = (takes & 8) != 0});
  return RunSteps(guest, in);
}
