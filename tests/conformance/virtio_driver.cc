#include "virtio_driver.h"

namespace guest {

using virtio::pci::Common;
namespace pci = vmm::pci;

namespace {

constexpr uint16_t kConfigAddress = 0xcf8, kConfigData = 0xcfc;

constexpr uint8_t Bit(virtio::Status status) {
  return static_cast<uint8_t>(status);
}
constexpr uint16_t Flag(virtio::ring::DescriptorFlag flag) {
  return static_cast<uint16_t>(flag);
}

// Of x86: what was written before is seen before anything is read behind it.
void Fence() {
  asm volatile("mfence" : : : "memory");
}

}  // namespace

PciFunction::PciFunction(uint32_t id) {
  for (uint32_t slot = 0; slot < 32; ++slot) {
    address_ = 0x80000000 | slot << 11;
    if (Read32(pci::kVendorId) == id) return;
  }
  Print("there is no such device: ");
  PrintHex(id);
  EXPECT(!"found");
  Finish();
}

uint32_t PciFunction::Read32(unsigned offset) const {
  Out32(kConfigAddress, address_ | offset);
  return In32(kConfigData);
}
uint16_t PciFunction::Read16(unsigned offset) const {
  Out32(kConfigAddress, address_ | (offset & ~3u));
  return In16(static_cast<uint16_t>(kConfigData + (offset & 2)));
}
uint8_t PciFunction::Read8(unsigned offset) const {
  Out32(kConfigAddress, address_ | (offset & ~3u));
  return In8(static_cast<uint16_t>(kConfigData + (offset & 3)));
}
void PciFunction::Write16(unsigned offset, uint16_t value) const {
  Out32(kConfigAddress, address_ | (offset & ~3u));
  Out16(static_cast<uint16_t>(kConfigData + (offset & 2)), value);
}

uint64_t PciFunction::Bar(unsigned index) const {
  const unsigned offset = pci::kBar0 + 4 * index;
  const uint32_t low = Read32(offset);
  const bool is_long = (low & static_cast<uint32_t>(pci::Bar::Memory64)) != 0;
  return (low & pci::kMemoryBarBase) | (is_long ? uint64_t{Read32(offset + 4)} << 32 : 0);
}

unsigned PciFunction::NextCapability(unsigned previous) const {
  return Read8(previous == 0 ? unsigned{pci::kCapabilities} : previous + 1);
}

void VirtioQueue::Offer(uint16_t first, std::initializer_list<Buffer> buffers) {
  using enum virtio::ring::DescriptorFlag;
  EXPECT(!is_out_[first]);
  is_out_[first] = true;
  ++offered_;
  uint16_t at = first;
  for (const Buffer& buffer : buffers) {
    volatile Descriptor& descriptor = descriptors_[at++];
    descriptor.address = reinterpret_cast<uint64_t>(buffer.data);
    descriptor.length = buffer.length;
    descriptor.flags = (buffer.is_writable ? Flag(WRITE) : 0) | Flag(NEXT);
    descriptor.next = at;
  }
  descriptors_[at - 1].flags = descriptors_[at - 1].flags & ~Flag(NEXT);
  const uint16_t index = driver_.index;
  driver_.ring[index % kSize] = first;
  driver_.index = index + 1;
  Fence();
  if (device_.available_event == index) WriteMemory<uint16_t>(notify_, index_);  // 2.7.10
}

bool VirtioQueue::Take(uint16_t* first, uint32_t* written) {
  if (device_.index == seen_) {
    driver_.used_event = seen_;
    Fence();
    if (device_.index == seen_) return false;
  }
  const auto& entry = device_.ring[seen_++ % kSize];
  *first = static_cast<uint16_t>(entry.first);
  *written = entry.written;
  EXPECT(entry.first < kSize && is_out_[entry.first]);
  is_out_[entry.first % kSize] = false;
  --offered_;
  return true;
}

// 3.1.1, 4.1.4
VirtioFunction::VirtioFunction(uint16_t type, uint64_t features)
    : pci_(virtio::pci::kVendor | (uint32_t{virtio::pci::kFirstDevice} + type) << 16) {
  using enum virtio::Status;
  using virtio::pci::CapabilityType;
  for (unsigned at = 0; (at = pci_.NextCapability(at)) != 0;) {
    if (pci_.Read8(at) != static_cast<uint8_t>(pci::Capability::Vendor)) continue;
    const auto part = static_cast<CapabilityType>(pci_.Read8(at + virtio::pci::kCfgType));
    if (part == CapabilityType::kPci) continue;
    const uint64_t place =
        pci_.Bar(pci_.Read8(at + virtio::pci::kBar)) + pci_.Read32(at + virtio::pci::kOffset);
    if (part == CapabilityType::kCommon) common_ = place;
    if (part == CapabilityType::kIsr) isr_ = place;
    if (part == CapabilityType::kDevice) device_ = place;
    if (part != CapabilityType::kNotify) continue;
    notify_ = place;
    multiplier_ = pci_.Read32(at + virtio::pci::kNotifyOffMultiplier);
  }
  pci_.Write16(pci::kCommand, static_cast<uint16_t>(pci::Command::MemorySpace) |
                                  static_cast<uint16_t>(pci::Command::BusMaster));
  Set<uint8_t>(Common::device_status, 0);
  while (Get<uint8_t>(Common::device_status) != 0) Pause();
  Set<uint8_t>(Common::device_status, Bit(ACKNOWLEDGE) | Bit(DRIVER));
  features |= static_cast<uint64_t>(virtio::Feature::VERSION_1) |
              static_cast<uint64_t>(virtio::Feature::EVENT_IDX);
  for (const uint32_t half : {0u, 1u}) {
    Set<uint32_t>(Common::driver_feature_select, half);
    Set<uint32_t>(Common::driver_feature, static_cast<uint32_t>(features >> (32 * half)));
  }
  Set<uint8_t>(Common::device_status, Bit(ACKNOWLEDGE) | Bit(DRIVER) | Bit(FEATURES_OK));
  EXPECT(Get<uint8_t>(Common::device_status) & Bit(FEATURES_OK));
}

void VirtioFunction::SetUpQueue(uint16_t index, VirtioQueue& queue) {
  Set<uint16_t>(Common::queue_select, index);
  Set<uint16_t>(Common::queue_size, VirtioQueue::kSize);
  Set<uint64_t>(Common::queue_desc, reinterpret_cast<uint64_t>(queue.descriptors_));
  Set<uint64_t>(Common::queue_driver, reinterpret_cast<uint64_t>(&queue.driver_));
  Set<uint64_t>(Common::queue_device, reinterpret_cast<uint64_t>(&queue.device_));
  queue.index_ = index;
  queue.notify_ = notify_ + uint64_t{Get<uint16_t>(Common::queue_notify_off)} * multiplier_;
  Set<uint16_t>(Common::queue_enable, 1);
}

void VirtioFunction::UseMessage(uint32_t address, uint32_t data) {
  unsigned at = 0;
  do {
    at = pci_.NextCapability(at);
  } while (pci_.Read8(at) != static_cast<uint8_t>(pci::Capability::Msix));
  const uint32_t table = pci_.Read32(at + pci::msix::kTable);
  const uint64_t entry = pci_.Bar(table & 7) + (table & ~7u);
  WriteMemory<uint32_t>(entry, address);
  WriteMemory<uint32_t>(entry + 4, 0);
  WriteMemory<uint32_t>(entry + 8, data);
  WriteMemory<uint32_t>(entry + 12, 0);
  pci_.Write16(at + pci::msix::kControl, static_cast<uint16_t>(pci::msix::Control::Enable));
  const uint16_t queues = Get<uint16_t>(Common::num_queues);
  for (uint16_t queue = 0; queue < queues; ++queue) {
    Set<uint16_t>(Common::queue_select, queue);
    Set<uint16_t>(Common::queue_msix_vector, 0);
    EXPECT_EQ(Get<uint16_t>(Common::queue_msix_vector), 0);
  }
}

void VirtioFunction::Start() {
  Set<uint8_t>(Common::device_status, Get<uint8_t>(Common::device_status) |
                                          static_cast<uint8_t>(virtio::Status::DRIVER_OK));
}

}  // namespace guest
