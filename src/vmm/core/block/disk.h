// A disk as a device uses it: requests go in, and are done later.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "vmm/core/base/result.h"
#include "vmm/core/block/block_image.h"
#include "vmm/core/block/block_request.h"
#include "vmm/core/block/rate_limit.h"
#include "vmm/core/block/uring.h"
#include "vmm/core/block/work_pool.h"

namespace vmm {

enum class DiskCache : uint8_t {
  kWriteBack,     // a flush makes durable
  kWriteThrough,  // every write is durable before it is done
  kUnsafe,        // nothing is, before the disk is closed: for what may be lost
};

class Disk {
 public:
  struct Options {
    unsigned queues = 1;
    unsigned depth = 128;   // requests of a queue that are under way at once; more wait
    unsigned threads = 8;   // for what blocks
    bool use_uring = true;  // where the host allows it
    DiskCache cache = DiskCache::kWriteBack;
    RateLimits limits;
  };

  Disk(std::unique_ptr<BlockImage> image, const Options& options);
  // Waits for all requests, then flushes.
  ~Disk();

  // Never waits for the host's disk. One thread at a time a queue. Requests may be done in any
  // order, also before it returns; a flush covers what was done before it was submitted.
  void Submit(unsigned queue, std::span<BlockRequest* const> requests);
  void Submit(unsigned queue, BlockRequest& request) {
    BlockRequest* one = &request;
    Submit(queue, {&one, 1});
  }
  // Returns once every request is done; the limits hold none back. Nobody may submit meanwhile.
  void Drain();

  // "io_uring", or "threads" and why.
  std::string Describe() const;
  BlockImage& image() { return *image_; }

 private:
  struct Queue {
    std::mutex mutex;
    std::unique_ptr<Uring> ring;
    RequestList waiting;
    unsigned under_way = 0;
    bool has_prepared = false;  // for the ring
  };

  void MakeRings();
  void Admit(Queue& queue, std::span<BlockRequest* const> requests);
  // May it be one read or write of the host's?
  bool IsOneCall(const BlockRequest& request) const;
  bool TryNow(BlockRequest& request);
  bool TryRing(Queue& queue, BlockRequest& request);
  RequestList StartWaiting(Queue& queue);
  void Tell(BlockRequest& request, int error);
  void HandOut(Queue& queue);
  void Block(Queue& queue, BlockRequest& request);
  int Perform(BlockRequest& request);
  void RingFinished(Queue& queue, BlockRequest& request, int result);
  void Finish(Queue& queue, BlockRequest& request, int error);
  void Throttle();

  const std::unique_ptr<BlockImage> image_;
  const Options options_;
  std::atomic<bool> reads_now_{true};   // the host can say that a read would wait
  std::atomic<bool> writes_now_{true};  // the same of a write; file systems differ
  std::string why_no_ring_;
  std::vector<std::unique_ptr<Queue>> queues_;

  // Requests that the limits hold back.
  std::mutex throttle_mutex_;
  std::condition_variable throttle_;
  std::deque<std::pair<Queue*, BlockRequest*>> held_;
  unsigned drains_ = 0;  // that wait
  bool is_ending_ = false;
  std::thread throttle_thread_;

  std::mutex drain_mutex_;
  std::condition_variable drained_;
  uint64_t open_requests_ = 0;

  std::unique_ptr<WorkPool> pool_;
};

}  // namespace vmm
