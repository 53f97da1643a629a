// Any bytes as what a guest does to a virtio network card, and as what comes over its wire:
// registers, rings, doorbells, frames with any header, in any order, with resets and saved states
// in between.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "tests/support/fake_wire.h"
#include "virtio/virtio_net.h"
#include "virtio/virtio_pci.h"
#include "vmm/core/base/bytes.h"
#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"

namespace {

using namespace vmm;

constexpr uint64_t kRam = 2 * kMiB, kRegisters = 0xC0000000;
constexpr uint64_t kQueueBytes = 0x1000;  // a queue's rings, from address 0 on
constexpr uint16_t kQueueSize = 8;
constexpr size_t kMostFrames = 64;

// Bytes of the input; zeros behind its end.
class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  uint64_t Take(unsigned size) {
    std::array<uint8_t, 8> value{};
    const size_t part = std::min<size_t>(size, bytes_.size());
    std::copy_n(bytes_.begin(), part, value.begin());
    bytes_ = bytes_.subspan(part);
    return LoadLittleEndian(value);
  }

 private:
  std::span<const uint8_t> bytes_;
};

struct Nowhere final : IrqLine, MsiSink, HostWriteListener {
  void Set(bool) override {}
  void SendMsi(MsiMessage) override {}
  void OnHostWrite(GuestPhys start, uint64_t length) override {
    CHECK(start.value < kRam && length <= kRam - start.value);
  }
};

class Guest {
 public:
  Guest(const GuestMemory& memory, const NetOffloads& takes)
      : memory_(memory),
        wire_(takes),
        net_("net0", wire_, {.mac = {0x52, 1, 2, 3, 4, 5}, .mtu = 1500}, {memory, nowhere_}, [] {}),
        pci_(net_, 0x020000, {decoder_, nowhere_, nowhere_}) {
    PciAddressPlan plan;
    CHECK(pci_.AssignResources(plan, 11));
    std::memset(memory_.Ram(GuestPhys(0), kRam), 0, kRam);
    Start();
  }
  ~Guest() { net_.Pause(); }

  void Step(Input& in) {
    switch (in.Take(1) % 12) {
      case 0:
        return Write(kRegisters + in.Take(1) % 0x38, in.Take(8), size_t{1} << in.Take(1) % 4);
      case 1:
        return Read(kRegisters + in.Take(2) % 0x5000, size_t{1} << in.Take(1) % 4);
      case 2:  // two bytes among the rings
        return Poke(in.Take(2) % (3 * kQueueBytes), in.Take(2), 2);
      case 3:
      case 4:
        return Describe(in);
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
        Write(kRegisters + 0x14, 0, 1);
        return Start();
    }
  }

