#include "vmm/config/toml_document.h"

#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include <algorithm>

namespace vmm {
namespace {

constexpr size_t kMostDots = 1000;

SourcePosition Position(const toml::source_region& region) {
  return {region.begin.line, region.begin.column};
}

TomlValue Convert(const toml::node& node) {
  using Kind = TomlValue::Kind;
  TomlValue value;
  value.at = Position(node.source());
  if (const auto* table = node.as_table()) {
    value.kind = Kind::kTable;
    for (const auto& [key, child] : *table) {
      value.members.push_back({std::string(key.str()), Position(key.source()), Convert(child)});
    }
    std::sort(value.members.begin(), value.members.end(),
              [](const TomlMember& a, const TomlMember& b) { return a.at < b.at; });
  } else if (const auto* array = node.as_array()) {
    value.kind = Kind::kArray;
    for (const toml::node& child : *array) value.items.push_back(Convert(child));
  } else if (const auto* text = node.as_string()) {
    value.kind = Kind::kString;
    value.text = text->get();
  } else if (const auto* integer = node.as_integer()) {
    value.kind = Kind::kInteger;
    value.integer = integer->get();
  } else if (const auto* boolean = node.as_boolean()) {
    value.kind = Kind::kBoolean;
    value.boolean = boolean->get();
  } else {
    value.kind = node.is_floating_point() ? Kind::kFloat : Kind::kDateTime;
  }
  return value;
}

// Dots outside strings and comments: they bound how deep dotted keys can nest tables, which toml++
// itself does not limit and destroys by recursion. Wrong only behind a syntax error, where toml++
// has stopped.
size_t CountDots(std::string_view text) {
  size_t dots = 0;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '#') {
      i = std::min(text.find('\n', i), text.size());
    } else if (c == '"' || c == '\'') {
      const bool multi_line = text.substr(i, 3) == std::string(3, c);
      const std::string_view fence = text.substr(i, multi_line ? 3 : 1);
      i += fence.size();
      while (i < text.size() && !text.substr(i).starts_with(fence)) {
        if (text[i] == '\n' && !multi_line) break;
        i += text[i] == '\\' && c == '"' ? 2 : 1;
      }
      i += fence.size();
    } else {
      if (c == '.') ++dots;
      ++i;
    }
  }
  return dots;
}

// A redefinition is reported behind the key; the reader looks for the key itself.
SourcePosition StartOfLine(std::string_view text, SourcePosition at) {
  for (uint32_t line = 1; line < at.line; ++line) text = text.substr(text.find('\n') + 1);
  text = text.substr(0, text.find('\n'));
  if (text.find('{') != std::string_view::npos) return at;  // inside an inline table
  return {at.line, static_cast<uint32_t>(text.find_first_not_of(" \t") + 1)};
}

}  // namespace

std::string_view TomlValue::KindInWords() const {
  switch (kind) {
    case Kind::kString:
      return "a string";
    case Kind::kInteger:
      return "an integer";
    case Kind::kFloat:
      return "a number with a fraction";
    case Kind::kBoolean:
      return "a truth value";
    case Kind::kDateTime:
      return "a date or time of day";
    case Kind::kArray:
      return "a list";
    case Kind::kTable:
      return "a table";
  }
  return "";
}

tl::expected<TomlValue, TomlError> ParseToml(std::string_view text) {
  if (CountDots(text) > kMostDots) {
    return tl::unexpected(TomlError{{1, 1}, "too many dots in keys"});
  }
  try {
    return Convert(toml::parse(text));
  } catch (const toml::parse_error& error) {
    TomlError result{Position(error.source()), std::string(error.description())};
    if (result.what.find("cannot redefine") != std::string::npos) {
      result.at = StartOfLine(text, result.at);
    }
    return tl::unexpected(std::move(result));
  }
}

}  // namespace vmm
