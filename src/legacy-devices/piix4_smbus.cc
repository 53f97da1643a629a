#include "legacy-devices/piix4_smbus.h"

namespace legacy {

using namespace piix4_smbus;

void Piix4Smbus::Read(uint64_t offset, std::span<uint8_t> data) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) data[i] = ReadRegister(offset + i);
}

void Piix4Smbus::Write(uint64_t offset, std::span<const uint8_t> data) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) WriteRegister(offset + i, data[i]);
}

uint8_t& Piix4Smbus::NextBlockByte() {
  uint8_t& byte = state_.block[state_.block_index];
  state_.block_index = static_cast<uint8_t>((state_.block_index + 1) % kBlockSize);
  return byte;
}

uint8_t Piix4Smbus::ReadRegister(uint64_t offset) {
  if (offset >= kSize) return 0xFF;
  switch (static_cast<Reg>(offset)) {
    case Reg::SMBHSTSTS:
      return state_.SMBHSTSTS.raw();
    case Reg::SMBHSTCNT:
      state_.block_index = 0;
      return state_.SMBHSTCNT.raw();
    case Reg::SMBHSTCMD:
      return state_.SMBHSTCMD;
    case Reg::SMBHSTADD:
      return state_.SMBHSTADD;
    case Reg::SMBHSTDAT0:
      return state_.SMBHSTDAT0;
    case Reg::SMBHSTDAT1:
      return state_.SMBHSTDAT1;
    case Reg::SMBBLKDAT:
      return NextBlockByte();
    case Reg::SMBSLVCNT:
      return state_.SMBSLVCNT;
    default:
      return 0;
  }
}

void Piix4Smbus::WriteRegister(uint64_t offset, uint8_t value) {
  if (offset >= kSize) return;
  switch (static_cast<Reg>(offset)) {
    case Reg::SMBHSTSTS:
      state_.SMBHSTSTS = vmm::BitRegister<SMBHSTSTS>(
          static_cast<uint8_t>(state_.SMBHSTSTS.raw() & ~(value & kStsMask)));
      break;
    case Reg::SMBHSTCNT: {
      const vmm::BitRegister<SMBHSTCNT> written(value);
      state_.SMBHSTCNT = vmm::BitRegister<SMBHSTCNT>(written.Field(kCntMask));
      if (written.Has(SMBHSTCNT::KILL))
        state_.SMBHSTSTS.Set(SMBHSTSTS::FAILED);
      else if (written.Has(SMBHSTCNT::START))
        state_.SMBHSTSTS.Set(SMBHSTSTS::DEV_ERR);
      break;
    }
    case Reg::SMBHSTCMD:
      state_.SMBHSTCMD = value;
      break;
    case Reg::SMBHSTADD:
      state_.SMBHSTADD = value;
      break;
    case Reg::SMBHSTDAT0:
      state_.SMBHSTDAT0 = value;
      break;
    case Reg::SMBHSTDAT1:
      state_.SMBHSTDAT1 = value;
      break;
    case Reg::SMBBLKDAT:
      NextBlockByte() = value;
      break;
    case Reg::SMBSLVCNT:
      state_.SMBSLVCNT = value;
      break;
    default:
      break;
  }
}

void Piix4Smbus::Reset() {
  std::lock_guard lock(mutex_);
  state_ = {};
}

Piix4SmbusState Piix4Smbus::Save() const {
  std::lock_guard lock(mutex_);
  return state_;
}

vmm::Result<void> Piix4Smbus::Load(const Piix4SmbusState& state) {
  if (state.version != Piix4SmbusState::kVersion || !state.SMBHSTSTS.IsWithin(kStsMask) ||
      !state.SMBHSTCNT.IsWithin(kCntMask) || state.block_index >= kBlockSize)
    return vmm::Fail(vmm::ExitCode::kConfigInvalid,
                     "smbus: the saved state is not one of the PIIX4's SMBus host");
  std::lock_guard lock(mutex_);
  state_ = state;
  return {};
}

}  // namespace legacy
