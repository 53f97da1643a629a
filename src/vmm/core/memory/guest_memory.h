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

  // `size` in bytes. kHostMemory when the host can't give it; nothing is touched until used.
  static Result<GuestMemory> Create(uint64_t size);
  GuestMemory(GuestMemory&&) noexcept;
  GuestMemory& operator=(GuestMemory&&) noexcept;
  ~GuestMemory();

  uint64_t size() const { return size_; }
  int fd() const { return fd_; }
  std::span<const RamRegion> regions() const { return regions_; }

  // Host address of [address, address+length), or nullptr unless all of it is RAM.
  uint8_t* Host(GuestPhys address, uint64_t length) const {
    for (const RamRegion& region : regions_) {
      const uint64_t offset = address.value - region.start.value;
      if (offset < region.size && length <= region.size - offset) return region.host + offset;
    }
    return nullptr;
  }
  // False unless all of it is RAM; then nothing was copied.
  bool Read(GuestPhys address, std::span<uint8_t> out) const;
  bool Write(GuestPhys address, std::span<const uint8_t> in) const;

 private:
  GuestMemory() = default;
  int fd_ = -1;
  void* reservation_ = nullptr;  // address space that holds the mapping and its guards
  uint64_t size_ = 0;
  std::vector<RamRegion> regions_;
};

}  // namespace vmm
