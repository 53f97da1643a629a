// The modules of a kernel, as a folder of the host has them, and the order in which they load.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/core/base/result.h"

namespace vmm {

struct ModuleFile {
  std::filesystem::path path;
  bool needed = false;  // the run is for nothing without it
};

// What `--modules DIR` names: /lib/modules/VERSION or a copy of it, which modules.dep makes known;
// or a plain folder of modules, whose dependencies are read from the files.
class ModuleTree {
 public:
  static Result<ModuleTree> Open(const std::filesystem::path& folder);

  // Names as the kernel has them: "virtio_blk", whatever the file is called.
  bool Has(std::string_view name) const;
  bool IsBuiltIn(std::string_view name) const;  // as modules.builtin tells
  // False: just some modules, all of which somebody wants loaded.
  bool is_of_whole_kernel() const { return whole_; }
  std::vector<std::string> Names() const;

  // Puts the file behind all that it depends on into `order`; each is there once. Those that are
  // not there are passed over.
  void Add(std::string_view name, bool needed, std::vector<ModuleFile>& order) const;

 private:
  struct Module {
    std::filesystem::path path;
    std::vector<std::string> depends;  // names
  };
  Result<void> ReadDependencies(const std::filesystem::path& folder);
  Result<void> ReadFiles(const std::filesystem::path& folder);
  void AddOnce(std::string_view name, bool needed, std::vector<ModuleFile>& order,
               std::set<std::string, std::less<>>& seen) const;

  bool whole_ = false;
  std::map<std::string, Module, std::less<>> modules_;
  std::set<std::string, std::less<>> built_in_;
};

// "virtio_blk" of "kernel/drivers/block/virtio-blk.ko.xz"; empty: it is no module.
std::string ModuleName(const std::filesystem::path& file);

}  // namespace vmm
