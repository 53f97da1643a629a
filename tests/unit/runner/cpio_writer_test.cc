#include "vmm/runner/cpio_writer.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <string>

#include "../support/temp_dir.h"

namespace vmm::test {
namespace {

namespace fs = std::filesystem;

// What a shell command prints when it reads the archive.
std::string Ask(const UniqueFd& archive, const std::string& command) {
  const std::string line = "(" + command + ") < /proc/" + std::to_string(getpid()) + "/fd/" +
                           std::to_string(archive.get()) + " 2>&1";
  FILE* pipe = popen(line.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  for (int c; (c = fgetc(pipe)) != EOF;) text.push_back(static_cast<char>(c));
  INFO(command << ": " << text);
  CHECK(pclose(pipe) == 0);
  return text;
}

TEST_CASE("cpio lists and unpacks what was written, with modes, links and devices", "[initramfs]") {
  TempDir host, target;
  host.Write("program", std::string(100'001, 'p'));
  chmod((host.path() / "program").c_str(), 0750);
  auto writer = CpioWriter::Create();
  REQUIRE(writer);
  REQUIRE(writer->AddText("etc/motd", "hello\n"));
  REQUIRE(writer->AddFile("usr/bin/program", host.path() / "program"));
  REQUIRE(writer->AddFile("usr/bin/again", host.path() / "program", 0644));
  REQUIRE(writer->AddLink("bin", "usr/bin"));
  REQUIRE(writer->AddDirectory("tmp", 01777));
  REQUIRE(writer->AddDevice("dev/console", 0600, 5, 1));
  auto archive = writer->Finish();
  REQUIRE(archive);

  CHECK(Ask(*archive, "cpio --list --quiet") ==
        "etc\netc/motd\nusr\nusr/bin\nusr/bin/program\nusr/bin/again\nbin\ntmp\ndev\n"
        "dev/console\n");
  const std::string list =
      Ask(*archive, "LC_ALL=C cpio --list --verbose --quiet --numeric-uid-gid");
  CHECK(list.find("crw-------   1 0        0          5,   1 ") != std::string::npos);
  CHECK(list.find("bin -> usr/bin\n") != std::string::npos);
  CHECK(list.find("drwxrwxrwt") != std::string::npos);
  Ask(*archive, "cd " + target.path().string() +
                    " && cpio --extract --quiet --no-preserve-owner 'etc*' 'usr*' bin tmp");
  CHECK(fs::file_size(target.path() / "usr/bin/program") == 100'001);
  CHECK(fs::file_size(target.path() / "bin/again") == 100'001);
  struct stat status{};
  REQUIRE(stat((target.path() / "usr/bin/program").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0750);
  struct stat original{};
  REQUIRE(stat((host.path() / "program").c_str(), &original) == 0);
  CHECK(status.st_size == original.st_size);
  REQUIRE(stat((target.path() / "usr/bin/again").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0644);
}

TEST_CASE("A folder of the host becomes the root, without its sockets and pipes", "[initramfs]") {
  TempDir host;
  fs::create_directories(host.path() / "a/b");
  host.Write("a/b/file", "text");
  fs::create_symlink("b/file", host.path() / "a/link");
  REQUIRE(mkfifo((host.path() / "pipe").c_str(), 0600) == 0);
  auto writer = CpioWriter::Create();
  REQUIRE(writer->AddTree(host.path()));
  REQUIRE(writer->AddText("a/new", "x"));
  auto archive = writer->Finish();
  REQUIRE(archive);
  const std::string names = Ask(*archive, "cpio --list --quiet | sort");
  CHECK(names == "a\na/b\na/b/file\na/link\na/new\n");
}

TEST_CASE("An archive that is there already stands in front, at a multiple of four",
          "[initramfs]") {
  TempDir host;
  auto first = CpioWriter::Create();
  REQUIRE(first->AddText("one", "1"));
  auto one = first->Finish();
  std::string bytes(lseek(one->get(), 0, SEEK_END), '\0');
  REQUIRE(pread(one->get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  bytes += std::string(3, '\0');  // an odd length
  host.Write("initrd", bytes);

  auto writer = CpioWriter::Create();
  REQUIRE(writer->AddArchive(host.path() / "initrd"));
  REQUIRE(writer->AddText("two", "2"));
  auto archive = writer->Finish();
  REQUIRE(archive);
  const size_t start = (bytes.size() + 3) / 4 * 4;
  char magic[6];
  REQUIRE(pread(archive->get(), magic, 6, static_cast<off_t>(start)) == 6);
  CHECK(std::string(magic, 6) == "070701");
  CHECK(Ask(*archive, "cpio --list --quiet") == "one\n");
  CHECK(Ask(*archive, "tail -c +" + std::to_string(start + 1) + " | cpio --list --quiet") ==
        "two\n");
}

TEST_CASE("What can't be put into an initramfs is told with its name", "[initramfs]") {
  TempDir host;
  auto writer = CpioWriter::Create();
  const auto missing = writer->AddFile("x", host.path() / "missing");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == ExitCode::kFileMissing);
  CHECK(missing.error().message.find("missing") != std::string::npos);
  CHECK_FALSE(writer->AddFile("x", host.path()));
  CHECK_FALSE(writer->AddTree(host.path() / "missing"));
  REQUIRE(mkfifo((host.path() / "pipe").c_str(), 0600) == 0);
  CHECK_FALSE(writer->AddFile("x", host.path() / "pipe"));  // and does not wait for a writer
}

}  // namespace
}  // namespace vmm::test
