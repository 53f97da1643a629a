// The contract of a PCI function: a name and a configuration space.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "vmm/core/base/result.h"
#include "vmm/core/pci/pci_config_space.h"

namespace vmm {

struct PciFunctionState {
  static constexpr uint32_t kVersion = 1;
  uint32_t version = kVersion;
  PciConfigSpace::Bytes config{};
  friend bool operator==(const PciFunctionState&, const PciFunctionState&) = default;
};

// A function defines its registers in its constructor and acts on writes in OnConfigWritten(). What
// it decodes (its BARs) it puts on the buses from there, for base addresses are registers like
// others: the size of a BAR is the lowest bit of its write mask.
//
// Threads: any, under the function's own lock.
class PciFunction {
 public:
  struct Identity {
    uint16_t vendor = 0;
    uint16_t device = 0;
    uint8_t revision = 0;
    uint32_t class_code = 0;  // base class, subclass, programming interface from the top; 24 bits
  };

  PciFunction(const PciFunction&) = delete;
  PciFunction& operator=(const PciFunction&) = delete;
  virtual ~PciFunction() = default;

  std::string_view name() const { return name_; }  // lower case, unique in a machine ("piix4-pm")

  // Any size at any offset; the host bridge never crosses a 32-bit register.
  void ReadConfig(uint16_t offset, std::span<uint8_t> data);
  void WriteConfig(uint16_t offset, std::span<const uint8_t> data);

  // Before the machine runs: other functions may be in the same slot.
  void MarkMultiFunction();

  void Reset();
  PciFunctionState Save() const;
  // Refuses, and changes nothing, when a read-only bit differs from this function's.
  Result<void> Load(const PciFunctionState& state);

 protected:
  PciFunction(std::string name, const Identity& identity);

  // Bytes [offset, offset + size) were written, or the whole space by Reset() or Load(). With the
  // lock held; must not access this function's configuration space by any other way than config().
  virtual void OnConfigWritten(uint16_t offset, size_t size);
  // `data` is what the guest reads from `offset` on: may put in bits that live elsewhere. With the
  // lock held.
  virtual void OnConfigRead(uint16_t offset, std::span<uint8_t> data);

  PciConfigSpace& config() { return config_; }  // in the constructor, or with the lock held
  const PciConfigSpace& config() const { return config_; }
  std::mutex& mutex() const { return mutex_; }

 private:
  const std::string name_;
  mutable std::mutex mutex_;
  PciConfigSpace config_;
};

}  // namespace vmm
