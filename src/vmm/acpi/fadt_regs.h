// Fixed ACPI description table: byte offsets and bits. [ACPI] 5.2.9
#pragma once

#include <cstdint>

namespace vmm::fadt {

enum class Field : uint16_t {
  FIRMWARE_CTRL = 36,    // 4
  DSDT = 40,             // 4
  SCI_INT = 46,          // 2
  SMI_CMD = 48,          // 4
  ACPI_ENABLE = 52,      // 1
  ACPI_DISABLE = 53,     // 1
  PM1A_EVT_BLK = 56,     // 4
  PM1A_CNT_BLK = 64,     // 4
  PM_TMR_BLK = 76,       // 4
  GPE0_BLK = 80,         // 4
  PM1_EVT_LEN = 88,      // 1
  PM1_CNT_LEN = 89,      // 1
  PM_TMR_LEN = 91,       // 1
  GPE0_BLK_LEN = 92,     // 1
  P_LVL2_LAT = 96,       // 2
  P_LVL3_LAT = 98,       // 2
  CENTURY = 108,         // 1
  IAPC_BOOT_ARCH = 109,  // 2
  FLAGS = 112,           // 4
  RESET_REG = 116,       // 12: a generic address, as all X_ fields but X_DSDT
  RESET_VALUE = 128,     // 1
  X_DSDT = 140,          // 8
  X_PM1A_EVT_BLK = 148,
  X_PM1A_CNT_BLK = 172,
  X_PM_TMR_BLK = 208,
  X_GPE0_BLK = 220,
};
inline constexpr uint16_t kSize = 276;
inline constexpr uint8_t kRevision = 6;

enum class Flags : uint32_t {
  WBINVD = 1u << 0,
  PROC_C1 = 1u << 2,
  SLP_BUTTON = 1u << 5,  // there is no fixed sleep button; a fixed power button is: PWR_BUTTON = 0
  FIX_RTC = 1u << 6,     // the RTC wakes from no sleep state
  TMR_VAL_EXT = 1u << 8,
  RESET_REG_SUP = 1u << 10,
  USE_PLATFORM_CLOCK = 1u << 15,
};

// [ACPI] 5.2.9.3
enum class BootArch : uint16_t {
  LEGACY_DEVICES = 1u << 0,
  I8042 = 1u << 1,
  VGA_NOT_PRESENT = 1u << 2
};

// Latencies above these mean that the processor has no C2 and no C3.
inline constexpr uint16_t kNoC2 = 0xfff, kNoC3 = 0xfff;

}  // namespace vmm::fadt
