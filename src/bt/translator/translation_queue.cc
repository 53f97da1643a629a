#include "bt/translator/translation_queue.h"

#include <immintrin.h>
#include <pthread.h>

#include <chrono>
#include <utility>

#include "vmm/core/host/processors.h"

namespace bt {
namespace {

using std::chrono::steady_clock;

// To wake a thread costs more than a translation does. So it looks for more work for a while before
// it sleeps, and then for several at once.
constexpr auto kPatience = std::chrono::microseconds(50);
constexpr unsigned kWorthWaking = 4;

}  // namespace

TranslationQueue::TranslationQueue(Work work, bool aside)
    : work_(std::move(work)), jobs_(std::make_unique<std::array<TranslationJob, kJobs>>()) {
  if (aside) thread_ = std::thread([this] { Run(); });
}

TranslationQueue::~TranslationQueue() {
  if (!thread_.joinable()) return;
  is_ending_ = true;
  ++calls_;
  calls_.notify_one();
  thread_.join();
}

void TranslationQueue::Ask(const Block& block) {
  const uint32_t number = asked_.load(std::memory_order_relaxed), asked = number + 1;
  blocks_[number % kJobs] = &block;
  asked_ = asked;
  if (!is_asleep_ || asked - done_.load(std::memory_order_relaxed) < kWorthWaking) return;
  if (!is_asleep_.exchange(false)) return;
  ++calls_;
  calls_.notify_one();
}

bool TranslationQueue::Help() {
  const std::unique_lock lock(working_, std::try_to_lock);
  return lock.owns_lock() && Do();
}

bool TranslationQueue::Has(const Block& block, bool plain) const {
  for (uint32_t number = taken_; number != asked_.load(std::memory_order_relaxed); ++number) {
    const unsigned at = number % kJobs;
    const TranslationJob& job = (*jobs_)[at];
    if (job.plain != plain) continue;
    if (blocks_[at] == &block) return true;
    for (const BlockPath::Part& part : job.path.parts()) {
      if (part.block == &block) return true;
    }
  }
  return false;
}

void TranslationQueue::Drop() {
  is_dropping_ = true;
  const std::lock_guard lock(working_);
  taken_ = asked_.load(std::memory_order_relaxed);
  done_ = taken_;
  is_dropping_ = false;
}

// The caller has the lock.
bool TranslationQueue::Do() {
  const uint32_t number = done_.load(std::memory_order_relaxed);
  if (is_dropping_ || asked_.load(std::memory_order_acquire) == number) return false;
  work_(At(number));
  done_.store(number + 1, std::memory_order_release);
  return true;
}

void TranslationQueue::Run() {
  pthread_setname_np(pthread_self(), "translator");
  vmm::StandBehindOthers();
  while (!is_ending_) {
    bool did;
    {
      const std::lock_guard lock(working_);
      did = Do();
    }
    if (!did && !LooksForMore()) Sleep();
  }
}

// False: nobody has asked for long.
bool TranslationQueue::LooksForMore() {
  const auto end = steady_clock::now() + kPatience;
  do {
    for (unsigned i = 0; i < 16; ++i) {
      if (AnyLeft()) return true;
      _mm_pause();
    }
  } while (steady_clock::now() < end);
  return false;
}

void TranslationQueue::Sleep() {
  const uint32_t calls = calls_;
  is_asleep_ = true;
  if (asked_ - done_ < kWorthWaking && !is_ending_) calls_.wait(calls);
  is_asleep_ = false;
}

}  // namespace bt