 private:
  void Write(uint64_t address, uint64_t value, size_t size) {
    std::array<uint8_t, 8> data{};
    StoreLittleEndian(data, value);
    mmio_.Write(address, std::span<const uint8_t>(data).first(size));
  }
  void Read(uint64_t address, size_t size) {
    std::array<uint8_t, 8> data{};
    mmio_.Read(address, std::span(data).first(size));
  }
  void Poke(uint64_t address, uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) *memory_.Ram(GuestPhys(address + i), 1) = ByteOf(value, i);
  }
  // An entry of a table: lengths and places are mostly good.
  void Describe(Input& in) {
    const uint64_t at = kQueueBytes * (in.Take(1) % 3) + 16 * (in.Take(1) % 16);
    const uint64_t page = in.Take(1);
    Poke(at, page == 0xFF ? in.Take(8) : 0x10000 + page * 0x1000, 8);
    const uint64_t length = in.Take(1);
    Poke(at + 8, length < 0xE0 ? length * 16 : in.Take(4), 4);
    Poke(at + 12, in.Take(1), 2);
    Poke(at + 14, in.Take(1), 2);
  }
  void Offer(Input& in) {
    const uint64_t number = in.Take(1) % 3, ring = kQueueBytes * number + 0x400;
    uint16_t& offered = offered_[number];
    Poke(ring + 4 + 2 * (offered % kQueueSize), in.Take(1), 2);
    Poke(ring + 2, ++offered, 2);
  }
  static NetHeader AnyHeader(Input& in) {
    NetHeader header;
    header.flags = static_cast<uint8_t>(in.Take(1));
    header.gso_type = static_cast<uint8_t>(in.Take(1));
    header.gso_size = static_cast<uint16_t>(in.Take(2));
    header.csum_start = static_cast<uint16_t>(in.Take(1));
    header.csum_offset = static_cast<uint16_t>(in.Take(1));
    return header;
  }
  // A TCP segment, or nearly one.
  static std::array<uint8_t, 80> AnyStart(Input& in) {
    std::array<uint8_t, 80> start{};
    const bool is_ipv6 = in.Take(1) % 2 != 0;
    StoreLittleEndian(std::span(start).subspan(12, 2), is_ipv6 ? 0xDD86 : 0x0008);
    start[14] = is_ipv6 ? 0x60 : 0x45;
    start[is_ipv6 ? 20 : 23] = 6;
    start[is_ipv6 ? 66 : 46] = 0x50;
    start[in.Take(1) % 80] = static_cast<uint8_t>(in.Take(1));
    return start;
  }
  // Something to send, or a command, at a page.
  void Header(Input& in) {
    const uint64_t at = 0x10000 + 0x1000 * in.Take(1);
    const NetHeader header = AnyHeader(in);
    const auto start = AnyStart(in);
    std::memcpy(memory_.Ram(GuestPhys(at), sizeof header), &header, sizeof header);
    std::memcpy(memory_.Ram(GuestPhys(at + sizeof header), start.size()), start.data(),
                start.size());
  }
  void Comes(Input& in) {
    if (wire_.coming.size() >= kMostFrames) return;
    const NetHeader header = AnyHeader(in);
    const auto start = AnyStart(in);
    std::vector<uint8_t> frame(std::max<uint64_t>(NetBackend::kMinFrame, in.Take(2)));
    std::copy_n(start.begin(), std::min(start.size(), frame.size()), frame.begin());
    wire_.coming.push_back({header, std::move(frame)});
  }
  // As a good driver begins.
  void Start() {
    Write(kRegisters + 0x14, 0, 1);
    std::memset(memory_.Ram(GuestPhys(0), 3 * kQueueBytes), 0, 3 * kQueueBytes);
    offered_ = {};
    const std::array<uint8_t, 2> command{6, 0};
    pci_.WriteConfig(pci::kCommand, command);
    const uint64_t features = net_.offered_features();
    Write(kRegisters + 0x14, 3, 1);
    for (const uint32_t half : {0u, 1u}) {
      Write(kRegisters + 0x08, half, 4);
      Write(kRegisters + 0x0C, features >> (32 * half), 4);
    }
    Write(kRegisters + 0x14, 0xB, 1);
    for (const uint64_t queue : {0, 1, 2}) {
      Write(kRegisters + 0x16, queue, 2);
      Write(kRegisters + 0x18, kQueueSize, 2);
      Write(kRegisters + 0x20, queue * kQueueBytes, 8);
      Write(kRegisters + 0x28, queue * kQueueBytes + 0x400, 8);
      Write(kRegisters + 0x30, queue * kQueueBytes + 0x800, 8);
      Write(kRegisters + 0x1C, 1, 2);
    }
    Write(kRegisters + 0x14, 0xF, 1);
  }
  // What was saved is what is loaded; one flipped byte is loaded or refused.
  void Rest(uint64_t how) {
    net_.Pause();
    virtio::VirtioPciState state = pci_.SaveState();
    CHECK(pci_.LoadState(state));
    CHECK(pci_.SaveState() == state);
    CHECK(net_.LoadNet(net_.SaveNet()));
    if (how & 1) {
      state.device.queues[how >> 1 & 3].taken ^= static_cast<uint16_t>(how);
      state.device.queues[how >> 3 & 3].driver ^= how << 8;
      state.device.status = BitRegister<virtio::Status>(static_cast<uint8_t>(how));
      static_cast<void>(pci_.LoadState(state));
    }
    if (how & 0x80) pci_.PowerOnReset();
    net_.Resume();
  }

  const GuestMemory& memory_;
  Nowhere nowhere_;
  Bus ports_{0x10000}, mmio_{uint64_t{1} << 52};
  PciDecoder decoder_{ports_, mmio_};
  FakeWire wire_;
  virtio::VirtioNet net_;
  virtio::VirtioPci pci_;
  std::array<uint16_t, 3> offered_{};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  SetLogLevel(LogLevel::kError);
  static const GuestMemory memory = std::move(GuestMemory::Create(kRam).value());
  Input in({data, size});
  const auto takes = static_cast<unsigned>(in.Take(1));
  Guest guest(memory, {.checksum = (takes & 1) != 0,
                       .tcp4 = (takes & 2) != 0,
                       .tcp6 = (takes & 4) != 0,
                       .any_size = (takes & 8) != 0});
  for (int steps = 0; steps < 4096 && !in.empty(); ++steps) guest.Step(in);
  return 0;
}
