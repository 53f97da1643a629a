// A byte stream that may lose nothing, on a socket.
#include <fcntl.h>

#include "char_fakes.h"

namespace vmm::test {
namespace {

// The device: offers all of a text, a piece whenever there may be room.
class Sender final : public CharWatcher {
 public:
  void OnHostChange() override {
    const std::lock_guard lock(mutex_);
    ++changes_;
    changed_.notify_all();
  }
  // After `seen` changes there is another; their number.
  unsigned Await(unsigned seen) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return changes_ > seen; });
    return changes_;
  }
  unsigned changes() {
    const std::lock_guard lock(mutex_);
    return changes_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned changes_ = 0;
};

std::span<const uint8_t> BytesOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

struct Stream {
  Stream()
      : backend(*OpenCharBackend(
            {.kind = CharBackendSpec::Kind::kUnix, .path = path, .name = "port"}, *loop)) {
    backend->SetWatcher(&sender);
  }
  ~Stream() {
    loop.Stop();
    backend->SetWatcher(nullptr);
  }
  UniqueFd NextClient() {
    unsigned seen = sender.changes();
    const unsigned before = backend->reader();
    UniqueFd client = Connect(path);
    REQUIRE(client);
    while (backend->reader() == before || backend->reader() == 0) seen = sender.Await(seen);
    return client;
  }
  // Offers until nothing more is taken; how much was.
  size_t OfferAll(std::string_view text) {
    size_t done = 0;
    for (;;) {
      const size_t part = backend->Offer(BytesOf(text.substr(done)));
      done += part;
      if (part == 0 || done == text.size()) return done;
    }
  }

  const TempDirectory directory;
  const std::string path = directory / "port.sock";
  ConsoleLoop loop;
  Sender sender;
  std::unique_ptr<CharBackend> backend;
};

}  // namespace

TEST_CASE("Without a reader nothing is taken, and a reader gets only what comes from then on",
          "[console][threads]") {
  Stream s;
  CHECK(s.backend->reader() == 0);
  CHECK(s.backend->Offer(BytesOf("lost?")) == 0);
  const UniqueFd client = s.NextClient();
  CHECK(s.backend->Offer(BytesOf("hello")) == 5);
  CHECK(ReadFrom(client.get(), 5) == "hello");
}

TEST_CASE("A reader that stops is waited for, and gets every byte in the end",
          "[console][threads]") {
  Stream s;
  const UniqueFd client = s.NextClient();
  const std::string text = Lines(2'000'000);
  std::string got;
  for (size_t done = 0;;) {
    const unsigned seen = s.sender.changes();
    done += s.OfferAll(std::string_view(text).substr(done));
    if (got.empty()) REQUIRE(done < text.size());
    got += ReadFrom(client.get(), done - got.size());
    if (done == text.size()) break;
    REQUIRE(s.sender.Await(seen) > seen);
  }
  CHECK(got == text);
}

TEST_CASE("Each reader has a number of its own, and one that left counts until its input is taken",
          "[console][threads]") {
  Stream s;
  Guest guest(0);
  s.backend->SetReceiver(&guest);
  UniqueFd client = s.NextClient();
  const unsigned first = s.backend->reader();
  REQUIRE(write(client.get(), "bye", 3) == 3);
  client.Reset();
  // Nothing tells of the end while the input waits; the next client finds out.
  client = s.NextClient();
  CHECK(s.backend->reader() != first);
  client.Reset();
  CHECK(s.backend->reader() != 0);
  guest.MakeRoom(100);
  s.backend->ResumeInput();
  CHECK(guest.Wait(3) == "bye");
  for (unsigned seen = 0; s.backend->reader() != 0;) {
    const unsigned now = s.sender.Await(seen);
    REQUIRE(now > seen);
    seen = now;
  }
  s.backend->SetReceiver(nullptr);
}

}  // namespace vmm::test
