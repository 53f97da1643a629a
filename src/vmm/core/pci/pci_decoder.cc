#include "vmm/core/pci/pci_decoder.h"

#include <algorithm>
#include <utility>

namespace vmm {

void PciDecoder::Place(Device& device, Space space, std::optional<uint64_t> start, uint64_t length,
                       Placed placed) {
  const std::lock_guard lock(mutex_);
  const auto old = std::ranges::find(wishes_, &device, &Wish::device);
  if (old != wishes_.end()) {
    if (old->granted) {
      old->bus->Detach(old->start);
      if (old->placed) old->placed({});
    }
    wishes_.erase(old);
  }
  if (start) {
    Bus& bus = space == Space::kPorts ? ports_ : mmio_;
    wishes_.push_back({&device, &bus, *start, length, false, std::move(placed)});
  }
  for (Wish& wish : wishes_) {
    if (wish.granted) continue;
    wish.granted = wish.bus->Attach(wish.start, wish.length, *wish.device).has_value();
    if (wish.granted && wish.placed) wish.placed(wish.start);
  }
}

}  // namespace vmm
