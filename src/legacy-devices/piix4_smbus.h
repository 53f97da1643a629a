// The SMBus host of the PIIX4, with nothing on its bus. [PIIX4] SMBus I/O registers
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <span>

#include "vmm/core/base/bit_register.h"
#include "vmm/core/base/result.h"
#include "vmm/core/bus/device.h"

namespace legacy {

namespace piix4_smbus {

inline constexpr uint16_t kDefaultBase = 0x700;
inline constexpr uint64_t kSize = 0x10;
inline constexpr uint8_t kBlockSize = 32;

enum class Reg : uint8_t {
  SMBHSTSTS = 0x00,
  SMBSLVSTS = 0x01,
  SMBHSTCNT = 0x02,
  SMBHSTCMD = 0x03,
  SMBHSTADD = 0x04,
  SMBHSTDAT0 = 0x05,
  SMBHSTDAT1 = 0x06,
  SMBBLKDAT = 0x07,
  SMBSLVCNT = 0x08,
};

enum class SMBHSTSTS : uint8_t {
  HOST_BUSY = 0x01,
  INTER = 0x02,
  DEV_ERR = 0x04,  // nobody acknowledged
  BUS_ERR = 0x08,
  FAILED = 0x10,
};
inline constexpr uint8_t kStsMask = 0x1E;  // a 1 clears; HOST_BUSY is never seen

enum class SMBHSTCNT : uint8_t {
  INTEREN = 0x01,
  KILL = 0x02,
  SMB_CMD_PROT = 0x1C,
  START = 0x40,  // write-only
};
inline constexpr uint8_t kCntMask = 0x1F;

}  // namespace piix4_smbus

struct Piix4SmbusState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  vmm::BitRegister<piix4_smbus::SMBHSTSTS> SMBHSTSTS;
  vmm::BitRegister<piix4_smbus::SMBHSTCNT> SMBHSTCNT;
  uint8_t SMBHSTCMD = 0;
  uint8_t SMBHSTADD = 0;
  uint8_t SMBHSTDAT0 = 0;
  uint8_t SMBHSTDAT1 = 0;
  uint8_t SMBSLVCNT = 0;
  std::array<uint8_t, piix4_smbus::kBlockSize> block{};
  uint8_t block_index = 0;  // reading SMBHSTCNT sets it to 0
  friend bool operator==(const Piix4SmbusState&, const Piix4SmbusState&) = default;
};

// A transfer ends at once with DEV_ERR: no slave has that address. Drivers poll, so it raises no
// interrupt. Threads: any.
class Piix4Smbus final : public vmm::Device {
 public:
  std::string_view name() const override { return "smbus"; }
  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  void Reset();
  Piix4SmbusState Save() const;
  vmm::Result<void> Load(const Piix4SmbusState& state);

 private:
  uint8_t ReadRegister(uint64_t offset);
  void WriteRegister(uint64_t offset, uint8_t value);
  uint8_t& NextBlockByte();

  mutable std::mutex mutex_;  // guards the state
  Piix4SmbusState state_;
};

}  // namespace legacy
