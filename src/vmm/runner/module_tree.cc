#include "vmm/runner/module_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <sstream>

namespace vmm {
namespace {

namespace fs = std::filesystem;

Result<std::string> ReadText(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  if (stream) return text;
  return FailErrno(ExitCode::kIoError, fmt::format("can't read {}", file.string()),
                   errno != 0 ? errno : EIO);
}

// What a module says of itself is a row of texts "name=value" with a NUL behind each, in the
// section .modinfo.
std::vector<std::string> DependenciesOf(const std::string& module) {
  constexpr std::string_view kKey("\0depends=", 9);
  const size_t at = module.find(kKey);
  std::vector<std::string> names;
  if (at == std::string::npos) return names;
  std::istringstream list(std::string(module.c_str() + at + kKey.size()));
  for (std::string name; std::getline(list, name, ',');) {
    if (!name.empty()) names.push_back(ModuleName(name + ".ko"));
  }
  return names;
}

}  // namespace

std::string ModuleName(const fs::path& file) {
  std::string name = file.filename().string();
  const size_t end = name.rfind(".ko");
  if (end == std::string::npos || end == 0) return "";
  const std::string_view rest = std::string_view(name).substr(end + 3);
  if (!rest.empty() && rest != ".xz" && rest != ".zst" && rest != ".gz") return "";
  name.resize(end);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

Result<ModuleTree> ModuleTree::Open(const fs::path& folder) {
  ModuleTree tree;
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return FailErrno(ExitCode::kFileMissing,
                     fmt::format("--modules: {} is no directory that can be read", folder.string()),
                     error ? error.value() : ENOTDIR);
  }
  tree.whole_ = fs::exists(folder / "modules.dep", error);
  auto read = tree.whole_ ? tree.ReadDependencies(folder) : tree.ReadFiles(folder);
  if (!read) return tl::unexpected(std::move(read.error()).WithContext("--modules"));
  return tree;
}

// "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko"
Result<void> ModuleTree::ReadDependencies(const fs::path& folder) {
  auto text = ReadText(folder / "modules.dep");
  if (!text) return tl::unexpected(std::move(text.error()));
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const fs::path file = line.substr(0, colon);
    Module module{file.is_absolute() ? file : folder / file, {}};
    std::istringstream others(line.substr(colon + 1));
    for (std::string other; others >> other;) module.depends.push_back(ModuleName(other));
    modules_.insert_or_assign(ModuleName(file), std::move(module));
  }
  if (const auto builtin = ReadText(folder / "modules.builtin")) {
    std::istringstream files(*builtin);
    for (std::string file; std::getline(files, file);) built_in_.insert(ModuleName(file));
  }
  return {};
}

Result<void> ModuleTree::ReadFiles(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const fs::path& path = entry->path();
    const std::string name = ModuleName(path);
    if (name.empty()) continue;
    if (path.extension() != ".ko") {
      return Fail(ExitCode::kConfigInvalid,
                  fmt::format("{} is compressed, and without a modules.dep beside it nobody knows "
                              "what it depends on; fix: unpack it, or run depmod",
                              path.string()));
    }
    auto content = ReadText(path);
    if (!content) return tl::unexpected(std::move(content.error()));
    modules_.insert_or_assign(name, Module{path, DependenciesOf(*content)});
  }
  if (!error) return {};
  return FailErrno(ExitCode::kIoError, fmt::format("can't read {}", folder.string()),
                   error.value());
}

bool ModuleTree::Has(std::string_view name) const {
  return modules_.contains(name);
}

bool ModuleTree::IsBuiltIn(std::string_view name) const {
  return built_in_.contains(name);
}

std::vector<std::string> ModuleTree::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, module] : modules_) names.push_back(name);
  return names;
}

void ModuleTree::Add(std::string_view name, bool needed, std::vector<ModuleFile>& order) const {
  std::set<std::string, std::less<>> seen;
  AddOnce(name, needed, order, seen);
}

// `seen` ends a circle, which no kernel has but a file may.
void ModuleTree::AddOnce(std::string_view name, bool needed, std::vector<ModuleFile>& order,
                         std::set<std::string, std::less<>>& seen) const {
  const auto found = modules_.find(name);
  if (found == modules_.end() || !seen.emplace(name).second) return;
  const Module& module = found->second;
  for (const std::string& other : module.depends) AddOnce(other, needed, order, seen);
  const auto there = std::find_if(order.begin(), order.end(),
                                  [&](const ModuleFile& file) { return file.path == module.path; });
  if (there == order.end()) {
    order.push_back({module.path, needed});
  } else {
    there->needed |= needed;
  }
}

}  // namespace vmm
