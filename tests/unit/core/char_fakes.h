// What the tests of consoles need: a loop in a thread, a guest that types and reads, readers.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <future>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "vmm/core/host/char_backends.h"
#include "vmm/core/host/event_loop.h"
#include "vmm/core/time/host_clock.h"

namespace vmm::test {

// A loop on a thread of its own until Stop().
class ConsoleLoop {
 public:
  ConsoleLoop() : loop_(*EventLoop::Create(clock_)) {
    thread_ = std::thread([this] { loop_->Run(); });
  }
  ~ConsoleLoop() { Stop(); }
  void Stop() {
    if (!thread_.joinable()) return;
    loop_->Stop();
    thread_.join();
  }
  EventLoop& operator*() { return *loop_; }

 private:
  HostClock clock_{{1'000'000'000, TscFrequency::Source::kSynthetic}};
  std::unique_ptr<EventLoop> loop_;
  std::thread thread_;
};

// The device: takes input up to its room.
class Guest final : public CharReceiver {
 public:
  explicit Guest(size_t room = SIZE_MAX) : room_(room) {}
  size_t OnInput(std::span<const uint8_t> data) override {
    std::lock_guard lock(mutex_);
    const size_t taken = std::min(data.size(), room_);
    got_.append(data.begin(), data.begin() + static_cast<ptrdiff_t>(taken));
    room_ -= taken;
    changed_.notify_all();
    return taken;
  }
  void MakeRoom(size_t room) {
    std::lock_guard lock(mutex_);
    room_ = room;
  }
  // What has come, once it is `size` bytes; less only after a long time.
  std::string Wait(size_t size) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return got_.size() >= size; });
    return got_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t room_;
  std::string got_;
};

inline void Print(CharBackend& console, std::string_view text) {
  console.Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

// Reads until `size` bytes are there, the end of the file or a long silence.
inline std::string ReadFrom(int fd, size_t size) {
  std::string got;
  std::array<char, 8192> chunk;
  while (got.size() < size) {
    pollfd state{.fd = fd, .events = POLLIN, .revents = 0};
    if (poll(&state, 1, 20'000) != 1) break;
    const ssize_t n = read(fd, chunk.data(), std::min(chunk.size(), size - got.size()));
    if (n <= 0) break;
    got.append(chunk.data(), static_cast<size_t>(n));
  }
  return got;
}

inline std::string ReadToEnd(int fd) {
  return ReadFrom(fd, SIZE_MAX);
}

// Numbered lines: what was lost, doubled or out of order shows.
inline std::string Lines(size_t bytes) {
  std::string text;
  for (unsigned n = 0; text.size() < bytes; ++n) text += "line " + std::to_string(n) + "\r\n";
  return text;
}

class TempDirectory {
 public:
  TempDirectory() {
    std::string name = std::filesystem::temp_directory_path() / "vmm-console-XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempDirectory() { std::filesystem::remove_all(path_); }
  std::string operator/(const char* name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Connects as a client of a Unix socket; invalid when refused.
inline UniqueFd Connect(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return {};
  return fd;
}

struct Pipe {
  Pipe() {
    int fds[2];
    REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    out = UniqueFd(fds[0]);
    in = UniqueFd(fds[1]);
  }
  UniqueFd out, in;  // read from `out` what was written to `in`
};

using Kind = CharBackendSpec::Kind;

}  // namespace vmm::test
