// The differentiated system description table, compiled from firmware/acpi/dsdt.asl at build time.
#pragma once

#include <cstdint>
#include <span>

namespace vmm {

// A whole table: header, checksum and code.
std::span<const uint8_t> DsdtAml();

}  // namespace vmm
