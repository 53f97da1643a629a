// At most so much a second, by token buckets.
#pragma once

#include <chrono>
#include <cstdint>

namespace vmm {

// Zero: no limit.
struct RateLimits {
  uint64_t requests = 0;  // a second
  uint64_t bytes = 0;     // a second
  bool any() const { return requests != 0 || bytes != 0; }
};

// Fills with `rate` tokens a second, up to what a tenth of a second brings. One that costs more
// than that is let through when the bucket is full and leaves a debt, so none waits for ever.
// Not thread-safe; the time is the caller's.
class TokenBucket {
 public:
  using Time = std::chrono::nanoseconds;

  TokenBucket(uint64_t rate, Time now);
  // How long until `cost` may be taken; zero: now.
  Time Wait(uint64_t cost, Time now);
  void Take(uint64_t cost);

 private:
  void Fill(Time now);

  const double rate_;  // tokens a second; 0: no limit
  const double most_;
  double tokens_;
  Time filled_;
};

class RateLimiter {
 public:
  RateLimiter(RateLimits limits, TokenBucket::Time now);
  // Zero, and it is taken; or how long to wait before asking again.
  TokenBucket::Time TryTake(uint64_t bytes, TokenBucket::Time now);

 private:
  TokenBucket requests_, bytes_;
};

}  // namespace vmm
