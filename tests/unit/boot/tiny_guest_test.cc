// The guests of tests/guests as this program's own loader sees them.
#include <catch2/catch.hpp>
#include <filesystem>

#include "kernel_images.h"

namespace {

using namespace boot_test;
using Catch::Matchers::Contains;

// Next to this program: build/unit_tests, build/tests/guests/NAME. `ninja` builds all of them.
std::filesystem::path TinyGuest(const char* name) {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "tests/guests" / name;
}

TEST_CASE("The tiny guests are loaded as what they are") {
  const std::pair<const char*, vmm::BootFormat> guests[] = {
      {"hello-multiboot", vmm::BootFormat::kMultiboot}, {"hello-pvh", vmm::BootFormat::kPvh}};
  for (const auto& [name, format] : guests) {
    Boot boot(2 * vmm::kMiB);
    boot.request.kernel = TinyGuest(name);
    if (!std::filesystem::exists(boot.request.kernel)) {
      WARN("skipped: no " << boot.request.kernel << "; run ninja");
      continue;
    }
    auto entry = vmm::LoadKernel(boot.request, boot.memory, boot.cpu);
    if (!entry) FAIL(entry.error().message);
    CHECK(entry->format == format);
    CHECK(boot.cpu.rip >= 0x100000);
    CHECK(boot.cpu.rip < 0x101000);
    CHECK(boot.Peek<uint8_t>(boot.cpu.rip) == 0xbc);  // mov $stack_end, %esp
  }
}

}  // namespace
