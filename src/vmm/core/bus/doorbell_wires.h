// Guest writes that signal an eventfd: what an engine can do without leaving the guest.
#pragma once

#include <cstdint>

#include "vmm/core/base/types.h"

namespace vmm {

// A doorbell is a register whose written value means nothing. While one is wired, writes of its
// size may signal the eventfd instead of reaching the device; those that do reach the device it
// answers as ever. An engine that can't, or that is quicker without, leaves all of them to it.
//
// Threads: any; the caller may hold its own locks. Lock rank: after PciDecoder.
class DoorbellWires {
 public:
  struct Doorbell {
    GuestPhys address;
    unsigned size;  // bytes of a write
    int fd;         // an eventfd
    friend bool operator==(const Doorbell&, const Doorbell&) = default;
  };

  virtual ~DoorbellWires() = default;
  virtual void Wire(const Doorbell& doorbell) = 0;
  // When it returns the eventfd is signalled no more.
  virtual void Unwire(const Doorbell& doorbell) = 0;
};

}  // namespace vmm
