// A TOML text as a tree of our own, every part with its place. Only toml_document.cc knows toml++.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

namespace vmm {

// Counted from 1; columns count characters. 0: no place (not from a file).
struct SourcePosition {
  uint32_t line = 0;
  uint32_t column = 0;
  friend auto operator<=>(const SourcePosition&, const SourcePosition&) = default;
};

struct TomlMember;

struct TomlValue {
  enum class Kind : uint8_t { kString, kInteger, kFloat, kBoolean, kDateTime, kArray, kTable };
  Kind kind = Kind::kTable;
  SourcePosition at;
  std::string text;                 // kString
  int64_t integer = 0;              // kInteger
  bool boolean = false;             // kBoolean
  std::vector<TomlValue> items;     // kArray
  std::vector<TomlMember> members;  // kTable, in the order of the file

  // "a string", "a table" ...
  std::string_view KindInWords() const;
};

struct TomlMember {
  std::string key;
  SourcePosition at;  // of the key
  TomlValue value;
};

struct TomlError {
  SourcePosition at;
  std::string what;  // as toml++ says it
};

// The root table. The text must be UTF-8; nothing in it can make this throw.
tl::expected<TomlValue, TomlError> ParseToml(std::string_view text);

}  // namespace vmm
