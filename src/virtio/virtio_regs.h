// Numbers that every virtio device shares. [VIRTIO 1.2]
#pragma once

#include <cstdint>

namespace virtio {

// 2.1
enum class Status : uint8_t {
  ACKNOWLEDGE = 0x01,
  DRIVER = 0x02,
  DRIVER_OK = 0x04,
  FEATURES_OK = 0x08,
  DEVICE_NEEDS_RESET = 0x40,
  FAILED = 0x80,
};

// Feature bits that belong to no device. 6
enum class Feature : uint64_t {
  INDIRECT_DESC = uint64_t{1} << 28,
  EVENT_IDX = uint64_t{1} << 29,
  VERSION_1 = uint64_t{1} << 32,
};

// Split rings. 2.7.5 to 2.7.8
namespace ring {
enum class DescriptorFlag : uint16_t { NEXT = 1, WRITE = 2, INDIRECT = 4 };
inline constexpr uint16_t kNoInterrupt = 1;  // flags of the driver's ring
inline constexpr uint16_t kNoNotify = 1;     // flags of the device's ring
inline constexpr uint64_t kDescriptorSize = 16, kUsedSize = 8, kHeaderSize = 4;
inline constexpr uint64_t kDescriptorAlign = 16, kDriverAlign = 2, kDeviceAlign = 4;
inline constexpr uint16_t kMaxSize = 32768;
}  // namespace ring

// PCI. 4.1
namespace pci {
inline constexpr uint16_t kVendor = 0x1AF4;
inline constexpr uint16_t kFirstDevice = 0x1040;  // plus the type
inline constexpr uint16_t kSubsystem = 0x0040;
inline constexpr uint8_t kRevision = 1;

// cfg_type of a capability. 4.1.4
enum class CapabilityType : uint8_t { kCommon = 1, kNotify = 2, kIsr = 3, kDevice = 4, kPci = 5 };
// Offsets in a capability.
enum CapabilityOffset : uint16_t {
  kCapLength = 0x02,
  kCfgType = 0x03,
  kBar = 0x04,
  kOffset = 0x08,  // 32 bits
  kLength = 0x0C,  // 32 bits
  kCapSize = 0x10,
  kNotifyOffMultiplier = 0x10,  // 32 bits
  kPciCfgData = 0x10,           // 32 bits
  kLongCapSize = 0x14,
};

// struct virtio_pci_common_cfg. 4.1.4.3
enum class Common : uint16_t {
  device_feature_select = 0x00,  // 32 bits
  device_feature = 0x04,         // 32 bits
  driver_feature_select = 0x08,  // 32 bits
  driver_feature = 0x0C,         // 32 bits
  config_msix_vector = 0x10,     // 16 bits
  num_queues = 0x12,             // 16 bits
  device_status = 0x14,          // 8 bits
  config_generation = 0x15,      // 8 bits
  queue_select = 0x16,           // 16 bits
  queue_size = 0x18,             // 16 bits
  queue_msix_vector = 0x1A,      // 16 bits
  queue_enable = 0x1C,           // 16 bits
  queue_notify_off = 0x1E,       // 16 bits
  queue_desc = 0x20,             // 64 bits
  queue_driver = 0x28,           // 64 bits
  queue_device = 0x30,           // 64 bits
};
inline constexpr uint64_t kCommonSize = 0x38;
inline constexpr uint16_t kNoVector = 0xFFFF;

// 4.1.4.5
enum class Isr : uint8_t { kQueue = 1, kConfig = 2 };
}  // namespace pci

}  // namespace virtio
