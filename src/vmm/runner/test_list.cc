#include "vmm/runner/test_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>

#include "vmm/config/config_keys.h"
#include "vmm/config/problems.h"
#include "vmm/config/spelling.h"
#include "vmm/config/toml_document.h"
#include "vmm/config/value_parsers.h"
#include "vmm/config/value_rules.h"

namespace vmm {
namespace {

namespace fs = std::filesystem;
using Kind = TomlValue::Kind;

constexpr std::string_view kExample = R"([[test]] with name = "..." and command = "..." below)";
constexpr std::string_view kOwnKeys[] = {"name",    "command", "config",  "rootfs",
                                         "modules", "load",    "timeout", "idle_timeout"};

class Reader {
 public:
  Reader(const fs::path& file, ConfigProblems& problems)
      : base_(file.parent_path()), problems_(problems) {}

  std::vector<ListedTest> Read(const TomlValue& root) {
    for (const TomlMember& member : root.members) {
      if (member.key == "test" && member.value.kind == Kind::kArray) {
        for (const TomlValue& test : member.value.items) ReadTest(test);
      } else {
        Wrong(member.at, fmt::format("'{}' stands outside of a test", member.key),
              "a list of tests has nothing else", std::string(kExample));
      }
    }
    if (tests_.empty() && problems_.empty()) {
      Wrong({1, 1}, "there is no test", "a list has at least one", std::string(kExample));
    }
    return std::move(tests_);
  }

 private:
  void Wrong(SourcePosition at, std::string what, std::string why, std::string fix) {
    problems_.Add({at, {}}, {std::move(what), std::move(why), std::move(fix)});
  }

  void ReadTest(const TomlValue& value) {
    if (value.kind != Kind::kTable) {
      Wrong(value.at, "a test is no table", "it has a name and more", std::string(kExample));
      return;
    }
    ListedTest test;
    for (const TomlMember& member : value.members) ReadMember(test, "", member);
    if (test.name.empty()) {
      test.name = fmt::format("test {}", tests_.size() + 1);
    } else if (std::any_of(tests_.begin(), tests_.end(),
                           [&](const ListedTest& other) { return other.name == test.name; })) {
      Wrong(value.at, fmt::format("two tests are called '{}'", test.name),
            "reports tell them apart by their names", "give it another name");
    }
    tests_.push_back(std::move(test));
  }

  void ReadMember(ListedTest& test, const std::string& section, const TomlMember& member) {
    const std::string key = section + member.key;
    if (member.value.kind == Kind::kTable && section.empty()) {
      for (const TomlMember& inner : member.value.members) ReadMember(test, key + ".", inner);
    } else if (key == "name") {
      ReadName(test, member);
    } else if (key == "command") {
      ReadCommand(test, member.value);
    } else if (key == "config") {
      test.config = ReadPath(member.value);
    } else if (key == "rootfs") {
      test.rootfs = ReadPath(member.value);
    } else if (key == "modules" && member.value.kind == Kind::kString) {
      test.modules = ReadPath(member.value);
    } else if (key == "load") {
      test.load = ReadWords(member.value);
    } else if (key == "timeout") {
      test.timeout = ReadTime(member.value);
    } else if (key == "idle_timeout") {
      test.idle_timeout = ReadTime(member.value);
    } else {
      ReadSetting(test, key, member);
    }
  }

  void ReadName(ListedTest& test, const TomlMember& member) {
    test.name = ReadText(member.value);
    if (!test.name.empty() && IsOneLine(test.name)) return;
    Wrong(member.value.at, "the name is no line of text", "reports show it",
          R"(write name = "boots")");
  }

  std::string ReadText(const TomlValue& value) {
    if (value.kind == Kind::kString && value.text.find('\0') == std::string::npos) {
      return value.text;
    }
    Wrong(value.at, fmt::format("it is {}", value.KindInWords()), "a string belongs there",
          "write it in quotation marks");
    return "";
  }

  fs::path ReadPath(const TomlValue& value) {
    auto path = ParsePath(ReadText(value), base_);
    if (path) return *path;
    problems_.Add({value.at, {}}, std::move(path.error()));
    return {};
  }

