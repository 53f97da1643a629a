#include "vmm/core/block/disk.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

#include "vmm/core/base/check.h"
#include "vmm/core/base/log.h"

namespace vmm {
namespace {

using Kind = BlockRequest::Kind;

// Bytes of a transfer that may be copied at once: a few tens of microseconds.
constexpr uint64_t kMostNow = 256 * 1024;
// What readv(2) takes.
constexpr size_t kMostBuffers = 1024;

TokenBucket::Time Now() {
  return std::chrono::steady_clock::now().time_since_epoch();
}

}  // namespace

Disk::Disk(std::unique_ptr<BlockImage> image, const Options& options)
    : image_(std::move(image)),
      options_(options),
      pool_(std::make_unique<WorkPool>(options.threads)) {
  CHECK(options.queues != 0 && options.depth != 0 && options.threads != 0);
  for (unsigned i = 0; i < options.queues; ++i) queues_.push_back(std::make_unique<Queue>());
  if (options.use_uring) {
    MakeRings();
  } else {
    why_no_ring_ = "not wanted";
  }
  if (options_.limits.any()) throttle_thread_ = std::thread([this] { Throttle(); });
}

void Disk::MakeRings() {
  std::vector<int> fds;
  image_->CollectFds(&fds);
  if (fds.empty()) {
    why_no_ring_ = "the image allows no direct transfers";
    return;
  }
  for (const auto& queue : queues_) {
    // One more than the requests, for the end.
    auto ring = Uring::Create(
        options_.depth + 1, fds,
        [this, q = queue.get()](auto& r, int result) { RingFinished(*q, r, result); });
    if (!ring) {
      why_no_ring_ = ring.error().message;
      for (const auto& other : queues_) other->ring.reset();
      return;
    }
    queue->ring = std::move(*ring);
  }
}

Disk::~Disk() {
  Drain();
  if (throttle_thread_.joinable()) {
    {
      const std::lock_guard lock(throttle_mutex_);
      is_ending_ = true;
    }
    throttle_.notify_one();
    throttle_thread_.join();
  }
  pool_.reset();
  for (const auto& queue : queues_) queue->ring.reset();
  if (const int error = image_->Flush()) {
    Log(LogLevel::kError,
        fmt::format("{}: the last flush failed: {}", image_->name(), std::strerror(error)));
  }
}

std::string Disk::Describe() const {
  return why_no_ring_.empty() ? "io_uring" : fmt::format("threads ({})", why_no_ring_);
}

void Disk::Submit(unsigned queue, std::span<BlockRequest* const> requests) {
  CHECK(queue < queues_.size());
  {
    const std::lock_guard lock(drain_mutex_);
    open_requests_ += requests.size();
  }
  if (!options_.limits.any()) return Admit(*queues_[queue], requests);
  {
    const std::lock_guard lock(throttle_mutex_);
    for (BlockRequest* request : requests) held_.emplace_back(queues_[queue].get(), request);
  }
  throttle_.notify_one();
}

void Disk::Throttle() {
  pthread_setname_np(pthread_self(), "disk-limit");
  RateLimiter limiter(options_.limits, Now());
  std::unique_lock lock(throttle_mutex_);
  for (;;) {
    throttle_.wait(lock, [&] { return !held_.empty() || is_ending_; });
    if (held_.empty()) return;
    const auto [queue, request] = held_.front();
    const auto wait = limiter.TryTake(request->bytes(), Now());
    if (wait.count() != 0 && drains_ == 0) {
      throttle_.wait_for(lock, wait, [&] { return drains_ != 0; });
      continue;
    }
    held_.pop_front();
    lock.unlock();
    Admit(*queue, {&request, 1});
    lock.lock();
  }
}

void Disk::Admit(Queue& queue, std::span<BlockRequest* const> requests) {
  RequestList done;
  {
    const std::lock_guard lock(queue.mutex);
    for (BlockRequest* request : requests) queue.waiting.Push(*request);
    done = StartWaiting(queue);
  }
  while (!done.empty()) Tell(done.Pop(), 0);
}

// With the queue's mutex held. Gives those that are done already.
RequestList Disk::StartWaiting(Queue& queue) {
  RequestList done;
  while (!queue.waiting.empty() && queue.under_way < options_.depth) {
    BlockRequest& request = queue.waiting.Pop();
    request.place = {};
    if (TryNow(request)) {
      done.Push(request);
      continue;
    }
    ++queue.under_way;
    if (!TryRing(queue, request)) Block(queue, request);
  }
  HandOut(queue);
  return done;
}

// A write that can't be done now would have io_uring wake a thread of its own, and then the one
// that looks for results.
bool Disk::IsOneCall(const BlockRequest& request) const {
  const bool is_write = request.kind == Kind::kWrite;
  if (!is_write && request.kind != Kind::kRead) return false;
  if (is_write && (options_.cache == DiskCache::kWriteThrough ||
                   !writes_now_.load(std::memory_order_relaxed))) {
    return false;
  }
  return !request.buffers.empty() && request.buffers.size() <= kMostBuffers;
}

// What the host's page cache has, or takes, needs no other thread. What was done only in part is
// done again, by another way.
bool Disk::TryNow(BlockRequest& request) {
  const uint64_t bytes = request.bytes();
  if (!IsOneCall(request) || bytes > kMostNow) return false;
  const bool is_write = request.kind == Kind::kWrite;
  std::atomic<bool>& can = is_write ? writes_now_ : reads_now_;
  if (!can.load(std::memory_order_relaxed)) return false;
  BlockImage::Place place;
  if (!image_->Locate(request.offset, bytes, is_write, &place)) return false;
  const auto transfer = is_write ? pwritev2 : preadv2;
  const ssize_t result =
      transfer(place.fd, request.buffers.data(), static_cast<int>(request.buffers.size()),
               static_cast<off_t>(place.offset), RWF_NOWAIT);
  if (result < 0 && (errno == EOPNOTSUPP || errno == EINVAL)) can = false;
  place.owner->Release(place.ticket);
  return result >= 0 && static_cast<uint64_t>(result) == bytes;
}

bool Disk::TryRing(Queue& queue, BlockRequest& request) {
  if (!queue.ring || !IsOneCall(request)) return false;
  const bool is_write = request.kind == Kind::kWrite;
  BlockImage::Place place;
  if (!image_->Locate(request.offset, request.bytes(), is_write, &place)) return false;
  request.place = place;
  if (queue.ring->Prepare(request)) {
    queue.has_prepared = true;
    return true;
  }
  request.place = {};
  place.owner->Release(place.ticket);
  return false;
}

void Disk::HandOut(Queue& queue) {
  if (!queue.has_prepared) return;
  for (;;) {
    const int error = queue.ring->Submit();
    if (error == 0) break;
    CHECK(error == EAGAIN || error == EBUSY || error == EINTR || error == ENOMEM);
    std::this_thread::yield();
  }
  queue.has_prepared = false;
}

void Disk::Block(Queue& queue, BlockRequest& request) {
  pool_->Add([this, &queue, &request] { Finish(queue, request, Perform(request)); });
}

int Disk::Perform(BlockRequest& request) {
  int error = 0;
  switch (request.kind) {
    case Kind::kRead:
      return image_->Read(request.offset, request.buffers);
    case Kind::kFlush:
      return options_.cache == DiskCache::kUnsafe ? 0 : image_->Flush();
    case Kind::kWrite:
      error = image_->Write(request.offset, request.buffers);
      break;
    case Kind::kDiscard:
      error = image_->Discard(request.offset, request.length);
      break;
    case Kind::kWriteZeroes:
      error = image_->WriteZeroes(request.offset, request.length, request.unmap);
      break;
  }
  if (error == 0 && options_.cache == DiskCache::kWriteThrough) error = image_->Flush();
  return error;
}

void Disk::RingFinished(Queue& queue, BlockRequest& request, int result) {
  {
    const std::lock_guard lock(queue.mutex);  // as the one who prepared it had
    request.place.owner->Release(request.place.ticket);
    request.place = {};
  }
  const bool is_whole = result >= 0 && static_cast<uint64_t>(result) == request.bytes();
  const bool may_work = result >= 0 || result == -EAGAIN || result == -EINTR || result == -EINVAL ||
                        result == -EOPNOTSUPP;
  // The end of the file, or something that the ring can't do: the long way knows.
  if (!is_whole && may_work) return Block(queue, request);
  Finish(queue, request, is_whole ? 0 : -result);
}

void Disk::Finish(Queue& queue, BlockRequest& request, int error) {
  RequestList done;
  {
    const std::lock_guard lock(queue.mutex);
    --queue.under_way;
    done = StartWaiting(queue);
  }
  Tell(request, error);
  while (!done.empty()) Tell(done.Pop(), 0);
}

void Disk::Tell(BlockRequest& request, int error) {
  request.done(request, error);
  const std::lock_guard lock(drain_mutex_);
  if (--open_requests_ == 0) drained_.notify_all();
}

void Disk::Drain() {
  const auto hurry = [this](unsigned change) {
    const std::lock_guard lock(throttle_mutex_);
    drains_ += change;
    throttle_.notify_one();
  };
  hurry(1);
  {
    std::unique_lock lock(drain_mutex_);
    drained_.wait(lock, [&] { return open_requests_ == 0; });
  }
  hurry(-1u);
}

}  // namespace vmm
