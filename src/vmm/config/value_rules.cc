#include "vmm/config/value_rules.h"

#include <fmt/format.h>

#include "vmm/config/spelling.h"
#include "vmm/core/state/cpuid_features.h"

namespace vmm {
namespace {

constexpr size_t kLongestName = 64;

tl::unexpected<ValueError> Wrong(std::string what, std::string why, std::string fix) {
  return tl::unexpected<ValueError>(ValueError{std::move(what), std::move(why), std::move(fix)});
}

Parsed<ConfigValue> ReadChoice(const ConfigKey& key, std::string_view text) {
  const std::vector<std::string_view> choices = SplitChoices(key.choices);
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i] == text) return ConfigValue{.text = std::string(text), .number = i};
  }
  const std::string known = fmt::format("known: \"{}\"", fmt::join(choices, "\", \""));
  for (std::string_view later : SplitChoices(key.later)) {
    if (later != text) continue;
    return Wrong(fmt::format("{} = \"{}\" is not available in this version of vmm", key.name, text),
                 known, fmt::format("write \"{}\"", choices.front()));
  }
  const std::string_view near = NearestSpelling(text, choices);
  return Wrong(fmt::format("'{}' is no value of '{}'", IsOneLine(text) ? text : "?", key.name),
               known, fmt::format("write \"{}\"", near.empty() ? choices.front() : near));
}

Parsed<ConfigValue> ReadName(const ConfigKey& key, std::string_view text) {
  bool good =
      !text.empty() && text.size() <= kLongestName && text.front() != '.' && text.front() != '-';
  for (char c : text) {
    good = good && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '.' || c == '_' || c == '-');
  }
  if (good) return ConfigValue{.text = std::string(text)};
  return Wrong(fmt::format("'{}' can't be the {}", IsOneLine(text) ? text : "?", key.name),
               fmt::format("it has 1 to {} letters, digits, '.', '_' and '-', and starts with a "
                           "letter or digit",
                           kLongestName),
               fmt::format("write a name such as {}", key.example));
}

Parsed<ConfigValue> ReadCpu(const ConfigKey& key, std::string_view text) {
  auto choice = ParseCpuChoice(text);
  if (choice) return ConfigValue{.text = std::string(text), .cpu = std::move(*choice)};
  const std::string word = IsOneLine(choice.error().word) ? choice.error().word : "?";
  std::vector<std::string_view> known;
  if (!choice.error().is_feature) {
    known.push_back("host");
    for (const CpuModel& model : CpuModels()) known.push_back(model.name);
    const std::string_view near = NearestSpelling(word, known);
    return Wrong(fmt::format("'{}' is no value of '{}'", word, key.name),
                 fmt::format("known: \"{}\"", fmt::join(known, "\", \"")),
                 fmt::format("write \"{}\"", near.empty() ? known.front() : near));
  }
  for (const CpuidFeature& feature : CpuidFeatures()) known.push_back(feature.name);
  const bool sign = !word.empty() && (word.front() == '-' || word.front() == '+');
  const std::string_view name = std::string_view(word).substr(sign ? 1 : 0);
  const std::string_view near = NearestSpelling(name, known);
  return Wrong(fmt::format("'{}' changes no feature of the processor", word),
               "after the model come names as /proc/cpuinfo has them, with - or + before each",
               fmt::format("write \"{},{}{}\"", text.substr(0, text.find(',')),
                           sign ? word.front() : '-', near.empty() ? "avx2" : near));
}

Parsed<ConfigValue> CheckInteger(const ConfigKey& key, uint64_t number) {
  if (number >= key.min && number <= key.max) return ConfigValue{.number = number};
  return Wrong(fmt::format("'{}' is {}", key.name, number),
               fmt::format("it must be from {} to {}", key.min, key.max),
               fmt::format("write {}", number < key.min ? key.min : key.max));
}

Parsed<ConfigValue> CheckSize(const ConfigKey& key, uint64_t bytes) {
  if (bytes < key.min || bytes > key.max) {
    return Wrong(fmt::format("'{}' is {}", key.name, FormatSize(bytes)),
                 fmt::format("it must be from {} to {}", FormatSize(key.min), FormatSize(key.max)),
                 fmt::format("write \"{}\"", FormatSize(bytes < key.min ? key.min : key.max)));
  }
  if (bytes % kPageSize != 0) {
    const uint64_t rounded = (bytes / kPageSize + 1) * kPageSize;
    return Wrong(fmt::format("'{}' is {}", key.name, FormatSize(bytes)),
                 "it must be a multiple of 4K, the size of a page",
                 fmt::format("write \"{}\"", FormatSize(rounded)));
  }
  return ConfigValue{.number = bytes};
}

Parsed<ConfigValue> CheckTime(const ConfigKey& key, std::chrono::milliseconds time) {
  if (static_cast<uint64_t>(time.count()) >= key.min) return ConfigValue{.time = time};
  return Wrong(fmt::format("'{}' is 0", key.name), "the run would end before it starts",
               "write a longer time, or leave it out for no limit");
}

// A list of words as one string of TOML; empty when it is no such list.
std::string JoinedTexts(const TomlValue& list) {
  std::string joined;
  for (const TomlValue& item : list.items) {
    const bool plain = item.kind == TomlValue::Kind::kString && IsOneLine(item.text) &&
                       item.text.find_first_of("\"\\") == std::string::npos;
    if (!plain) return {};
    joined += (joined.empty() ? "\"" : " ") + item.text;
  }
  return joined.empty() ? joined : joined + "\"";
}

