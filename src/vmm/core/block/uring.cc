#include "vmm/core/block/uring.h"

#include <fmt/format.h>
#include <liburing.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "vmm/core/base/check.h"

namespace vmm {
namespace {

tl::unexpected<Error> Unavailable(const char* what, int error) {
  const char* hint = error == EPERM || error == ENOSYS
                         ? "; fix: allow io_uring in the container's seccomp filter, and "
                           "kernel.io_uring_disabled = 0"
                         : "";
  return Fail(ExitCode::kUnavailable, fmt::format("{}: {}{}", what, std::strerror(error), hint));
}

// liburing 2.3 forgot to export its functions for these two.
int Register(int ring, unsigned what, const void* rules, unsigned count) {
  return syscall(SYS_io_uring_register, ring, what, rules, count) == 0 ? 0 : errno;
}

class HostUring final : public Uring {
 public:
  explicit HostUring(Finished finished) : finished_(std::move(finished)) {}
  ~HostUring() override;

  Result<void> Init(unsigned depth, std::span<const int> fds);
  bool Prepare(BlockRequest& request) override;
  int Submit() override;

 private:
  void Run();

  const Finished finished_;
  std::vector<int> fds_;  // by their number in the ring
  io_uring ring_ = {};
  bool has_ring_ = false;
  std::thread thread_;
};

Result<void> HostUring::Init(unsigned depth, std::span<const int> fds) {
  fds_.assign(fds.begin(), fds.end());
  io_uring_params parameters = {};
  parameters.flags = IORING_SETUP_R_DISABLED;
  if (const int error = io_uring_queue_init_params(depth, &ring_, &parameters)) {
    return Unavailable("io_uring", -error);
  }
  has_ring_ = true;
  if (const int error =
          io_uring_register_files(&ring_, fds_.data(), static_cast<unsigned>(fds_.size()))) {
    return Unavailable("io_uring can't take the disk's files", -error);
  }
  io_uring_restriction rules[4] = {};
  rules[0].opcode = rules[1].opcode = rules[2].opcode = IORING_RESTRICTION_SQE_OP;
  rules[0].sqe_op = IORING_OP_READV;
  rules[1].sqe_op = IORING_OP_WRITEV;
  rules[2].sqe_op = IORING_OP_NOP;
  rules[3].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
  rules[3].sqe_flags = IOSQE_FIXED_FILE;
  if (const int error = Register(ring_.ring_fd, IORING_REGISTER_RESTRICTIONS, rules, 4)) {
    return Unavailable("io_uring can't be restricted", error);
  }
  if (const int error = Register(ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0)) {
    return Unavailable("io_uring can't be started", error);
  }
  thread_ = std::thread([this] { Run(); });
  return {};
}

HostUring::~HostUring() {
  if (thread_.joinable()) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    CHECK(entry != nullptr);
    io_uring_prep_nop(entry);
    entry->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(entry, nullptr);
    while (Submit() != 0) std::this_thread::yield();
    thread_.join();
  }
  if (has_ring_) io_uring_queue_exit(&ring_);
}

bool HostUring::Prepare(BlockRequest& request) {
  const auto file = std::ranges::find(fds_, request.place.fd);
  CHECK(file != fds_.end());
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (entry == nullptr) return false;
  const auto index = static_cast<int>(file - fds_.begin());
  const auto count = static_cast<unsigned>(request.buffers.size());
  if (request.kind == BlockRequest::Kind::kWrite) {
    io_uring_prep_writev(entry, index, request.buffers.data(), count, request.place.offset);
  } else {
    io_uring_prep_readv(entry, index, request.buffers.data(), count, request.place.offset);
  }
  entry->flags |= IOSQE_FIXED_FILE;
  io_uring_sqe_set_data(entry, &request);
  return true;
}

int HostUring::Submit() {
  const int submitted = io_uring_submit(&ring_);
  return submitted < 0 ? -submitted : 0;
}

void HostUring::Run() {
  pthread_setname_np(pthread_self(), "disk-ring");
  for (;;) {
    io_uring_cqe* entry = nullptr;
    if (io_uring_wait_cqe(&ring_, &entry) != 0) continue;  // EINTR
    auto* request = static_cast<BlockRequest*>(io_uring_cqe_get_data(entry));
    const int result = entry->res;
    io_uring_cqe_seen(&ring_, entry);
    if (request == nullptr) return;
    finished_(*request, result);
  }
}

}  // namespace

Result<std::unique_ptr<Uring>> Uring::Create(unsigned depth, std::span<const int> fds,
                                             Finished finished) {
  auto ring = std::make_unique<HostUring>(std::move(finished));
  if (auto made = ring->Init(depth, fds); !made) return tl::unexpected(made.error());
  return ring;
}

std::string WhyNoUring() {
  const int any_file = 0;
  auto ring = Uring::Create(4, {&any_file, 1}, [](BlockRequest&, int) {});
  return ring ? std::string() : ring.error().message;
}

}  // namespace vmm
