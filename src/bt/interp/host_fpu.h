// Where kinds of processors differ in their x87 and SSE state. The interpreter computes with the
// host's own instructions and does as the host does: so a guest that is moved between the
// interpreter and KVM, where the hardware decides, sees one processor.
#pragma once

#include <cstdint>
#include <span>

namespace bt {

// AMD's misaligned exception mask: SSE operands in memory need no alignment. [APM 1] 4.2.2
inline constexpr uint32_t kMxcsrMm = 1 << 17;

struct HostFpu {
  // What FXSAVE and the XSAVE family store as FOP, FIP and FDP, and FXRSTOR and XRSTOR load, while
  // no unmasked x87 exception is pending.
  enum class IdlePointers : uint8_t {
    kKept,     // stored and loaded always. [SDM 1] 10.5.1, 13.5.1
    kZeroed,   // stored as 0, loaded always. [APM 2] 11.5.10, CPUID 8000_0008 EBX.RstrFpErrPtrs
    kSkipped,  // neither stored nor loaded. [APM 5] FXSAVE, FXRSTOR; processors before that bit
  };
  uint32_t mxcsr_mask;  // bits that MXCSR has
  IdlePointers idle_pointers;
};

// Asked of the processor itself, once. Any thread.
const HostFpu& TheHostFpu();

// The x87 part of the legacy area before the registers: FCW, FSW, FTW, FOP, FIP, FDP.
inline constexpr unsigned kX87HeaderSize = 24;
using X87Header = std::span<uint8_t, kX87HeaderSize>;
// Makes of the state what is stored of it, and says how many bytes of that are stored. `wide`: by a
// form with REX.W; the others store 32 bits of an address, and of selectors always 0.
unsigned StoredHeader(HostFpu::IdlePointers kind, bool wide, X87Header header);
// Makes of a header that was read from memory, FSW already settled, the state that a load leaves.
void LoadedHeader(HostFpu::IdlePointers kind, bool wide, std::span<const uint8_t> before,
                  X87Header header);

}  // namespace bt