// A value that the user may have meant, as vm.toml writes it.
std::string Guess(const ConfigKey& key, const TomlValue& value) {
  using Kind = TomlValue::Kind;
  const bool positive = value.kind == Kind::kInteger && value.integer > 0;
  switch (key.kind) {
    case ValueKind::kSize:
      if (positive && static_cast<uint64_t>(value.integer) <= key.max / kMiB) {
        return fmt::format("\"{}M\"", value.integer);
      }
      break;
    case ValueKind::kTime:
      if (positive && value.integer < 1'000'000) return fmt::format("\"{}s\"", value.integer);
      break;
    case ValueKind::kInteger:
      if (value.kind == Kind::kString) {
        const auto number = ParseInteger(value.text);
        if (number && *number >= key.min && *number <= key.max) return value.text;
      }
      break;
    case ValueKind::kBoolean:
      if (value.kind == Kind::kString) {
        return value.text == "false" || value.text == "no" || value.text == "off" ? "false"
                                                                                  : "true";
      }
      if (value.kind == Kind::kInteger) return value.integer == 0 ? "false" : "true";
      break;
    case ValueKind::kText:
      if (value.kind == Kind::kArray) {
        if (const std::string joined = JoinedTexts(value); !joined.empty()) return joined;
      }
      [[fallthrough]];
    default:
      if (value.kind == Kind::kInteger && key.kind != ValueKind::kChoice &&
          key.kind != ValueKind::kConsole) {
        return fmt::format("\"{}\"", value.integer);
      }
  }
  return std::string(key.example);
}

}  // namespace

bool IsOneLine(std::string_view text) {
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7F) return false;
  }
  return true;
}

Parsed<ConfigValue> ReadText(const ConfigKey& key, std::string_view text,
                             const std::filesystem::path& base) {
  switch (key.kind) {
    case ValueKind::kText:
      if (IsOneLine(text)) return ConfigValue{.text = std::string(text)};
      return Wrong(fmt::format("'{}' holds a control character", key.name),
                   "it is one line of text", "write it on one line, with spaces");
    case ValueKind::kName:
      return ReadName(key, text);
    case ValueKind::kCpu:
      return ReadCpu(key, text);
    case ValueKind::kInteger:
      return ParseInteger(text).and_then([&](uint64_t n) { return CheckInteger(key, n); });
    case ValueKind::kBoolean:
      return ParseBoolean(text).map([](bool b) { return ConfigValue{.number = b}; });
    case ValueKind::kSize:
      return ParseSize(text).and_then([&](uint64_t bytes) { return CheckSize(key, bytes); });
    case ValueKind::kTime:
      return ParseTime(text).and_then([&](auto time) { return CheckTime(key, time); });
    case ValueKind::kChoice:
      return ReadChoice(key, text);
    case ValueKind::kFile:
      return ParsePath(text, base).map([](auto path) { return ConfigValue{.path = path}; });
    case ValueKind::kGdb:
      return ParseGdb(text, base).map([](auto spec) { return ConfigValue{.gdb = spec}; });
    case ValueKind::kConsole:
      return ParseConsole(text, base).map([](auto spec) { return ConfigValue{.console = spec}; });
    case ValueKind::kMac:
      return ParseMac(text).map([](auto mac) { return ConfigValue{.mac = mac}; });
    case ValueKind::kForward:
      return ParseForward(text).map([](auto spec) { return ConfigValue{.forward = spec}; });
    case ValueKind::kIds:
      return ParseIds(text).map([](auto ids) { return ConfigValue{.ids = ids}; });
    case ValueKind::kModules:
    case ValueKind::kDisks:
    case ValueKind::kNets:
    case ValueKind::kShares:
    case ValueKind::kPorts:
      break;
  }
  return Wrong(fmt::format("'{}' is not a plain text", key.name), "it is a list",
               fmt::format("write {}", key.example));
}

Parsed<ConfigValue> ReadToml(const ConfigKey& key, const TomlValue& value,
                             const std::filesystem::path& base) {
  using Kind = TomlValue::Kind;
  if (key.kind == ValueKind::kInteger) {
    if (value.kind != Kind::kInteger) return tl::unexpected(WrongType(key, value));
    if (value.integer >= 0) return CheckInteger(key, static_cast<uint64_t>(value.integer));
    return Wrong(fmt::format("'{}' is {}", key.name, value.integer),
                 fmt::format("it must be from {} to {}", key.min, key.max),
                 fmt::format("write {}", key.min));
  }
  if (key.kind == ValueKind::kBoolean) {
    if (value.kind != Kind::kBoolean) return tl::unexpected(WrongType(key, value));
    return ConfigValue{.number = value.boolean};
  }
  if (value.kind != Kind::kString) return tl::unexpected(WrongType(key, value));
  return ReadText(key, value.text, base);
}

ValueError WrongType(const ConfigKey& key, const TomlValue& value) {
  const std::string_view word = key.name.substr(key.name.rfind('.') + 1);
  return {fmt::format("'{}' is {}", key.name, value.KindInWords()),
          fmt::format("it must be {}", DescribeKind(key)),
          fmt::format("write {} = {}", word, Guess(key, value))};
}

}  // namespace vmm
