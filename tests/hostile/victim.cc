#include "tests/hostile/victim.h"

#include "vmm/machine/board_rng.h"

namespace hostile {
namespace {

class EntropyVictim final : public Victim {
 public:
  explicit EntropyVictim(vmm::VirtioBoard& board) : slot_(board.host(), board.socket()) {}

  vmm::BoardSlot& slot() override { return slot_; }
  Request Compose(unsigned, vmm::Choices& choices) override {
    return {{}, static_cast<uint32_t>(choices.Below(choices.OneIn(8) ? 100'000 : 600))};
  }
  std::string IsAlive(GoodDriver& driver) override {
    constexpr uint64_t kBuffer = GoodDriver::kBuffers;
    if (!driver.Begin(virtio::kAllRingFeatures)) return "it does not begin";
    const std::vector<uint8_t> zeros(64);
    driver.Put(kBuffer, zeros);
    if (driver.Ask(0, {{kBuffer, 64, true}}) != 64) return "it fills no buffer";
    return driver.Take(kBuffer, 64) == zeros ? "it gives zeros" : "";
  }

 private:
  vmm::RngSlot slot_;
};

constexpr VictimKind kKinds[] = {
    {"blk", MakeRawDisk}, {"blk-qcow2", MakeQcow2Disk}, {"blk-slow", MakeSlowDisk},
    {"net", MakeCard},    {"console", MakeConsole},     {"rng", MakeEntropy},
    {"fs", MakeShare},
};

}  // namespace

std::unique_ptr<Victim> MakeEntropy(vmm::VirtioBoard& board) {
  return std::make_unique<EntropyVictim>(board);
}

std::span<const VictimKind> VictimKinds() {
  return kKinds;
}

}  // namespace hostile
