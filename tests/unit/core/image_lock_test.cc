// Locks on images: who waits for whom, and when they end.
#include "vmm/core/block/image_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "vmm/core/block/host_file.h"

namespace vmm {
namespace {

struct Image {
  Image() {
    const int fd = mkstemp(name.data());
    REQUIRE(fd >= 0);
    close(fd);
  }
  ~Image() { unlink(name.c_str()); }
  auto Open() { return HostFile::Open(name, {.writable = true}); }

  std::string name = (std::filesystem::temp_directory_path() / "vmm-lock-XXXXXX").string();
};

TEST_CASE("the locks of an image end with it, whoever else has its descriptor", "[block]") {
  Image image;
  auto file = image.Open();
  REQUIRE(file);
  // As a ring of requests keeps it, which the kernel takes down after the program's end.
  const UniqueFd kept(fcntl((*file)->fd(), F_DUPFD_CLOEXEC, 0));
  file->reset();
  CHECK(TryToLockImage(UniqueFd(open(image.name.c_str(), O_RDWR)).get(), true, image.name));
}

TEST_CASE("an image is waited for while its last program is taken down", "[block]") {
  Image image;
  const UniqueFd other(open(image.name.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(LockImage(other.get(), true, image.name));
  std::thread end([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    UnlockImage(other.get());
  });
  CHECK(image.Open());
  end.join();
}

TEST_CASE("an image that somebody keeps is refused", "[block]") {
  Image image;
  const UniqueFd other(open(image.name.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(LockImage(other.get(), true, image.name));
  const auto refused = image.Open();
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ExitCode::kImageLocked);
  CHECK(refused.error().message.find("fix: end that program") != std::string::npos);
  // What was refused is not locked either.
  UnlockImage(other.get());
  CHECK(TryToLockImage(other.get(), true, image.name));
}

}  // namespace
}  // namespace vmm
