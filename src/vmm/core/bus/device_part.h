// A device that answers at several places (0x60 and 0x64, say) has one part for each: a Device
// whose accesses end in two functions of the owner.
#pragma once

#include <string>
#include <utility>

#include "vmm/core/bus/device.h"

namespace vmm {

template <class Owner>
class DevicePart final : public Device {
 public:
  using ReadFunction = void (Owner::*)(uint64_t offset, std::span<uint8_t> data);
  using WriteFunction = void (Owner::*)(uint64_t offset, std::span<const uint8_t> data);

  // `name` as Device::name(); `owner` outlives the part, of which it is usually a member.
  DevicePart(std::string name, Owner& owner, ReadFunction read, WriteFunction write)
      : name_(std::move(name)), owner_(owner), read_(read), write_(write) {}

  std::string_view name() const override { return name_; }
  void Read(uint64_t offset, std::span<uint8_t> data) override { (owner_.*read_)(offset, data); }
  void Write(uint64_t offset, std::span<const uint8_t> data) override {
    (owner_.*write_)(offset, data);
  }

 private:
  const std::string name_;
  Owner& owner_;
  const ReadFunction read_;
  const WriteFunction write_;
};

}  // namespace vmm
