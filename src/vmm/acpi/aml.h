// ACPI machine language for what differs from machine to machine; the rest is compiled from ASL in
// firmware/acpi. [ACPI] 20.2
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace vmm::aml {

using Code = std::vector<uint8_t>;

Code Join(std::initializer_list<Code> parts);

// `name` is a name string as AML has it: four characters, or "\\_SB_".
Code Scope(std::string_view name, const Code& content);
Code Device(std::string_view name, const Code& content);
Code NameInteger(std::string_view name, uint32_t value);
Code NameText(std::string_view name, std::string_view text);

}  // namespace vmm::aml
