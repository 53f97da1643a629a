#include "vmm/core/net/pcap_backend.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "vmm/core/base/log.h"

namespace vmm {
namespace {

// [PCAP] 4, 5: all numbers in the order of the host that writes.
struct FileHeader {
  uint32_t magic = 0xA1B23C4D;  // nanoseconds
  uint16_t major = 2, minor = 4;
  uint32_t reserved[2] = {};
  uint32_t longest = 0x40000;
  uint32_t link_type = 1;  // Ethernet
};
struct PacketHeader {
  uint32_t seconds, nanoseconds, captured, original;
};
static_assert(sizeof(FileHeader) == 24 && sizeof(PacketHeader) == 16);

constexpr size_t kEnough = 64 * 1024;  // bytes that are worth a call

template <class T>
void Append(std::vector<uint8_t>& out, const T& value) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof value);
}

}  // namespace

Result<std::unique_ptr<NetBackend>> PcapBackend::Create(const std::filesystem::path& path,
                                                        std::unique_ptr<NetBackend> wire) {
  // What passes may be secret.
  UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) {
    return FailErrno(ExitCode::kCannotCreate, fmt::format("can't make {}", path.string()), errno);
  }
  return std::unique_ptr<NetBackend>(new PcapBackend(std::move(file), path, std::move(wire)));
}

PcapBackend::PcapBackend(UniqueFd file, std::filesystem::path path,
                         std::unique_ptr<NetBackend> wire)
    : file_(std::move(file)), path_(std::move(path)), wire_(std::move(wire)) {
  Append(out_, FileHeader());
  WriteOut();
}

void PcapBackend::Note(std::span<const uint8_t> frame) {
  if (!file_) return;
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const auto length = static_cast<uint32_t>(frame.size());
  Append(out_, PacketHeader{static_cast<uint32_t>(now.tv_sec), static_cast<uint32_t>(now.tv_nsec),
                            length, length});
  out_.insert(out_.end(), frame.begin(), frame.end());
  if (out_.size() >= kEnough) WriteOut();
}

void PcapBackend::WriteOut() {
  size_t done = 0;
  while (file_ && done != out_.size()) {
    const ssize_t written = write(file_.get(), out_.data() + done, out_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      Log(LogLevel::kWarning, fmt::format("no more frames are written to {}: {}", path_.string(),
                                          std::strerror(errno)));
      file_.Reset();
      break;
    }
    done += static_cast<size_t>(written);
  }
  out_.clear();
}

bool PcapBackend::Send(const NetHeader& header, std::span<const uint8_t> frame) {
  if (!wire_->Send(header, frame)) return false;
  Note(frame);
  return true;
}

size_t PcapBackend::Receive(NetHeader& header, std::span<uint8_t> to) {
  const size_t length = wire_->Receive(header, to);
  if (length != 0) Note(to.first(length));
  return length;
}

}  // namespace vmm
