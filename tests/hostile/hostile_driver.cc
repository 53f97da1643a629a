#include "tests/hostile/hostile_driver.h"

#include <algorithm>
#include <thread>

#include "vmm/core/base/check.h"
#include "vmm/snapshot/sections.h"

namespace hostile {

using virtio::VirtioPci;
using virtio::pci::Common;
namespace pci = vmm::pci;

const HostileDriver::Operation HostileDriver::kOperations[] = {
    {"write a common register", 5, &HostileDriver::CommonRegister},
    {"access any register", 6, &HostileDriver::AnyRegister},
    {"access a register of the device's", 4, &HostileDriver::DeviceRegister},
    {"set up a queue", 4, &HostileDriver::SetUpQueue},
    {"rewrite the features", 2, &HostileDriver::RewriteFeatures},
    {"write the status", 2, &HostileDriver::WriteStatus},
    {"notify", 12, &HostileDriver::Notify},
    {"change messages", 5, &HostileDriver::Messages},
    {"access configuration space", 5, &HostileDriver::ConfigSpace},
    {"switch memory or bus master", 2, &HostileDriver::SwitchCommand},
    {"move a BAR", 2, &HostileDriver::MoveBar},
    {"go through the window", 4, &HostileDriver::Window},
    {"offer a chain", 60, &HostileDriver::OfferChain},
    {"break an index", 2, &HostileDriver::BreakIndex},
    {"poke the rings", 2, &HostileDriver::PokeRings},
    {"change buffers", 6, &HostileDriver::ChangeBuffers},
    {"begin", 4, &HostileDriver::Begin},
    {"something on the host", 12, &HostileDriver::HostActs},
    {"rest", 1, &HostileDriver::Rest, true},
    {"power on", 1, &HostileDriver::PowerOn, true},
};

HostileDriver::HostileDriver(Scene& scene, uint64_t seed)
    : scene_(scene), function_(scene.victim.slot().function()), choices_(seed) {
  queues_.resize(function_.device().queue_count());
  msix_ = FindCapability(static_cast<unsigned>(pci::Capability::Msix), 0);
  window_ = FindCapability(static_cast<unsigned>(pci::Capability::Vendor),
                           static_cast<unsigned>(virtio::pci::CapabilityType::kPci));
  CHECK(msix_ != 0 && window_ != 0);
  for (const Operation& operation : kOperations) total_weight_ += operation.weight;
}

const HostileDriver::Operation& HostileDriver::Choose() {
  uint64_t at = choices_.Below(total_weight_);
  const Operation* operation = kOperations;
  while (at >= operation->weight) at -= (operation++)->weight;
  return *operation;
}

void HostileDriver::Act() {
  const Operation& operation = Choose();
  last_ = operation.name;
  if (operation.is_the_machines) {
    const std::unique_lock lock(scene_.running);
    return (this->*operation.act)();
  }
  const std::shared_lock lock(scene_.running);
  (this->*operation.act)();
}

uint64_t HostileDriver::SomeAddress() {
  const uint64_t ram = scene_.board.memory().size();
  const std::array<uint64_t, 14> places{
      0,
      GoodDriver::RingAt(SomeQueue()),
      GoodDriver::RingAt(SomeQueue()) + 0x4000,
      GoodDriver::kBuffers,
      ram - 16,
      ram - 4096,
      ram,
      ram + 4096,
      vmm::VirtioBoard::kRegisters,
      0xFEC00000,
      0xFFFFFFF0,
      uint64_t{1} << 32,
      ~uint64_t{15},
      uint64_t{1} << 63,
  };
  const uint64_t place = choices_.OneIn(16) ? choices_.Take(8) : choices_.OneOf(places);
  return choices_.OneIn(2) ? place : place + 16 * choices_.Below(512) + choices_.Below(16);
}

uint64_t HostileDriver::SomeValue() {
  switch (choices_.Below(4)) {
    case 0:
      return choices_.Below(20);
    case 1:
      return choices_.OneOf(std::array<uint64_t, 8>{0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF,
                                                    0x80000000, ~uint64_t{0}});
    case 2:
      return SomeAddress();
    default:
      return choices_.Take(8);
  }
}

// --- Registers. ---

uint32_t HostileDriver::Config(unsigned offset) {
  std::array<uint8_t, 4> data{};
  function_.ReadConfig(static_cast<uint16_t>(offset), data);
  return static_cast<uint32_t>(vmm::LoadLittleEndian(data));
}

void HostileDriver::SetConfig(unsigned offset, uint32_t value, size_t size) {
  std::array<uint8_t, 4> data{};
  vmm::StoreLittleEndian(data, value);
  function_.WriteConfig(static_cast<uint16_t>(offset), std::span<const uint8_t>(data).first(size));
}

unsigned HostileDriver::FindCapability(unsigned kind, unsigned type) {
  unsigned at = Config(pci::kCapabilities) & 0xFF;
  while (at != 0) {
    const uint32_t start = Config(at);
    if ((start & 0xFF) == kind && (type == 0 || start >> 24 == type)) return at;
    at = start >> 8 & 0xFF;
  }
  return 0;
}

uint64_t HostileDriver::BaseOf(unsigned bar) {
  const unsigned at = pci::kBar0 + 4 * bar;
  uint64_t base = Config(at) & pci::kMemoryBarBase;
  if (bar == 0) base |= uint64_t{Config(at + 4)} << 32;
  return base;
}

// Mostly as the field is, else at any offset and of any size.
void HostileDriver::CommonRegister() {
  const uint64_t at = choices_.Below(virtio::pci::kCommonSize + 8);
  scene_.board.Write(BaseOf(0) + at, SomeValue(), SomeSize());
}

void HostileDriver::AnyRegister() {
  const bool tables = choices_.OneIn(3);
  const uint64_t size = tables ? VirtioPci::kTablesBarSize : VirtioPci::kBarSize;
  const uint64_t address = BaseOf(tables ? 2 : 0) + choices_.Below(size + 16) - 8;
  if (choices_.OneIn(2)) {
    static_cast<void>(scene_.board.Read(address, SomeSize()));
  } else {
    scene_.board.Write(address, SomeValue(), SomeSize());
  }
}

void HostileDriver::DeviceRegister() {
  const uint64_t address = BaseOf(0) + VirtioPci::kDevice + choices_.Below(0x50);
  static_cast<void>(scene_.board.Read(address, SomeSize()));
  if (choices_.OneIn(2)) scene_.board.Write(address, SomeValue(), SomeSize());
}

void HostileDriver::SetUpQueue() {
  Field(Common::queue_select, choices_.OneIn(8) ? SomeValue() : SomeQueue(), 2);
  if (choices_.OneIn(2)) Field(Common::queue_size, SomeValue(), 2);
  for (const Common field : {Common::queue_desc, Common::queue_driver, Common::queue_device}) {
    if (choices_.OneIn(2)) Field(field, SomeAddress(), choices_.OneIn(4) ? 4 : 8);
  }
  if (choices_.OneIn(2)) Field(Common::queue_enable, choices_.Below(3), 2);
}

void HostileDriver::RewriteFeatures() {
  Field(Common::driver_feature_select, choices_.Below(3), 4);
  Field(Common::driver_feature, SomeValue(), 4);
  if (choices_.OneIn(2)) Field(Common::device_status, choices_.OneIn(2) ? 0xB : 0xF, 1);
}

void HostileDriver::WriteStatus() {
  Field(Common::device_status, choices_.OneIn(2) ? 0 : choices_.Take(1), 1);
}

void HostileDriver::Ring(unsigned queue) {
  scene_.board.Write(
      BaseOf(0) + VirtioPci::kNotify + uint64_t{VirtioPci::kNotifyMultiplier} * queue, queue, 2);
}

void HostileDriver::Notify() {
  if (choices_.OneIn(2)) return Ring(SomeQueue());
  const uint64_t at = choices_.Below(choices_.OneIn(2) ? 0x1000 : 0x48);
  scene_.board.Write(BaseOf(0) + VirtioPci::kNotify + at, SomeValue(), SomeSize());
}

void HostileDriver::Messages() {
  if (choices_.OneIn(2)) {
    const uint64_t address = BaseOf(2) + choices_.Below(16 * (queues_.size() + 2));
    scene_.board.Write(address, SomeValue(), SomeSize());
  }
  if (choices_.OneIn(2)) {
    Field(choices_.OneIn(2) ? Common::config_msix_vector : Common::queue_msix_vector,
          choices_.OneIn(2) ? choices_.Below(queues_.size() + 3) : SomeValue(), 2);
  }
  if (choices_.OneIn(4)) SetConfig(msix_ + 2, static_cast<uint32_t>(choices_.Below(4) << 14), 2);
}

// --- Configuration space. ---

// By the ports, of this function or another one, of any alignment.
void HostileDriver::ConfigSpace() {
  const auto out = [this](uint64_t port, uint64_t value, size_t size) {
    std::array<uint8_t, 8> data{};
    vmm::StoreLittleEndian(data, value);
    scene_.board.ports().Write(port, std::span<const uint8_t>(data).first(size));
  };
  const uint64_t device = choices_.OneIn(2) ? scene_.place.device : choices_.Below(32);
  const uint64_t function = choices_.OneIn(2) ? scene_.place.function : choices_.Below(8);
  const uint64_t address = 0x80000000 | device << 11 | function << 8 | choices_.Below(256);
  out(vmm::PciHostBridge::kPort, choices_.OneIn(8) ? SomeValue() : address,
      choices_.OneIn(8) ? SomeSize() : 4);
  const uint64_t data = vmm::PciHostBridge::kPort + 4 + choices_.Below(4);
  std::array<uint8_t, 8> bytes{};
  scene_.board.ports().Read(data, std::span(bytes).first(SomeSize()));
  if (choices_.OneIn(2)) out(data, SomeValue(), SomeSize());
}

void HostileDriver::SwitchCommand() {
  const std::array<uint32_t, 6> values{0, 2, 4, 6, 0x406, 0x507};
  SetConfig(pci::kCommand, choices_.OneOf(values), 2);
}

void HostileDriver::MoveBar() {
  const auto at = static_cast<unsigned>(pci::kBar0 + 4 * choices_.Below(3));
  SetConfig(at, static_cast<uint32_t>(SomeAddress()), 4);
  if (choices_.OneIn(4)) SetConfig(pci::kBar0 + 4, static_cast<uint32_t>(SomeValue()), 4);
}

// [VIRTIO 1.2] 4.1.4.9
void HostileDriver::Window() {
  const auto at = [this](unsigned field) { return window_ + field; };
  const uint64_t part = choices_.OneOf(
      std::array<uint64_t, 6>{VirtioPci::kCommon, VirtioPci::kIsr, VirtioPci::kDevice,
                              VirtioPci::kNotify, VirtioPci::kBarSize - 4, VirtioPci::kBarSize});
  SetConfig(at(virtio::pci::kBar), choices_.OneIn(8) ? choices_.Take(1) & 0xFF : 0, 1);
  SetConfig(at(virtio::pci::kOffset),
            static_cast<uint32_t>(choices_.OneIn(8) ? SomeValue() : part + choices_.Below(0x40)),
            4);
  SetConfig(at(virtio::pci::kLength),
            static_cast<uint32_t>(choices_.OneIn(8) ? SomeValue() : SomeSize()), 4);
  static_cast<void>(Config(at(virtio::pci::kPciCfgData)));
  SetConfig(at(virtio::pci::kPciCfgData), static_cast<uint32_t>(SomeValue()),
            std::min(SomeSize(), 4u));
}

// --- All of it. ---

// As a good driver would, with queues and features of any choice, and without waiting for long.
void HostileDriver::Begin() {
  constexpr unsigned kPolls = 50, kMostReturned = 1024;
  scene_.good.Restore();
  const bool needed_it =
      (scene_.board.Read(
           vmm::VirtioBoard::kRegisters + static_cast<uint64_t>(Common::device_status), 1) &
       0x40) != 0;
  if (needed_it) ++scene_.broken;
  Field(Common::device_status, 0, 1);
  for (unsigned polls = 0; polls < kPolls; ++polls) {
    const auto status = BaseOf(0) + static_cast<uint64_t>(Common::device_status);
    if (scene_.board.Read(status, 1) == 0) break;
    std::this_thread::yield();
  }
  for (unsigned i = 0; i < queues_.size(); ++i) {
    // More than that it was never offered: somebody has poked it.
    if (const unsigned used = UsedIndex(i); used < kMostReturned) scene_.returned += used;
    scene_.board.Clear(GoodDriver::RingAt(i), GoodDriver::kRingBytes);
    const auto most = function_.device().layout(i).size;
    const auto size = std::max<uint64_t>(1, most >> choices_.Below(6));
    queues_[i] = virtio::RingDriver(scene_.board.memory(), GoodDriver::RingAt(i),
                                    static_cast<uint16_t>(size))
                     .layout();
  }
  if (choices_.OneIn(2)) SetConfig(msix_ + 2, 0x8000, 2);
  const uint64_t all = function_.device().offered_features();
  const uint64_t version_1 = static_cast<uint64_t>(virtio::Feature::VERSION_1);
  const uint64_t features = choices_.OneIn(2) ? all : (all & choices_.Take(8)) | version_1;
  std::vector<virtio::SplitQueue::Layout> asked = queues_;
  if (choices_.OneIn(4)) {  // a ring is where none can be, or across the end of RAM
    virtio::SplitQueue::Layout& layout = asked[SomeQueue()];
    vmm::GuestPhys* const rings[] = {&layout.descriptors, &layout.driver, &layout.device};
    const uint64_t near_the_end = scene_.board.memory().size() - 16 * (1 + choices_.Below(32));
    rings[choices_.Below(3)]->value = choices_.OneIn(2) ? SomeAddress() : near_the_end;
  }
  scene_.board.StartDriver(features, asked);
  ++scene_.starts;
}

void HostileDriver::HostActs() {
  const std::lock_guard lock(scene_.host);
  scene_.victim.Stir(choices_);
}

// The machine is suspended and goes on, now and then from a file that somebody has changed.
void HostileDriver::Rest() {
  vmm::BoardSlot& slot = scene_.victim.slot();
  const std::lock_guard lock(scene_.host);
  slot.Pause();
  vmm::Sections saved;
  slot.Save(saved);
  const auto load = [&](bool damaged) {
    vmm::Sections sections;
    for (const vmm::Section& section : saved.list()) {
      std::vector<uint8_t> bytes = section.bytes;
      if (damaged && !bytes.empty()) {
        bytes[choices_.Below(bytes.size())] ^= static_cast<uint8_t>(choices_.Take(1));
      }
      sections.PutBytes(section.name, section.version, std::move(bytes));
    }
    return slot.Load(sections).has_value();
  };
  if (choices_.OneIn(4) && load(/*damaged=*/true)) ++scene_.loads;
  if (choices_.OneIn(2)) CHECK(load(/*damaged=*/false));
  slot.Resume();
  ++scene_.rests;
}

void HostileDriver::PowerOn() {
  const std::lock_guard lock(scene_.host);
  scene_.victim.slot().Pause();
  scene_.victim.slot().Reset();
  scene_.victim.slot().Resume();
}

}  // namespace hostile
