#include "vmm/runner/module_tree.h"

#include <catch2/catch.hpp>

#include "../support/temp_dir.h"

namespace vmm::test {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> Order(const ModuleTree& tree, std::string_view name) {
  std::vector<ModuleFile> files;
  tree.Add(name, true, files);
  std::vector<std::string> names;
  for (const ModuleFile& file : files) names.push_back(file.path.filename().string());
  return names;
}

using Names = std::vector<std::string>;

TEST_CASE("A module's file gives its name as the kernel has it", "[modules]") {
  CHECK(ModuleName("kernel/drivers/virtio-pci.ko") == "virtio_pci");
  CHECK(ModuleName("ext4.ko.xz") == "ext4");
  CHECK(ModuleName("ext4.ko.zst") == "ext4");
  CHECK(ModuleName("ext4.ko.gz") == "ext4");
  CHECK(ModuleName("ext4.ko.bak").empty());
  CHECK(ModuleName(".ko").empty());
  CHECK(ModuleName("readme.txt").empty());
}

TEST_CASE("modules.dep gives the order in which modules load", "[modules]") {
  TempDir host;
  host.Write("modules.dep",
             "kernel/ext4.ko.xz: kernel/jbd2.ko.xz kernel/mbcache.ko.xz\n"
             "kernel/jbd2.ko.xz: kernel/crc.ko.xz\n"
             "kernel/mbcache.ko.xz:\n"
             "kernel/crc.ko.xz:\n"
             "no colon\n");
  host.Write("modules.builtin", "kernel/virtio-pci.ko\n");
  const auto tree = ModuleTree::Open(host.path());
  REQUIRE(tree);
  CHECK(tree->is_of_whole_kernel());
  CHECK(tree->IsBuiltIn("virtio_pci"));
  CHECK_FALSE(tree->IsBuiltIn("ext4"));
  CHECK(Order(*tree, "ext4") == Names{"crc.ko.xz", "jbd2.ko.xz", "mbcache.ko.xz", "ext4.ko.xz"});
  CHECK(Order(*tree, "nothing").empty());
  std::vector<ModuleFile> files;
  tree->Add("jbd2", false, files);
  tree->Add("ext4", true, files);
  REQUIRE(files.size() == 4);
  CHECK(files[0].path == host.path() / "kernel/crc.ko.xz");
  CHECK(files[0].needed);  // since somebody needs it now
}

TEST_CASE("Without modules.dep the files themselves tell what they depend on", "[modules]") {
  TempDir host;
  const std::string nul(1, '\0');
  host.Write("top.ko",
             "\x7f"
             "ELF" +
                 nul + "license=GPL" + nul + "depends=mid-dle,other" + nul);
  host.Write("mid_dle.ko", nul + "depends=" + nul);
  host.Write("other.ko", nul + "depends=mid_dle,not_here" + nul);
  host.Write("readme", "");
  const auto tree = ModuleTree::Open(host.path());
  REQUIRE(tree);
  CHECK_FALSE(tree->is_of_whole_kernel());
  CHECK(tree->Names() == Names{"mid_dle", "other", "top"});
  CHECK(Order(*tree, "top") == Names{"mid_dle.ko", "other.ko", "top.ko"});
}

TEST_CASE("Modules that depend on each other in a circle end", "[modules]") {
  TempDir host;
  host.Write("modules.dep", "a.ko: b.ko\nb.ko: a.ko\n");
  CHECK(Order(*ModuleTree::Open(host.path()), "a") == Names{"b.ko", "a.ko"});
}

TEST_CASE("What is wrong with a folder of modules is told", "[modules]") {
  TempDir host;
  CHECK(ModuleTree::Open(host.path() / "missing").error().code == ExitCode::kFileMissing);
  host.Write("x.ko.xz", "");
  const auto compressed = ModuleTree::Open(host.path());
  REQUIRE_FALSE(compressed);
  CHECK(compressed.error().message.find("depmod") != std::string::npos);
}

}  // namespace
}  // namespace vmm::test
