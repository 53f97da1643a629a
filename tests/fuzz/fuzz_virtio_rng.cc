// Any bytes as what a guest does to a virtio entropy device, with a host that may have no random
// bytes, resets and saved states in between.
#include <cstdint>
#include <span>

#include "tests/fuzz/virtio_guest.h"
#include "virtio/virtio_rng.h"

namespace {

using namespace vmm;

class Guest final : public VirtioGuest {
 public:
  Guest()
      : VirtioGuest(1),
        rng_(
            "rng",
            [this](std::span<uint8_t> out) {
              std::ranges::fill(out, uint8_t{0xA5});
              return works_;
            },
            board_.host(), [] {}),
        pci_(rng_, 0xFF0000, board_.socket()) {
    PciAddressPlan plan;
    CHECK(pci_.AssignResources(plan, 11));
    Begin(pci_);
  }
  ~Guest() { rng_.Pause(); }

  void Step(Choices& in) {
    switch (in.Take(1) % 8) {
      case 0: {
        const uint64_t offset = in.Take(2) % 0x5000, value = in.Take(8);
        return Write(offset, value, SizeOf(in));
      }
      case 1:
        return PokeRings(in);
      case 2:
        return Describe(in, 0xF0);
      case 3:
        return Offer(in);
      case 4:
        return rng_.Work();
      case 5:
        works_ = in.Take(1) % 4 != 0;
        return;
      case 6: {
        const uint64_t how = in.Take(1);
        rng_.Pause();
        SaveAndLoad(pci_, how);
        return rng_.Resume();
      }
      default:
        SetStatus(0);
        return Begin(pci_);
    }
  }

 private:
  bool works_ = true;
  virtio::VirtioRng rng_;
  virtio::VirtioPci pci_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Guest guest;
  Choices in(std::span(data, size));
  return RunSteps(guest, in);
}
