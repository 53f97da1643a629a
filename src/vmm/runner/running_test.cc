#include "vmm/runner/running_test.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "vmm/runner/outcome_codec.h"

namespace vmm {
namespace {

// Bytes, 0 at the end of the stream, -1 when there is nothing now.
ssize_t ReadSome(int fd, std::span<uint8_t> to) {
  for (;;) {
    const ssize_t got = read(fd, to.data(), to.size());
    if (got >= 0) return got;
    if (errno == EINTR) continue;
    return errno == EAGAIN ? -1 : 0;
  }
}

std::string_view AsText(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

Result<void> RunningTest::Start(const std::function<void()>& in_child) {
  result_.name = test_.name;
  evidence_.has_command = !test_.command.empty();
  started_ = Clock::now();
  auto process = GuestProcess::Start(test_, in_child);
  if (!process) return tl::unexpected(std::move(process.error()));
  process_ = std::move(*process);
  if (test_.config.limits.wall.count() > 0) SetDeadline(test_.config.limits.wall + kBeyondLimit);
  return {};
}

void RunningTest::Abandon() {
  for (UniqueFd* fd :
       {&process_->channel, &process_->console, &process_->messages, &process_->outcome}) {
    fd->Reset();
  }
}

void RunningTest::AddPolls(std::vector<pollfd>& polls) const {
  const auto add = [&](const UniqueFd& fd) {
    if (fd) polls.push_back({fd.get(), POLLIN, 0});
  };
  add(process_->outcome);
  add(process_->messages);
  if (!listener_.WantsMore()) return;
  add(process_->channel);
  add(process_->console);
}

void RunningTest::Hear() {
  HearOutcome();
  HearPipe(process_->messages, &result_.messages, TestListener::Stream::kMessages);
  HearPipe(process_->console, evidence_.has_command ? nullptr : &result_.out,
           evidence_.has_command ? TestListener::Stream::kConsole : TestListener::Stream::kOut);
  HearChannel();
}

void RunningTest::HearPipe(UniqueFd& fd, LastBytes* keep, TestListener::Stream stream) {
  std::array<uint8_t, 16 * 1024> buffer;
  while (fd && (stream == TestListener::Stream::kMessages || Takes())) {
    const ssize_t got = ReadSome(fd.get(), buffer);
    if (got == 0) fd.Reset();
    if (got <= 0) return;
    const std::string_view text = AsText(std::span(buffer).first(static_cast<size_t>(got)));
    if (keep != nullptr) keep->Add(text);
    listener_.OnOutput(stream, text);
  }
}

void RunningTest::HearOutcome() {
  std::array<uint8_t, 16 * 1024> buffer;
  while (process_->outcome) {
    const ssize_t got = ReadSome(process_->outcome.get(), buffer);
    if (got == 0) process_->outcome.Reset();
    if (got <= 0) return;
    outcome_.insert(outcome_.end(), buffer.begin(), buffer.begin() + got);
  }
}

void RunningTest::HearChannel() {
  std::array<uint8_t, 16 * 1024> buffer;
  while (process_->channel && Takes()) {
    const ssize_t got = ReadSome(process_->channel.get(), buffer);
    if (got == 0) process_->channel.Reset();
    if (got <= 0) return;
    reader_.Put(std::span(buffer).first(static_cast<size_t>(got)));
    while (const auto frame = reader_.Next()) OnFrame(*frame);
    if (!reader_.damage().empty()) Damage(reader_.damage());
  }
}

void RunningTest::OnFrame(const ChannelReader::Frame& frame) {
  if (!evidence_.damage.empty()) return;
  if (!evidence_.channel.Take(frame)) {
    Damage("the init in the guest does not speak as it should");
    return;
  }
  using test_channel::Type;
  if (frame.type == Type::kStdout) {
    result_.out.Add(frame.payload);
    listener_.OnOutput(TestListener::Stream::kOut, frame.payload);
  } else if (frame.type == Type::kStderr) {
    result_.err.Add(frame.payload);
    listener_.OnOutput(TestListener::Stream::kErr, frame.payload);
  }
  Acknowledge();
  if (evidence_.channel.over()) SetDeadline(kGoDown);
}

// It is one byte, and the guest sends no more before it has come: there is room for it.
void RunningTest::Acknowledge() {
  if (process_->channel) {
    send(process_->channel.get(), &test_channel::kAck, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

void RunningTest::Damage(std::string what) {
  if (!evidence_.damage.empty()) return;
  evidence_.damage = std::move(what);
  OnDeadline();
}

void RunningTest::OnDeadline() {
  process_->Signal(told_to_stop_ ? SIGKILL : SIGQUIT);
  if (told_to_stop_) {
    deadline_.reset();
  } else {
    SetDeadline(kStop);
  }
  told_to_stop_ = true;
}

void RunningTest::Interrupt(bool at_once) {
  if (!evidence_.channel.end) evidence_.interrupted = true;
  told_to_stop_ = told_to_stop_ || at_once;
  OnDeadline();
}

bool RunningTest::HasEnded() {
  int status = 0;
  if (!ended_ && process_->HasEnded(&status)) {
    ended_ = true;
    if (WIFSIGNALED(status)) evidence_.process_signal = WTERMSIG(status);
  }
  return ended_ && listener_.WantsMore();
}

TestResult RunningTest::TakeResult() {
  Hear();  // what was on its way
  evidence_.outcome = DecodeOutcome(outcome_);
  result_.end = Judge(evidence_);
  result_.outcome = evidence_.outcome;
  result_.kernel = evidence_.channel.kernel;
  result_.notes = evidence_.channel.notes;
  result_.duration = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - started_);
  return std::move(result_);
}

}  // namespace vmm
