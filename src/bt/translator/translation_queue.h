// Translations that were asked for and are not in use yet. One thread asks for them and takes them,
// in the same order; a thread of the queue's makes them meanwhile, or whoever asked does so
// himself.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "bt/translator/block_path.h"
#include "bt/translator/code_verifier.h"
#include "bt/translator/translation.h"

namespace bt {

struct TranslationJob {
  enum class Result : uint8_t { kGood, kImpossible, kNoRoom };

  // What is asked for.
  BlockPath path;
  bool plain = false;                 // without spans
  FlagHome wanted = FlagHome::kHost;  // where the flags are on the way that it is for
  uint64_t linear = 0;                // where it begins,
  bool user = false;                  // and whose that is, for people
  Translation translation;            // its block, number and second page; then the rest of it
  // What became of it.
  Result result = Result::kGood;
  CodeVerifier::Range hot = {}, cold = {};
  size_t count_bytes = 0;  // of hot code, that only count
};

class TranslationQueue {
 public:
  // That may be under way.
  static constexpr unsigned kJobs = 32;
  // Of a job that was asked for makes one that is done. Runs on either thread, never on both.
  using Work = std::function<void(TranslationJob&)>;

  // `aside`: with a thread of its own.
  TranslationQueue(Work work, bool aside);
  // Nothing is waited for but the job that is being done.
  ~TranslationQueue();
  TranslationQueue(const TranslationQueue&) = delete;
  TranslationQueue& operator=(const TranslationQueue&) = delete;

  // All of these on the thread that asks.
  bool aside() const { return thread_.joinable(); }
  unsigned under_way() const { return asked_.load(std::memory_order_relaxed) - taken_; }
  bool full() const { return under_way() == kJobs; }
  // To be filled in, unless it is full.
  TranslationJob& next() { return At(asked_.load(std::memory_order_relaxed)); }
  // Asks for next(), which is of `block`.
  void Ask(const Block& block);
  // Does the oldest one now. False: there is none that is not done, or the other thread is at it.
  bool Help();
  // The oldest, if it is done; else null. It stays until Take().
  TranslationJob* done() {
    return taken_ == done_.load(std::memory_order_acquire) ? nullptr : &At(taken_);
  }
  void Take() { ++taken_; }
  // Whether there is one of `block`, or one that it is a part of.
  bool Has(const Block& block, bool plain) const;
  // Forgets all, once nobody is at any.
  void Drop();

 private:
  void Run();
  bool Do();
  bool AnyLeft() const { return asked_.load() != done_.load(std::memory_order_relaxed); }
  bool LooksForMore();
  void Sleep();
  TranslationJob& At(uint32_t number) { return (*jobs_)[number % kJobs]; }

  const Work work_;
  const std::unique_ptr<std::array<TranslationJob, kJobs>> jobs_;
  // Numbers of jobs: up to where they were asked for, are done, were taken. What one thread writes
  // again and again is not in a cache line with what the other does.
  alignas(64) std::atomic<uint32_t> asked_{0};
  uint32_t taken_ = 0;
  std::array<const Block*, kJobs> blocks_{};  // of the jobs; who works leaves these alone
  alignas(64) std::atomic<uint32_t> done_{0};
  std::mutex working_;  // by whoever is at the job with number `done_`
  alignas(64) std::atomic<bool> is_asleep_{false};
  std::atomic<bool> is_dropping_{false}, is_ending_{false};
  std::atomic<uint32_t> calls_{0};  // of who sleeps
  std::thread thread_;
};

}  // namespace bt
