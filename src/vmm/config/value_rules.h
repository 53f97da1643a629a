// One value against its row of the table of keys.
#pragma once

#include <filesystem>
#include <string_view>

#include "vmm/config/config_keys.h"
#include "vmm/config/toml_document.h"
#include "vmm/config/value_parsers.h"

namespace vmm {

// A value written as text: on the command line, or a string in the file. Not for lists.
Parsed<ConfigValue> ReadText(const ConfigKey& key, std::string_view text,
                             const std::filesystem::path& base);

// A value of the file. Not for lists.
Parsed<ConfigValue> ReadToml(const ConfigKey& key, const TomlValue& value,
                             const std::filesystem::path& base);

// The error for a value of the wrong TOML type.
ValueError WrongType(const ConfigKey& key, const TomlValue& value);

// Is `text` one line of printable text? Kernels and logs want no other.
bool IsOneLine(std::string_view text);

}  // namespace vmm
