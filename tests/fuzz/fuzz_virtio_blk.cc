// Any bytes as what a guest does to a virtio disk: registers, configuration space, rings,
// doorbells, in any order, with resets and saved states in between.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "tests/support/memory_file.h"
#include "virtio/virtio_blk.h"
#include "virtio/virtio_pci.h"
#include "vmm/core/base/bytes.h"
#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"
#include "vmm/core/block/raw_image.h"

namespace {

using namespace vmm;

constexpr uint64_t kRam = 2 * kMiB, kDiskBytes = 256 * kKiB, kRegisters = 0xC0000000;
constexpr uint64_t kQueueBytes = 0x1000;  // a queue's rings, from address 0 on
constexpr uint16_t kQueueSize = 8;

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
  explicit Guest(const GuestMemory& memory)
      : memory_(memory),
        disk_(std::make_unique<RawImage>(
                  std::make_unique<MemoryFile>(std::vector<uint8_t>(kDiskBytes)), false, false),
              {.queues = 2, .threads = 2, .use_uring = false, .limits = {}}),
        blk_("disk0", disk_, {.queues = 2, .serial = "fuzz", .read_only = false},
             {memory, nowhere_}, [] {}),
        pci_(blk_, 0x010000, {decoder_, nowhere_, nowhere_}) {
    PciAddressPlan plan;
    CHECK(pci_.AssignResources(plan, 11));
    std::memset(memory_.Ram(GuestPhys(0), kRam), 0, kRam);
    Start();
  }
  ~Guest() { blk_.Pause(); }

  void Step(Input& in) {
    switch (in.Take(1) % 12) {
      case 0:
        return Write(kRegisters + in.Take(1) % 0x38, in.Take(8), SizeOf(in));
      case 1:
        return Write(kRegisters + in.Take(2) % virtio::VirtioPci::kBarSize, in.Take(4), SizeOf(in));
      case 2:
        return Read(kRegisters + in.Take(2) % 0x5000, SizeOf(in));
      case 3:
        return Config(in);
      case 4:  // two bytes among the rings
        return Poke(in.Take(2) % (2 * kQueueBytes), in.Take(2), 2);
      case 5:
        return Describe(in);
      case 6:
        return Offer(in);
      case 7:
        return Header(in);
      case 8:
        Write(kRegisters + virtio::VirtioPci::kNotify + 4 * (in.Take(1) % 3), 0, 2);
        return blk_.Work();
      case 9:
        return blk_.Work();
      case 10:
        return Rest(in.Take(1));
      default:
        disk_.Drain();
        Write(kRegisters + 0x14, 0, 1);
        return Start();
    }
  }

 private:
  static size_t SizeOf(Input& in) { return size_t{1} << in.Take(1) % 4; }
  void Write(uint64_t address, uint64_t value, size_t size) {
    std::array<uint8_t, 8> data{};
    StoreLittleEndian(data, value);
    mmio_.Write(address, std::span<const uint8_t>(data).first(size));
  }
  void Read(uint64_t address, size_t size) {
    std::array<uint8_t, 8> data{};
    mmio_.Read(address, std::span(data).first(size));
  }
  void Config(Input& in) {
    const auto offset = static_cast<uint16_t>(in.Take(1));
    std::array<uint8_t, 4> data{};
    StoreLittleEndian(data, in.Take(4));
    const auto bytes = std::span(data).first(std::min<size_t>(SizeOf(in), 4u - offset % 4));
    pci_.WriteConfig(offset, bytes);
    pci_.ReadConfig(offset, bytes);
  }
  void Poke(uint64_t address, uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) *memory_.Ram(GuestPhys(address + i), 1) = ByteOf(value, i);
  }
  uint64_t QueueAt(Input& in) { return kQueueBytes * (in.Take(1) % 2); }
  // An entry of a table: in the first pages lengths and places are mostly good.
  void Describe(Input& in) {
    const uint64_t at = QueueAt(in) + 16 * (in.Take(1) % 16);
    const uint64_t page = in.Take(1);
    Poke(at, page == 0xFF ? in.Take(8) : 0x10000 + page * 0x1000, 8);
    const uint64_t length = in.Take(1);
    Poke(at + 8, length < 0xF0 ? length * 16 : in.Take(4), 4);
    Poke(at + 12, in.Take(1), 2);
    Poke(at + 14, in.Take(1), 2);
  }
  void Offer(Input& in) {
    const uint64_t queue = QueueAt(in), ring = queue + 0x400;
    uint16_t& offered = offered_[queue != 0];
    Poke(ring + 4 + 2 * (offered % kQueueSize), in.Take(1), 2);
    Poke(ring + 2, ++offered, 2);
  }
  void Header(Input& in) {
    const uint64_t at = 0x10000 + 0x1000 * in.Take(1);
    Poke(at, in.Take(1), 4);
    Poke(at + 8, in.Take(2), 8);
  }
  // As a good driver begins.
  void Start() {
    Write(kRegisters + 0x14, 0, 1);
    disk_.Drain();
    std::memset(memory_.Ram(GuestPhys(0), 2 * kQueueBytes), 0, 2 * kQueueBytes);
    offered_ = {};
    const std::array<uint8_t, 2> command{6, 0};
    pci_.WriteConfig(pci::kCommand, command);
    const uint64_t features = blk_.offered_features();
    Write(kRegisters + 0x14, 3, 1);
    for (const uint32_t half : {0u, 1u}) {
      Write(kRegisters + 0x08, half, 4);
      Write(kRegisters + 0x0C, features >> (32 * half), 4);
    }
    Write(kRegisters + 0x14, 0xB, 1);
    for (const uint64_t queue : {0, 1}) {
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
    blk_.Pause();
    virtio::VirtioPciState state = pci_.SaveState();
    CHECK(pci_.LoadState(state));
    CHECK(pci_.SaveState() == state);
    if (how & 1) {
      state.device.queues[how >> 1 & 3].taken ^= static_cast<uint16_t>(how);
      state.device.queues[how >> 3 & 3].driver ^= how << 8;
      state.device.status = BitRegister<virtio::Status>(static_cast<uint8_t>(how));
      static_cast<void>(pci_.LoadState(state));
    }
    if (how & 0x80) pci_.PowerOnReset();
    blk_.Resume();
  }

  const GuestMemory& memory_;
  Nowhere nowhere_;
  Bus ports_{0x10000}, mmio_{uint64_t{1} << 52};
  PciDecoder decoder_{ports_, mmio_};
  Disk disk_;
  virtio::VirtioBlk blk_;
  virtio::VirtioPci pci_;
  std::array<uint16_t, 2> offered_{};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  SetLogLevel(LogLevel::kError);
  static const GuestMemory memory = std::move(GuestMemory::Create(kRam).value());
  Guest guest(memory);
  Input in({data, size});
  for (int steps = 0; steps < 4096 && !in.empty(); ++steps) guest.Step(in);
  return 0;
}
