// Any bytes as what a guest does to a virtio disk: registers, configuration space, rings,
// doorbells, in any order, with resets and saved states in between.
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tests/fuzz/virtio_guest.h"
#include "tests/support/memory_file.h"
#include "virtio/virtio_blk.h"
#include "vmm/core/base/bytes.h"
#include "vmm/core/block/raw_image.h"

namespace {

using namespace vmm;

constexpr uint64_t kDiskBytes = 256 * kKiB;

class Guest final : public VirtioGuest {
 public:
  Guest()
      : VirtioGuest(2),
        disk_(std::make_unique<RawImage>(
                  std::make_unique<MemoryFile>(std::vector<uint8_t>(kDiskBytes)), false, false),
              {.queues = 2, .threads = 2, .use_uring = false, .limits = {}}),
        blk_("disk0", disk_, {.queues = 2, .serial = "fuzz", .read_only = false}, board_.host(),
             [] {}),
        pci_(blk_, 0x010000, board_.socket()) {
    PciAddressPlan plan;
    CHECK(pci_.AssignResources(plan, 11));
    Start();
  }
  ~Guest() { blk_.Pause(); }

  void Step(Choices& in) {
    switch (in.Take(1) % 12) {
      case 0:
        return WriteRegister(in, in.Take(1) % 0x38, 8);
      case 1:
        return WriteRegister(in, in.Take(2) % virtio::VirtioPci::kBarSize, 4);
      case 2:
        return ReadRegister(in);
      case 3:
        return Config(in);
      case 4:
        return PokeRings(in);
      case 5:
        return Describe(in, 0xF0);
      case 6:
        return Offer(in);
      case 7:
        return Header(in);
      case 8:
        Kick(in.Take(1) % 3);
        return blk_.Work();
      case 9:
        return blk_.Work();
      case 10:
        return Rest(in.Take(1));
      default:
        disk_.Drain();
        SetStatus(0);
        return Start();
    }
  }

 private:
  void WriteRegister(Choices& in, uint64_t offset, unsigned bytes) {
    const uint64_t value = in.Take(bytes);
    Write(offset, value, SizeOf(in));
  }
  void ReadRegister(Choices& in) {
    const uint64_t offset = in.Take(2) % 0x5000;
    Read(offset, SizeOf(in));
  }
  void Config(Choices& in) {
    const auto offset = static_cast<uint16_t>(in.Take(1));
    std::array<uint8_t, 4> data{};
    StoreLittleEndian(data, in.Take(4));
    const auto bytes = std::span(data).first(std::min<size_t>(SizeOf(in), 4u - offset % 4));
    pci_.WriteConfig(offset, bytes);
    pci_.ReadConfig(offset, bytes);
  }
  void Header(Choices& in) {
    const uint64_t at = PageAt(in.Take(1));
    board_.Poke(at, in.Take(1), 4);
    board_.Poke(at + 8, in.Take(2), 8);
  }
  void Start() {
    SetStatus(0);
    disk_.Drain();
    Begin(pci_);
  }
  void Rest(uint64_t how) {
    blk_.Pause();
    SaveAndLoad(pci_, how);
    blk_.Resume();
  }

  Disk disk_;
  virtio::VirtioBlk blk_;
  virtio::VirtioPci pci_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Guest guest;
  Choices in(std::span(data, size));
  return RunSteps(guest, in);
}
