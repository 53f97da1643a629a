#include "vmm/machine/nets.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <utility>

#include "vmm/core/base/log.h"
#include "vmm/core/net/pcap_backend.h"
#include "vmm/core/net/stream_backend.h"
#include "vmm/core/net/tap_backend.h"

namespace vmm {
namespace {

// [FNV] 1a, 64 bits
uint64_t Hash(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  return hash;
}

Result<UniqueFd> ConnectTo(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string& text = path.native();
  if (text.size() >= sizeof address.sun_path) {
    return Fail(
        ExitCode::kConfigInvalid,
        fmt::format("the path {} has {} bytes, a socket's may have {}; fix: write a shorter one",
                    text, text.size(), sizeof address.sun_path - 1));
  }
  text.copy(address.sun_path, text.size());
  // Else it would wait for a program that is stuck, in which no signal reaches us.
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return FailErrno(ExitCode::kOsError, "can't make a socket", errno);
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    auto failed =
        FailErrno(ExitCode::kUnavailable, fmt::format("can't connect to {}", text), error);
    failed.value().message += error == EAGAIN
                                  ? "; fix: start the program there again, it takes no connections"
                                  : fmt::format("; fix: start passt --socket {} first", text);
    return failed;
  }
  return socket;
}

// Our helper takes what a guest left to segment as one frame, and is as trustworthy as the host.
constexpr NetOffloads kNatTakes{.any_size = true};

}  // namespace

NetSpec::Mac Nets::MacFor(const Config& config, size_t index) {
  std::error_code ignored;
  const std::filesystem::path file =
      config.file.empty() ? config.file : std::filesystem::weakly_canonical(config.file, ignored);
  const uint64_t hash =
      Hash(fmt::format("{}\n{}", file.empty() ? config.name : file.string(), index));
  NetSpec::Mac mac{0x52};  // locally administered, for one card
  for (size_t i = 1; i < mac.size(); ++i) mac[i] = static_cast<uint8_t>(hash >> (8 * i));
  return mac;
}

Result<std::unique_ptr<NetBackend>> Nets::Connect(const NetSpec& spec, const Config& config,
                                                  Entry& entry, const std::string& name) {
  switch (spec.mode) {
    case NetMode::kTap:
      return spec.fd ? TapBackend::Adopt(UniqueFd(*spec.fd)) : TapBackend::Open(spec.tap);
    case NetMode::kPasst:
      return ConnectTo(spec.path).map([](UniqueFd socket) -> std::unique_ptr<NetBackend> {
        return std::make_unique<StreamBackend>(std::move(socket), NetOffloads{}, false);
      });
    case NetMode::kUser:
      break;
  }
  auto started = NatProcess::Start(spec, config.name, name);
  if (!started) return tl::unexpected(std::move(started.error()));
  entry.process = std::move(*started);
  return std::make_unique<StreamBackend>(entry.process->TakeSocket(), kNatTakes, true);
}

Result<std::unique_ptr<Nets>> Nets::Open(const Config& config) {
  auto nets = std::make_unique<Nets>();
  for (NetSpec spec : config.nets) {
    const size_t index = nets->entries_.size();
    if (!spec.mac) spec.mac = MacFor(config, index);
    const std::string name = fmt::format("net{}", index);
    Entry entry;
    auto backend = nets->Connect(spec, config, entry, name);
    if (backend && !spec.pcap.empty()) {
      backend = PcapBackend::Create(spec.pcap, std::move(*backend));
    }
    if (!backend) return tl::unexpected(std::move(backend.error()).WithContext(name));
    entry.backend = std::move(*backend);
    entry.board = {entry.backend.get(), *spec.mac, static_cast<uint16_t>(spec.mtu)};
    nets->entries_.push_back(std::move(entry));
  }
  return nets;
}

std::vector<BoardNet> Nets::ForBoard() const {
  std::vector<BoardNet> nets;
  for (const Entry& entry : entries_) nets.push_back(entry.board);
  return nets;
}

}  // namespace vmm
