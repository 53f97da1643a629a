// Guest RAM: one memfd, mapped once, seen by the guest as one or two regions around the PCI hole.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/core/base/result.h"
#include "vmm/core/base/types.h"

namespace vmm {

// Layout of a PC: RAM from 0 up to at most kLowRamEnd, the rest from 4 GiB on. Legacy video memory
// and ROM space (0xA0000-0xFFFFF) is RAM-backed here and kept from the guest's memory map.
struct RamRegion {
  GuestPhys start;
  uint64_t size;         // bytes, a multiple of 4 KiB
  uint64_t file_offset;  // in the memfd
  uint8_t* host;         // where it is mapped
};

// Threads: immutable after Create; the bytes themselves are shared with every vCPU, so what a guest
// controls is read once into a local.
class GuestMemory {
 public:
  static constexpr uint64_t kLowRamEnd = 0xC0000000;  // 3 GiB; above: PCI hole, IOAPIC, APIC
  static constexpr uint64_t kMinSize = 2 * kMiB;
  static constexpr uint64_t kMaxRomSize = 16 * kMiB;

  // `size` in bytes. kHostMemory when the host can't give it; nothing is touched until used.
  // `rom_size`: bytes of ROM that end at 4 GiB, a multiple of 4 KiB; 0 = none.
  static Result<GuestMemory> Create(uint64_t size, uint64_t rom_size = 0);
  GuestMemory(GuestMemory&&) noexcept;
  GuestMemory& operator=(GuestMemory&&) noexcept;
  ~GuestMemory();

  uint64_t size() const { return size_; }
  int fd() const { return fd_; }
  std::span<const RamRegion> regions() const { return regions_; }
  // RAM as the memfd has it: the regions one behind the other.
  std::span<uint8_t> All() const { return {regions_.front().host, size_}; }

  // What the guest only reads: the host fills it before any vCPU runs. nullptr: there is none.
  const RamRegion* rom() const { return rom_.size == 0 ? nullptr : &rom_; }

  // Host address of [address, address+length), or nullptr unless all of it is RAM, or all is ROM.
  uint8_t* Host(GuestPhys address, uint64_t length) const {
    if (uint8_t* ram = Ram(address, length)) return ram;
    const uint64_t offset = address.value - rom_.start.value;
    return offset < rom_.size && length <= rom_.size - offset ? rom_.host + offset : nullptr;
  }
  // The same of RAM only, for whoever writes on behalf of the guest.
  uint8_t* Ram(GuestPhys address, uint64_t length) const {
    for (const RamRegion& region : regions_) {
      const uint64_t offset = address.value - region.start.value;
      if (offset < region.size && length <= region.size - offset) return region.host + offset;
    }
    return nullptr;
  }
  // False unless all of it is RAM (for reading: or all ROM); then nothing was copied.
  bool Read(GuestPhys address, std::span<uint8_t> out) const;
  bool Write(GuestPhys address, std::span<const uint8_t> in) const;

 private:
  GuestMemory() = default;
  int fd_ = -1;
  void* reservation_ = nullptr;  // address space that holds the mapping and its guards
  uint64_t size_ = 0;
  std::vector<RamRegion> regions_;
  RamRegion rom_{GuestPhys(0), 0, 0, nullptr};  // memory of its own, not in the memfd
};

}  // namespace vmm
