// A shared directory, with a file system device before it.
#include <linux/fuse.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/hostile/victim.h"
#include "virtio/virtio_fs_regs.h"
#include "vmm/core/base/check.h"
#include "vmm/core/share/share_server.h"
#include "vmm/machine/board_shares.h"

namespace hostile {
namespace {

namespace fs = std::filesystem;
using vmm::Choices;

template <class T>
void Append(std::vector<uint8_t>& out, const T& value) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof value);
}

// In memory, where the host has that: what a guest asks to be durable costs nothing then.
class Directory {
 public:
  Directory() {
    // What is far out in a file is refused, not written.
    const rlimit most{4 << 20, 4 << 20};
    setrlimit(RLIMIT_FSIZE, &most);
    std::signal(SIGXFSZ, SIG_IGN);
    std::error_code ignored;
    const fs::path place = fs::exists("/dev/shm", ignored) ? "/dev/shm" : fs::temp_directory_path();
    std::string name = (place / "vmm-hostile-XXXXXX").string();
    CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
    std::ofstream(path_ / "a") << "hello";
    fs::create_directory(path_ / "d");
    fs::create_symlink("..", path_ / "up");
  }
  ~Directory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

class ShareVictim final : public Victim {
 public:
  explicit ShareVictim(vmm::VirtioBoard& board)
      : server_(
            std::move(vmm::ShareServer::Open(
                          {.path = directory_.path().string(), .descriptors = 64, .inodes = 64}))
                .value()),
        slot_(0, {.server = server_.get(), .tag = "hostile", .queues = 2}, board.host(),
              board.socket()) {}

  vmm::BoardSlot& slot() override { return slot_; }

  Request Compose(unsigned, Choices& choices) override {
    static constexpr std::array<const char*, 8> kNames = {"a",  "d", "up", "b",
                                                          "..", "e", "",   "a/b"};
    std::vector<uint8_t> body;
    if (choices.OneIn(4)) {  // a beginning, for there is little before it
      fuse_init_in in{};
      in.major = 7;
      in.minor = 38;
      Append(body, in);
      return {Message(FUSE_INIT, 0, body), 4096};
    }
    body.resize(8 * choices.Below(12));
    for (uint64_t pokes = choices.Below(6); pokes != 0 && !body.empty(); --pokes) {
      body[choices.Below(body.size())] = static_cast<uint8_t>(choices.Take(1));
    }
    for (uint64_t names = choices.Below(3); names != 0; --names) {
      const char* name = choices.OneOf(kNames);
      body.insert(body.end(), name, name + std::strlen(name) + 1);
    }
    const uint64_t node = choices.OneIn(16) ? choices.Take(8) : choices.Below(8);
    return {Message(static_cast<uint32_t>(choices.Below(52)), node, body),
            static_cast<uint32_t>(choices.OneIn(8) ? choices.Below(40) : 4096)};
  }

  std::string IsAlive(GoodDriver& driver) override {
    if (!driver.Begin(virtio::kAllRingFeatures)) return "it does not begin";
    fuse_init_in begin{};
    begin.major = 7;
    begin.minor = 38;
    fuse_forget_in forget{};
    if (Ask(driver, virtio::fs::kFirstRequest, FUSE_INIT, 0, begin) != 0)
      return "it does not begin";
    for (unsigned queue = virtio::fs::kFirstRequest;
         queue < slot_.function().device().queue_count(); ++queue) {
      if (Ask(driver, queue, FUSE_GETATTR, FUSE_ROOT_ID, fuse_getattr_in{}) != 0) {
        return "it does not know its directory";
      }
    }
    // To which there is no answer.
    std::vector<uint8_t> body;
    Append(body, forget);
    const auto message = Message(FUSE_FORGET, 2, body);
    driver.Put(kData, message);
    const auto length = static_cast<uint32_t>(message.size());
    return driver.Ask(virtio::fs::kHighPriority, {{kData, length, false}}) == 0
               ? ""
               : "it does not forget";
  }

 private:
  static constexpr uint64_t kData = GoodDriver::kBuffers, kAnswer = kData + 0x1000;

  static std::vector<uint8_t> Message(uint32_t opcode, uint64_t node,
                                      const std::vector<uint8_t>& body) {
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof header + body.size());
    header.opcode = opcode;
    header.unique = 7;
    header.nodeid = node;
    std::vector<uint8_t> message;
    Append(message, header);
    message.insert(message.end(), body.begin(), body.end());
    return message;
  }
  // The error of the answer; 1: there is none.
  template <class T>
  static int Ask(GoodDriver& driver, unsigned queue, uint32_t opcode, uint64_t node,
                 const T& argument) {
    std::vector<uint8_t> body;
    Append(body, argument);
    const auto message = Message(opcode, node, body);
    driver.Put(kData, message);
    const auto written = driver.Ask(
        queue, {{kData, static_cast<uint32_t>(message.size()), false}, {kAnswer, 4096, true}});
    if (!written || *written < sizeof(fuse_out_header)) return 1;
    fuse_out_header out;
    std::memcpy(&out, driver.Take(kAnswer, sizeof out).data(), sizeof out);
    return out.error;
  }

  Directory directory_;
  std::unique_ptr<vmm::ShareServer> server_;
  vmm::ShareSlot slot_;
};

}  // namespace

std::unique_ptr<Victim> MakeShare(vmm::VirtioBoard& board) {
  return std::make_unique<ShareVictim>(board);
}

}  // namespace hostile
