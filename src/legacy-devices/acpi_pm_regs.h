// ACPI fixed hardware as the PIIX4 lays it out. [ACPI] 4.8.3, [PIIX4] function 3
#pragma once

#include <cstdint>

namespace legacy::acpi_pm {

// Where SeaBIOS and OVMF put the block, and where the ACPI tables say it is.
inline constexpr uint16_t kDefaultPmBase = 0x600;
inline constexpr uint16_t kDefaultGpe0Base = 0xAFE0;
inline constexpr uint16_t kApmBase = 0xB2;
inline constexpr uint64_t kPmBlockSize = 0x40;
inline constexpr uint64_t kGpe0BlockSize = 4;
inline constexpr uint64_t kApmSize = 2;
inline constexpr unsigned kSciIrq = 9;

// Byte offsets in the PM block.
enum class Reg : uint8_t {
  PM1_STS = 0x00,  // 16 bits, a 1 clears
  PM1_EN = 0x02,   // 16 bits
  PM1_CNT = 0x04,  // 16 bits
  PM_TMR = 0x08,   // 32 bits, read-only
};

// [ACPI] 4.8.3.1.1
enum class PM1_STS : uint16_t {
  TMR_STS = 0x0001,
  BM_STS = 0x0010,
  GBL_STS = 0x0020,
  PWRBTN_STS = 0x0100,
  SLPBTN_STS = 0x0200,
  RTC_STS = 0x0400,
  WAK_STS = 0x8000,
};
inline constexpr uint16_t kPm1StsMask = 0x8731;

// [ACPI] 4.8.3.1.2; a bit stands where its status bit does.
enum class PM1_EN : uint16_t {
  TMR_EN = 0x0001,
  GBL_EN = 0x0020,
  PWRBTN_EN = 0x0100,
  SLPBTN_EN = 0x0200,
  RTC_EN = 0x0400,
};
inline constexpr uint16_t kPm1EnMask = 0x0721;

// [ACPI] 4.8.3.2.1
enum class PM1_CNT : uint16_t {
  SCI_EN = 0x0001,  // set and cleared by APMC; the guest can't write it
  BM_RLD = 0x0002,
  GBL_RLS = 0x0004,  // write-only
  SLP_TYP = 0x1C00,
  SLP_EN = 0x2000,  // write-only
};
inline constexpr uint16_t kPm1CntWritable = 0x1C02;
inline constexpr uint16_t kPm1CntStored = 0x1C03;

// SLP_TYP as the PIIX4 decodes it and as \_S5 in the DSDT must give it. [PIIX4] PMCNTRL
inline constexpr uint8_t kSlpTypSoftOff = 0;

// [ACPI] 4.8.3.3
inline constexpr uint64_t kPmTimerHz = 3'579'545;
inline constexpr uint64_t kPmTimerHalf = uint64_t{1} << 31;  // ticks between changes of the top bit

// General-purpose event block 0: 16 status bits (a 1 clears), then 16 enable bits. [ACPI] 4.8.4.1
inline constexpr unsigned kGpeCount = 16;

// Advanced power management ports; the values that FADT gives for ACPI_ENABLE and ACPI_DISABLE.
// [PIIX4] APMC, APMS, [ACPI] 5.2.9
enum class ApmReg : uint8_t { APMC = 0, APMS = 1 };
inline constexpr uint8_t kAcpiEnable = 0xF1;
inline constexpr uint8_t kAcpiDisable = 0xF0;

}  // namespace legacy::acpi_pm
