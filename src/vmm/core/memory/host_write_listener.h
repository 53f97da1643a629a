// Who must hear that a device wrote to guest RAM: an engine that has translated code from there.
#pragma once

#include <cstdint>

#include "vmm/core/base/types.h"

namespace vmm {

class HostWriteListener {
 public:
  virtual ~HostWriteListener() = default;
  // [start, start + length) was written, before the guest can know that it was. Any thread, with
  // locks of the device held.
  virtual void OnHostWrite(GuestPhys start, uint64_t length) = 0;
};

}  // namespace vmm
