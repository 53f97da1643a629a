// The block device's numbers. [VIRTIO 1.2] 5.2
#pragma once

#include <cstdint>

namespace virtio::blk {

inline constexpr uint16_t kType = 2;
inline constexpr uint64_t kSector = 512;  // bytes, whatever blk_size says

// 5.2.3
enum class Feature : uint64_t {
  MAX_SIZE = 1 << 1,
  SEG_MAX = 1 << 2,
  RO = 1 << 5,
  BLK_SIZE = 1 << 6,
  FLUSH = 1 << 9,
  TOPOLOGY = 1 << 10,
  MQ = 1 << 12,
  DISCARD = 1 << 13,
  WRITE_ZEROES = 1 << 14,
};

// struct virtio_blk_config. 5.2.4
enum class Config : uint16_t {
  capacity = 0x00,                  // 64 bits, sectors
  size_max = 0x08,                  // 32 bits
  seg_max = 0x0C,                   // 32 bits
  blk_size = 0x14,                  // 32 bits
  physical_block_exp = 0x18,        // 8 bits
  min_io_size = 0x1A,               // 16 bits, blocks
  opt_io_size = 0x1C,               // 32 bits, blocks
  num_queues = 0x22,                // 16 bits
  max_discard_sectors = 0x24,       // 32 bits
  max_discard_seg = 0x28,           // 32 bits
  discard_sector_alignment = 0x2C,  // 32 bits
  max_write_zeroes_sectors = 0x30,  // 32 bits
  max_write_zeroes_seg = 0x34,      // 32 bits
  write_zeroes_may_unmap = 0x38,    // 8 bits
};
inline constexpr uint64_t kConfigSize = 0x3C;

// 5.2.6
enum class Type : uint32_t {
  IN = 0,
  OUT = 1,
  FLUSH = 4,
  GET_ID = 8,
  DISCARD = 11,
  WRITE_ZEROES = 13,
};
enum class Result : uint8_t { OK = 0, IOERR = 1, UNSUPP = 2 };

inline constexpr uint64_t kHeaderSize = 16;   // type, reserved, sector
inline constexpr uint64_t kSegmentSize = 16;  // of discard and write zeroes: sector, number, flags
inline constexpr uint32_t kUnmap = 1;         // the only flag of a segment
inline constexpr uint64_t kIdSize = 20;

}  // namespace virtio::blk
