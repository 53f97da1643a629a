// Any bytes as what a guest asks of a shared directory, with changes by the host and suspensions in
// between. What is beside the directory must stay as it is, and all of it where it is read-only.
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "tests/support/choices.h"
#include "tests/support/fuse_client.h"
#include "vmm/core/base/check.h"
#include "vmm/core/share/share_server.h"

namespace {

using namespace vmm;
namespace fs = std::filesystem;

constexpr std::array<std::string_view, 16> kNames = {
    "a",     "d",      "b", "link",   "up",
    "..",    ".",      "",  "pipe",   "c/../../secret",
    "e",     "secret", "/", "user.a", "security.capability",
    "shared"};
constexpr size_t kMostBody = 4096;
constexpr int kMostSteps = 256;

// The directory, and what is beside it.
class Ground {
 public:
  Ground() {
    // What is far out in a file is refused, not written.
    const rlimit most{16 << 20, 16 << 20};
    setrlimit(RLIMIT_FSIZE, &most);
    std::signal(SIGXFSZ, SIG_IGN);
    std::error_code ignored;
    const fs::path place = fs::exists("/dev/shm", ignored) ? "/dev/shm" : fs::temp_directory_path();
    std::string name = (place / "vmm-fuzz-share-XXXXXX").string();
    CHECK(mkdtemp(name.data()) != nullptr);
    top_ = name;
    std::ofstream(top_ / "secret") << "outside";
    fs::create_directory(root());
    Fill();
    secret_ = StatOf(top_ / "secret");
    beside_ = StatOf(top_);
  }
  ~Ground() {
    std::error_code ignored;
    fs::remove_all(top_, ignored);
  }
  fs::path root() const { return top_ / "shared"; }

  void Refill() {
    for (const auto& entry : fs::directory_iterator(root())) {
      std::error_code ignored;
      fs::remove_all(entry.path(), ignored);
    }
    chmod(root().c_str(), 0755);
    Fill();
  }
  void CheckBeside() const {
    CHECK(Same(StatOf(top_ / "secret"), secret_));
    const struct stat now = StatOf(top_);
    CHECK(Same(now, beside_));
  }
  std::vector<struct stat> Inside() const {
    return {StatOf(root()), StatOf(root() / "a"), StatOf(root() / "d"), StatOf(root() / "d" / "b")};
  }
  static bool Same(const struct stat& one, const struct stat& other) {
    return one.st_ino == other.st_ino && one.st_size == other.st_size &&
           one.st_mode == other.st_mode && one.st_nlink == other.st_nlink &&
           one.st_ctim.tv_sec == other.st_ctim.tv_sec &&
           one.st_ctim.tv_nsec == other.st_ctim.tv_nsec &&
           one.st_mtim.tv_sec == other.st_mtim.tv_sec &&
           one.st_mtim.tv_nsec == other.st_mtim.tv_nsec;
  }

 private:
  void Fill() {
    std::ofstream(root() / "a") << "hello";
    fs::create_directory(root() / "d");
    std::ofstream(root() / "d" / "b") << "world";
    fs::create_symlink("../secret", root() / "link");
    fs::create_symlink("..", root() / "up");
    CHECK(mkfifo((root() / "pipe").c_str(), 0600) == 0);
  }
  static struct stat StatOf(const fs::path& path) {
    struct stat status{};
    CHECK(lstat(path.c_str(), &status) == 0);
    return status;
  }
  fs::path top_;
  struct stat secret_{}, beside_{};
};

class Session {
 public:
  Session(const Ground& ground, uint64_t how)
      : ground_(ground),
        read_only_((how & 1) != 0),
        server_(std::move(ShareServer::Open({.path = ground.root().string(),
                                             .read_only = read_only_,
                                             .setuid = (how & 2) != 0,
                                             .cache = static_cast<ShareCache>((how >> 2) % 3),
                                             .descriptors = (how & 16) != 0 ? size_t{8} : 512,
                                             .inodes = (how & 32) != 0 ? size_t{4} : 1 << 20}))
                    .value()),
        client_(*server_) {
    client_.Begin();
  }

  void Step(Choices& in) {
    const uint64_t kind = in.Take(1);
    if (kind < 0xE0) return Request(in, static_cast<uint32_t>(kind % 64));
    if (kind < 0xF0) return Rest(in);
    if (!read_only_) HostActs(in);
  }

 private:
  void Request(Choices& in, uint32_t opcode) {
    const uint64_t shape = in.Take(1);
    const uint64_t node = (shape & 0x80) != 0 ? in.Take(8) : shape & 7;
    std::vector<uint8_t> body;
    if ((shape & 0x40) != 0) {  // as it comes
      body.resize(std::min<size_t>(in.Take(2), kMostBody));
      for (size_t i = 0; i < std::min<size_t>(body.size(), 64); ++i) {
        body[i] = static_cast<uint8_t>(in.Take(1));
      }
    } else {  // a structure of small numbers, and names
      body.resize(8 * (in.Take(1) % 12));
      const uint64_t pokes = in.Take(1) % 8;
      for (uint64_t i = 0; i < pokes; ++i) {
        const uint64_t at = in.Take(1), value = in.Take(1);
        if (at < body.size()) body[at] = static_cast<uint8_t>(value);
      }
      for (uint64_t i = 0; i < (shape >> 3 & 3); ++i) {
        FuseClient::Append(body, kNames[in.Take(1) % kNames.size()]);
      }
    }
    const size_t room = sizeof(fuse_out_header) + (in.Take(1) % 4 == 0 ? in.Take(2) : 4096);
    CHECK(client_.CallBytes(opcode, node, body, room).error != -2);
  }

  // The machine is suspended and goes on, maybe from a file that somebody has changed.
  void Rest(Choices& in) {
    auto pieces = server_->Save();
    const uint64_t at = in.Take(2), value = in.Take(1);
    if (at < pieces[0].size()) pieces[0][at] ^= static_cast<uint8_t>(value);
    if (!server_->Load(pieces)) {
      client_.Begin();
    } else {
      CHECK(server_->Save() == pieces);
    }
  }

  void HostActs(Choices& in) {
    std::error_code ignored;
    const auto path = [&] {
      const std::array<const char*, 6> places = {"a", "d", "d/b", "b", "e", "d/e"};
      const bool has_d = fs::is_directory(fs::symlink_status(ground_.root() / "d", ignored));
      // Not through a link: the host would act outside.
      return ground_.root() / places[in.Take(1) % (has_d ? places.size() : 2)];
    };
    const fs::path one = path(), other = path();
    switch (in.Take(1) % 4) {
      case 0:
        fs::rename(one, other, ignored);
        break;
      case 1:
        fs::remove_all(one, ignored);
        fs::create_symlink("..", one, ignored);
        break;
      case 2:
        fs::remove_all(one, ignored);
        break;
      default:
        fs::create_directory(one, ignored);
        break;
    }
  }

  const Ground& ground_;
  const bool read_only_;
  std::unique_ptr<ShareServer> server_;
  FuseClient client_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Ground ground;
  Choices in(std::span(data, size));
  const uint64_t how = in.Take(1);
  const auto before = ground.Inside();
  {
    Session session(ground, how);
    for (int steps = 0; steps < kMostSteps && !in.empty(); ++steps) session.Step(in);
  }
  ground.CheckBeside();
  if ((how & 1) == 0) {
    ground.Refill();
    return 0;
  }
  const auto after = ground.Inside();
  for (size_t i = 0; i < before.size(); ++i) CHECK(Ground::Same(before[i], after[i]));
  return 0;
}
