#include "vmm/machine/nat_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "vmm/core/base/log.h"
#include "vmm/core/protocol/frame_stream.h"
#include "vmm/machine/helper_program.h"

namespace vmm {
namespace {

constexpr const char* kProgram = "vmm-nat";
constexpr unsigned kUsualMtu = 1500;
constexpr size_t kLongestReport = 64 * 1024;

// [RFC 4291] appendix A: the address that a guest makes of the helper's prefix and its card's.
std::string AddressOf(const NetSpec::Mac& mac) {
  return fmt::format("fec0::{:02x}{:02x}:{:02x}ff:fe{:02x}:{:02x}{:02x}", mac[0] ^ 2, mac[1],
                     mac[2], mac[3], mac[4], mac[5]);
}

std::vector<std::string> WordsFor(const NetSpec& net, const std::string& hostname, int fd) {
  std::vector<std::string> words = {kProgram,
                                    "--fd",
                                    fmt::format("{}", fd),
                                    "--mtu",
                                    fmt::format("{}", net.mtu != 0 ? net.mtu : kUsualMtu),
                                    "--hostname",
                                    hostname};
  if (net.mac) words.insert(words.end(), {"--guest6", AddressOf(*net.mac)});
  if (net.restricted) words.emplace_back("--restrict");
  for (const ForwardSpec& forward : net.forwards) {
    words.emplace_back("--forward");
    const std::string address =
        forward.is_ipv6() ? fmt::format("[{}]", forward.address) : forward.address;
    words.push_back(fmt::format("{}:{}:{}:{}", forward.is_udp ? "udp" : "tcp", address,
                                forward.host_port, forward.guest_port));
  }
  return words;
}

bool ReadAll(int fd, uint8_t* to, size_t length) {
  while (length != 0) {
    const ssize_t got = recv(fd, to, length, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got;
    length -= static_cast<size_t>(got);
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<NatProcess>> NatProcess::Start(const NetSpec& net,
                                                      const std::string& hostname,
                                                      const std::string& name) {
  auto program = FindHelperProgram(kProgram, "write mode = \"tap\"");
  if (!program) return tl::unexpected(std::move(program.error()));
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return FailErrno(ExitCode::kOsError, "can't make a socket pair", errno);
  }
  UniqueFd ours(ends[0]), theirs(ends[1]);
  // Room for some frames of 64 KiB; the host may allow less.
  for (const int end : ends) {
    const int bytes = 1 << 20;
    setsockopt(end, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }
  constexpr int kItsFd = 3;
  std::vector<std::string> words = WordsFor(net, hostname, kItsFd);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return FailErrno(ExitCode::kOsError, "can't start another process", errno);
  if (pid == 0) {  // only calls of the kernel: other threads may have held locks
    const bool good =
        prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
        // dup2() onto itself would leave close-on-exec set.
        (theirs.get() == kItsFd ? fcntl(kItsFd, F_SETFD, 0) : dup2(theirs.get(), kItsFd)) >= 0;
    if (good) execv(program->c_str(), arguments.data());
    _exit(127);
  }
  theirs.Reset();
  std::unique_ptr<NatProcess> process(new NatProcess(std::move(ours), pid));
  auto report = process->AwaitReport();
  if (!report) return tl::unexpected(std::move(report.error()));
  size_t line = report->find('\n') + 1;
  for (const ForwardSpec& forward : net.forwards) {
    const size_t end = std::min(report->find('\n', line), report->size());
    const LogLevel level = forward.host_port == 0 ? LogLevel::kInfo : LogLevel::kDebug;
    Log(level, fmt::format("{}: {} leads to port {} of the guest", name,
                           report->substr(line, end - line), forward.guest_port));
    line = end + 1;
  }
  return process;
}

Result<std::string> NatProcess::AwaitReport() {
  std::array<uint8_t, FrameStream::kPrefix> prefix{};
  std::string text;
  if (ReadAll(socket_.get(), prefix.data(), prefix.size())) {
    const size_t length = FrameStream::LoadLength(prefix.data());
    text.resize(std::min(length, kLongestReport));
    if (!ReadAll(socket_.get(), reinterpret_cast<uint8_t*>(text.data()), text.size())) text.clear();
  }
  if (text.starts_with("ok\n")) return text;
  if (text.empty()) {
    return Fail(ExitCode::kUnavailable,
                fmt::format("{} ended before it served; fix: look at what it wrote", kProgram));
  }
  return Fail(ExitCode::kUnavailable,
              text + "; fix: name another port of the host in forward, or end who has this one");
}

NatProcess::~NatProcess() {
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace vmm
