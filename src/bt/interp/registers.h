// Vectors and the bits of the control, flag and debug registers, as the manual names them.
#pragma once

#include <cstdint>

namespace bt {

// Exception vectors. [SDM 3A] table 6-1
enum Vector : uint8_t {
  kDE = 0,
  kDB = 1,
  kNmi = 2,
  kBP = 3,
  kOF = 4,
  kBR = 5,
  kUD = 6,
  kNM = 7,
  kDF = 8,
  kTS = 10,
  kNP = 11,
  kSS = 12,
  kGP = 13,
  kPF = 14,
  kMF = 16,
  kAC = 17,
  kMC = 18,
  kXM = 19,
};

// Control-register and EFER bits. [SDM 3A] 2.5, 2.2.1
namespace cr0 {
inline constexpr uint64_t PE = 1, MP = 2, EM = 4, TS = 8, ET = 16, NE = 32, WP = 1 << 16,
                          AM = 1 << 18, NW = 1 << 29, CD = 1 << 30, PG = 1u << 31;
}
namespace cr3 {
inline constexpr uint64_t PCID = 0xfff, NO_FLUSH = 1ull << 63;
}
namespace cr4 {
inline constexpr uint64_t VME = 1, PVI = 2, TSD = 4, DE = 8, PSE = 16, PAE = 32, MCE = 64,
                          PGE = 128, PCE = 256, OSFXSR = 512, OSXMMEXCPT = 1024, UMIP = 2048,
                          FSGSBASE = 1 << 16, PCIDE = 1 << 17, OSXSAVE = 1 << 18, SMEP = 1 << 20,
                          SMAP = 1 << 21;
}
namespace efer {
inline constexpr uint64_t SCE = 1, LME = 1 << 8, LMA = 1 << 10, NXE = 1 << 11, AIBRSE = 1 << 21;
}

// EFLAGS bits outside the arithmetic ones. [SDM 1] 3.4.3
namespace eflags {
inline constexpr uint64_t TF = 1 << 8, IF = 1 << 9, DF = 1 << 10, IOPL = 3 << 12, NT = 1 << 14,
                          RF = 1 << 16, VM = 1 << 17, AC = 1 << 18, VIF = 1 << 19, VIP = 1 << 20,
                          ID = 1 << 21;
// What Cpu::rflags_ keeps.
inline constexpr uint64_t KEPT = TF | IF | DF | IOPL | NT | RF | VM | AC | VIF | VIP | ID;
}  // namespace eflags

// Debug registers. [SDM 3B] 17.2
namespace dr6 {
inline constexpr uint64_t B0 = 1, B = 15, BD = 1 << 13, BS = 1 << 14, BT = 1 << 15,
                          WRITABLE = 0xe00f, FIXED = 0xffff0ff0;
}
namespace dr7 {
inline constexpr uint64_t GD = 1 << 13, LOCAL = 0x155, FIXED = 0x400, WRITABLE = 0xffff23ff;
}

}  // namespace bt
