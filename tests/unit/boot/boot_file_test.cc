#include "vmm/boot/boot_file.h"

#include <sys/fsuid.h>
#include <sys/stat.h>

#include <array>
#include <catch2/catch.hpp>
#include <filesystem>

#include "kernel_images.h"

namespace {

using namespace boot_test;
using Catch::Matchers::Contains;
using vmm::BootFile;
using vmm::ExitCode;

TEST_CASE("A boot file is read at any offset and never past its end") {
  const TempFile temp(Bytes{1, 2, 3, 4, 5});
  auto file = BootFile::Open("kernel", temp.path());
  REQUIRE(file);
  CHECK(file->size() == 5);
  CHECK(file->label() == "kernel " + temp.path());
  std::array<uint8_t, 3> out{};
  CHECK(file->Read(2, out));
  CHECK(out == std::array<uint8_t, 3>{3, 4, 5});
  auto past = file->Read(3, out);
  REQUIRE_FALSE(past);
  CHECK(past.error().code == ExitCode::kConfigInvalid);
  CHECK_THAT(past.error().message, Contains("truncated"));
  CHECK_FALSE(file->Read(~uint64_t{0}, out));
}

TEST_CASE("A file that shrinks while it is read gives an error, not a signal") {
  const TempFile temp(Bytes(8192, 7));
  auto file = BootFile::Open("kernel", temp.path());
  REQUIRE(file);
  REQUIRE(truncate(temp.path().c_str(), 4096) == 0);
  std::array<uint8_t, 8> out{};
  auto read = file->Read(4092, out);
  REQUIRE_FALSE(read);
  CHECK(read.error().code == ExitCode::kIoError);
  CHECK_THAT(read.error().message, Contains("shrank"));
}

TEST_CASE("Only regular files that are not empty are taken, and each refusal says why") {
  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("vmm-boot-file-" + std::to_string(getpid()));
  std::filesystem::create_directory(directory);
  const std::string fifo = directory / "fifo";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  const TempFile empty{Bytes{}};

  struct Case {
    std::string path;
    ExitCode code;
    const char* reason;
  };
  const Case cases[] = {
      {directory / "nothing", ExitCode::kFileMissing, "No such file"},
      {directory, ExitCode::kFileMissing, "is a directory"},
      {fifo, ExitCode::kFileMissing, "is a pipe"},
      {"/dev/zero", ExitCode::kFileMissing, "is a device"},
      {empty.path(), ExitCode::kConfigInvalid, "is empty"},
      {empty.path() + "/x", ExitCode::kFileMissing, "Not a directory"},
      {std::string(5000, 'x'), ExitCode::kFileMissing, "too long"},
  };
  for (const Case& test : cases) {
    INFO(test.path);
    auto file = BootFile::Open("initrd", test.path);
    REQUIRE_FALSE(file);
    CHECK(file.error().code == test.code);
    CHECK_THAT(file.error().message, Contains("initrd " + test.path) && Contains(test.reason));
  }
  std::filesystem::remove_all(directory);
}

TEST_CASE("A file that this user may not read is told as such") {
  const TempFile temp(Bytes{1});
  REQUIRE(chmod(temp.path().c_str(), 0) == 0);
  // Root opens anything; as far as files go, this thread is somebody else for a moment.
  constexpr uid_t kNobody = 65534;
  const int user = setfsuid(kNobody);
  auto file = BootFile::Open("kernel", temp.path());
  setfsuid(static_cast<uid_t>(user));
  REQUIRE_FALSE(file);
  CHECK(file.error().code == ExitCode::kNoPermission);
}

TEST_CASE("LoadKernel names the missing one of kernel, initrd and modules") {
  Boot boot;
  const TempFile kernel(BzImage());
  const auto message = [&] {
    return vmm::LoadKernel(boot.request, boot.memory, boot.cpu).error().message;
  };
  boot.request.kernel = "/nonexistent/kernel";
  CHECK_THAT(message(), Contains("kernel /nonexistent/kernel: No such file"));
  boot.request.kernel = kernel.path();
  boot.request.initrd = "/nonexistent/initrd";
  CHECK_THAT(message(), Contains("initrd /nonexistent/initrd: No such file"));
  boot.request.initrd.clear();
  boot.request.modules.push_back({"/nonexistent/module", ""});
  CHECK_THAT(message(), Contains("module 0 /nonexistent/module: No such file"));
  boot.request.modules.clear();
  CHECK(vmm::LoadKernel(boot.request, boot.memory, boot.cpu));
}

}  // namespace
