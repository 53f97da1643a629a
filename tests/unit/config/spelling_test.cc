#include "vmm/config/spelling.h"

#include <catch2/catch.hpp>

#include "vmm/config/config_keys.h"

TEST_CASE("the edit distance counts letters put in, taken out, changed and swapped", "[config]") {
  CHECK(vmm::EditDistance("memory", "memory") == 0);
  CHECK(vmm::EditDistance("memry", "memory") == 1);
  CHECK(vmm::EditDistance("memmory", "memory") == 1);
  CHECK(vmm::EditDistance("memery", "memory") == 1);
  CHECK(vmm::EditDistance("memroy", "memory") == 1);
  CHECK(vmm::EditDistance("", "abc") == 3);
  CHECK(vmm::EditDistance("abc", "") == 3);
  CHECK(vmm::EditDistance("kernel", "initrd") == 6);
}

TEST_CASE("the nearest spelling is found only where one is near", "[config]") {
  constexpr std::string_view kWords[] = {"kernel", "initrd", "append", "cpus"};
  CHECK(vmm::NearestSpelling("kernle", kWords) == "kernel");
  CHECK(vmm::NearestSpelling("Kernel", kWords) == "kernel");
  CHECK(vmm::NearestSpelling("cpu", kWords) == "cpus");
  CHECK(vmm::NearestSpelling("frobnicate", kWords).empty());
  CHECK(vmm::NearestSpelling("", kWords).empty());
  CHECK(vmm::NearestSpelling(std::string(100'000, 'k'), kWords).empty());
}

TEST_CASE("a key is recognised by the name that other programs give it", "[config]") {
  const auto nearest = [](std::string_view name) {
    const vmm::ConfigKey* key = vmm::NearestConfigKey(name);
    return key == nullptr ? std::string_view() : key->name;
  };
  CHECK(nearest("ram") == "memory");
  CHECK(nearest("smp") == "cpus");
  CHECK(nearest("cmdline") == "append");
  CHECK(nearest("initramfs") == "initrd");
  CHECK(nearest("wall_timeout") == "limits.wall");
  CHECK(nearest("limits.memory") == "memory");
  CHECK(nearest("seriall0") == "console.serial0");
  CHECK(nearest("zzzzzz").empty());
}
