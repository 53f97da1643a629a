// What `vmm test` and its init in the guest say to each other over the guest's second serial line,
// and the plan that the init finds in its initramfs.
//
// Guest to host: frames, each a header of 12 bytes and a payload, numbers little endian:
//   0 magic | 1 type | 2 length of the payload (2 bytes) | 4 number of the frame from 0 (4 bytes) |
//   8 CRC-32 of bytes 0 to 7 and the payload (4 bytes)
// Host to guest: kAck for each frame that was taken. The guest sends no more than kWindow frames
// ahead, so that what is on its way fits into the line's buffers and none is ever lost.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmm::test_channel {

inline constexpr uint8_t kMagic = 0xD6;
inline constexpr uint8_t kAck = 0x06;
inline constexpr uint8_t kVersion = 1;
inline constexpr size_t kHeader = 12;        // bytes
inline constexpr size_t kMaxPayload = 1024;  // bytes
inline constexpr unsigned kWindow = 16;      // frames

enum class Type : uint8_t {
  kHello = 1,    // kVersion in one byte, then the kernel's release
  kNote = 2,     // text: what is odd but hinders nothing
  kProblem = 3,  // text: why the command can't be run; the last frame
  kStarted = 4,  // nothing: the command runs
  kStdout = 5,   // bytes that the command wrote
  kStderr = 6,
  kEnded = 7,  // How and a number, one byte each; the last frame
};
inline constexpr uint8_t kFirstType = 1, kLastType = 7;

enum class How : uint8_t { kExited = 0, kKilled = 1 };  // the number: status, or signal

// The plan: words, each followed by a NUL, in pairs of one of these names and a value.
inline constexpr char kPlanPath[] = "/.vmm/plan";
inline constexpr char kInitPath[] = "/.vmm/init";
inline constexpr char kPlanArgument[] = "argument";  // a word of the command
inline constexpr char kPlanModule[] = "module";      // a file to load, in this order
inline constexpr char kPlanNeeded[] = "needed";      // the same; the run fails if it can't be
inline constexpr char kPlanApplets[] = "applets";    // a busybox, to be installed where it is
inline constexpr char kPlanDisk[] = "root-disk";     // serial number of the disk with the root
inline constexpr char kPlanShare[] = "root-share";   // tag of the shared directory with the root

inline void Store(uint8_t* at, uint32_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) at[i] = static_cast<uint8_t>(value >> (8 * i));
}
inline uint32_t Load(const uint8_t* at, unsigned bytes) {
  uint32_t value = 0;
  for (unsigned i = 0; i < bytes; ++i) value |= uint32_t{at[i]} << (8 * i);
  return value;
}

// CRC-32 as Ethernet has it; start with 0 and pass the last result to go on.
inline uint32_t Crc32(uint32_t crc, const uint8_t* data, size_t size) {
  constexpr uint32_t kNibbles[16] = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC,
                                     0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
                                     0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
                                     0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
  crc = ~crc;
  for (size_t i = 0; i < size; ++i) {
    crc = kNibbles[(crc ^ data[i]) & 15] ^ (crc >> 4);
    crc = kNibbles[(crc ^ (data[i] >> 4)) & 15] ^ (crc >> 4);
  }
  return ~crc;
}

// Writes the header of a frame whose payload is in place behind it. `frame` has kHeader + length
// bytes.
inline void Seal(uint8_t* frame, Type type, size_t length, uint32_t number) {
  frame[0] = kMagic;
  frame[1] = static_cast<uint8_t>(type);
  Store(frame + 2, static_cast<uint32_t>(length), 2);
  Store(frame + 4, number, 4);
  Store(frame + 8, Crc32(Crc32(0, frame, 8), frame + kHeader, length), 4);
}

}  // namespace vmm::test_channel
