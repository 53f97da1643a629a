#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <random>
#include <semaphore>
#include <thread>

#include "bt/translator/translation_queue.h"

namespace {

using bt::Block;
using bt::TranslationJob;
using bt::TranslationQueue;

void Ask(TranslationQueue& queue, const Block& block, uint64_t linear, bool plain = false) {
  TranslationJob& job = queue.next();
  job.linear = linear;
  job.plain = plain;
  job.count_bytes = 0;
  queue.Ask(block);
}

// What the tests' work does, so that it shows.
void Square(TranslationJob& job) {
  job.count_bytes += job.linear * job.linear;
}

bool Comes(const std::function<bool()>& what) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!what()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace

TEST_CASE("who asks for translations may make them himself", "[interp]") {
  TranslationQueue queue(&Square, false);
  CHECK_FALSE(queue.aside());
  CHECK_FALSE(queue.Help());
  CHECK(queue.done() == nullptr);
  const Block one, two;
  Ask(queue, one, 3);
  Ask(queue, two, 5, true);
  CHECK(queue.under_way() == 2);
  CHECK(queue.done() == nullptr);
  CHECK(queue.Has(one, false));
  CHECK_FALSE(queue.Has(one, true));
  CHECK(queue.Has(two, true));
  REQUIRE(queue.Help());
  REQUIRE(queue.done() != nullptr);
  CHECK(queue.done()->count_bytes == 9);
  CHECK(queue.Has(one, false));  // until it is taken
  queue.Take();
  CHECK_FALSE(queue.Has(one, false));
  CHECK(queue.done() == nullptr);
  REQUIRE(queue.Help());
  CHECK_FALSE(queue.Help());
  CHECK(queue.done()->count_bytes == 25);
  queue.Take();
  CHECK(queue.under_way() == 0);
}

TEST_CASE("no more translations are asked for than there is room for", "[interp]") {
  TranslationQueue queue(&Square, false);
  const Block block;
  for (unsigned i = 0; i < TranslationQueue::kJobs; ++i) {
    CHECK_FALSE(queue.full());
    Ask(queue, block, i);
  }
  CHECK(queue.full());
  REQUIRE(queue.Help());
  CHECK(queue.full());
  queue.Take();
  CHECK_FALSE(queue.full());
  queue.Drop();
  CHECK(queue.under_way() == 0);
  CHECK(queue.done() == nullptr);
  CHECK_FALSE(queue.Help());
  CHECK_FALSE(queue.Has(block, false));
}

TEST_CASE("a thread makes translations, each once and in order", "[interp][threads]") {
  TranslationQueue queue(&Square, true);
  CHECK(queue.aside());
  const Block block;
  std::mt19937 random(13);
  uint64_t asked = 0, taken = 0, wrong = 0;
  constexpr uint64_t kMany = 20'000;
  while (taken < kMany) {
    for (unsigned burst = random() % 8; burst != 0 && asked < kMany && !queue.full(); --burst)
      Ask(queue, block, asked++);
    if (random() % 16 == 0) queue.Help();
    if (random() % 4096 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
    // Fewer than are worth waking it stay until more come, or whoever asked has no more.
    if (asked == kMany) queue.Help();
    while (const TranslationJob* job = queue.done()) {
      wrong += job->linear != taken || job->count_bytes != taken * taken;
      ++taken;
      queue.Take();
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("the thread is woken for a few translations at once", "[interp][threads]") {
  TranslationQueue queue(&Square, true);
  const Block block;
  for (unsigned round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // it sleeps by now
    for (unsigned i = 0; i < 8; ++i) Ask(queue, block, i);
    for (unsigned i = 0; i < 8; ++i) {
      REQUIRE(Comes([&] { return queue.done() != nullptr; }));
      CHECK(queue.done()->count_bytes == i * i);
      queue.Take();
    }
  }
}

TEST_CASE("what is dropped is not made, and what is being made is waited for",
          "[interp][threads]") {
  std::counting_semaphore<64> begun{0}, may_end{0};
  std::atomic<unsigned> made{0};
  TranslationQueue queue(
      [&](TranslationJob&) {
        begun.release();
        may_end.acquire();
        ++made;
      },
      true);
  const Block block;
  for (unsigned i = 0; i < 6; ++i) Ask(queue, block, i);
  begun.acquire();
  CHECK_FALSE(queue.Help());  // it is at one
  std::thread ends([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(made == 0);
    may_end.release();
  });
  queue.Drop();
  ends.join();
  CHECK(made == 1);
  CHECK(queue.under_way() == 0);
  CHECK(queue.done() == nullptr);
}