  std::vector<std::string> ReadWords(const TomlValue& value) {
    std::vector<std::string> words;
    if (value.kind != Kind::kArray) {
      if (std::string word = ReadText(value); !word.empty()) words.push_back(std::move(word));
      return words;
    }
    for (const TomlValue& item : value.items) words.push_back(ReadText(item));
    return words;
  }

  void ReadCommand(ListedTest& test, const TomlValue& value) {
    test.command = ReadWords(value);
    if (test.command.empty() || test.command.front().empty()) {
      Wrong(value.at, "the command is empty", "there would be nothing to run",
            "write the command, or remove the key: then the guest's own end is the verdict");
    } else if (value.kind == Kind::kString) {
      test.command = {"sh", "-c", value.text};
    }
  }

  std::optional<std::chrono::milliseconds> ReadTime(const TomlValue& value) {
    auto time = ParseTime(ReadText(value));
    if (time) return *time;
    problems_.Add({value.at, {}}, std::move(time.error()));
    return {};
  }

  void ReadSetting(ListedTest& test, const std::string& name, const TomlMember& member) {
    const ConfigKey* key = FindConfigKey(name);
    if (key == nullptr) {
      const std::string_view own = NearestSpelling(name, kOwnKeys);
      const ConfigKey* near = NearestConfigKey(name);
      Wrong(member.at, fmt::format("unknown key '{}'", IsOneLine(name) ? name : "?"),
            "it would be ignored",
            !own.empty()      ? fmt::format("write '{}'", own)
            : near != nullptr ? fmt::format("write '{}'", near->name)
                              : "remove it; docs/ci.md lists a test's keys");
      return;
    }
    const TomlValue& value = member.value;
    if (value.kind != Kind::kArray) {
      AddSetting(test, *key, value);
      return;
    }
    if (value.items.empty()) test.settings.push_back({key->name, "", Origin(test, *key)});
    for (const TomlValue& item : value.items) AddSetting(test, *key, item);
  }

  static std::string Origin(const ListedTest& test, const ConfigKey& key) {
    return test.name.empty() ? std::string(key.name) : fmt::format("{}: {}", test.name, key.name);
  }

  // As the command line has it: text, which is checked there.
  void AddSetting(ListedTest& test, const ConfigKey& key, const TomlValue& value) {
    std::string text;
    switch (value.kind) {
      case Kind::kString:
        text = value.text;
        break;
      case Kind::kInteger:
        text = fmt::format("{}", value.integer);
        break;
      case Kind::kBoolean:
        text = value.boolean ? "true" : "false";
        break;
      default:
        Wrong(value.at, fmt::format("'{}' is {}", key.name, value.KindInWords()),
              "a list of tests takes strings, numbers, true and false, and lists of strings",
              fmt::format("write it into a vm.toml, and config = \"vm.toml\" here"));
        return;
    }
    const bool is_path = key.kind == ValueKind::kFile || key.kind == ValueKind::kDisks;
    if (is_path && !text.empty() && fs::path(text).is_relative()) text = base_ / text;
    test.settings.push_back({key.name, std::move(text), Origin(test, key)});
  }

  const fs::path base_;
  ConfigProblems& problems_;
  std::vector<ListedTest> tests_;
};

}  // namespace

Result<std::vector<ListedTest>> ParseTestList(std::string_view text, const fs::path& file) {
  ConfigProblems problems(file.string());
  auto root = ParseToml(text);
  if (!root) {
    problems.Add({root.error().at, {}}, ExplainTomlError(root.error().what));
    return tl::unexpected(problems.ToError());
  }
  auto tests = Reader(file, problems).Read(*root);
  if (!problems.empty()) return tl::unexpected(problems.ToError());
  return tests;
}

Result<std::vector<ListedTest>> ReadTestList(const fs::path& file) {
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)),
                         std::istreambuf_iterator<char>());
  if (!stream) {
    return FailErrno(ExitCode::kIoError, fmt::format("--list: can't read {}", file.string()),
                     errno != 0 ? errno : EIO);
  }
  return ParseTestList(text, file);
}

}  // namespace vmm
