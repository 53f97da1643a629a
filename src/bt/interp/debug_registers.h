// DR0-DR3, DR6 and DR7, and what they match. [SDM 3B] 17.2
#pragma once

#include <array>
#include <cstdint>

#include "bt/interp/registers.h"

namespace bt {

class DebugRegisters {
 public:
  uint64_t dr6() const { return dr6_; }
  uint64_t dr7() const { return dr7_; }
  const std::array<uint64_t, 4>& addresses() const { return address_; }
  uint64_t address(unsigned index) const { return address_[index]; }
  bool general_detect() const { return dr7_ & dr7::GD; }

  // `debugging_extensions`: CR4.DE, without which nothing matches ports.
  void Load(const std::array<uint64_t, 4>& addresses, uint64_t dr6, uint64_t dr7,
            bool debugging_extensions);
  void SetAddress(unsigned index, uint64_t value);
  void SetDr6(uint64_t value) { dr6_ = (value & dr6::WRITABLE) | dr6::FIXED; }
  void SetDr7(uint64_t value);
  void SetDebuggingExtensions(bool on);

  // Before #DB is delivered: what it tells of. B0-B3 are those of this exception; the other bits
  // stay until software clears them. [SDM 3B] 17.2.3
  void Report(uint64_t bits) { dr6_ = (dr6_ & ~dr6::B) | bits; }

  // Whether any enabled breakpoint is of the kind.
  bool code() const { return code_; }
  bool data() const { return data_; }
  bool io() const { return io_; }
  bool any() const { return code_ | data_ | io_; }

  // Which match, as bits B0-B3 of DR6.
  uint64_t CodeHits(uint64_t linear) const;
  uint64_t DataHits(uint64_t linear, unsigned size, bool write) const;
  uint64_t IoHits(uint16_t port, unsigned size) const;
  // A page (4 KiB) of which a fast path may not read, or write, because a match might be missed.
  bool WatchesPage(uint64_t page, bool write) const;

 private:
  enum class Kind : uint8_t { kOff, kCode, kWrite, kIo, kAccess };
  struct Breakpoint {
    Kind kind = Kind::kOff;
    uint64_t first = 0, last = 0;
  };
  void Update();
  template <class F>
  uint64_t Hits(uint64_t first, uint64_t last, F&& of_kind) const;

  std::array<uint64_t, 4> address_{};
  uint64_t dr6_ = dr6::FIXED, dr7_ = dr7::FIXED;
  std::array<Breakpoint, 4> breakpoint_;
  bool extensions_ = false, code_ = false, data_ = false, io_ = false;
};

}  // namespace bt
