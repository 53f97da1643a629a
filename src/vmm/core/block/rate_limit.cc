#include "vmm/core/block/rate_limit.h"

#include <algorithm>
#include <cmath>

namespace vmm {
namespace {

constexpr double kBurstSeconds = 0.1;

}  // namespace

TokenBucket::TokenBucket(uint64_t rate, Time now)
    : rate_(static_cast<double>(rate)),
      most_(std::max(1.0, rate_ * kBurstSeconds)),
      tokens_(most_),
      filled_(now) {}

void TokenBucket::Fill(Time now) {
  if (now <= filled_) return;
  const double seconds = std::chrono::duration<double>(now - filled_).count();
  tokens_ = std::min(most_, tokens_ + seconds * rate_);
  filled_ = now;
}

TokenBucket::Time TokenBucket::Wait(uint64_t cost, Time now) {
  if (rate_ == 0) return Time::zero();
  Fill(now);
  const double needed = std::min(static_cast<double>(cost), most_) - tokens_;
  // Rounding may not make it wait for a token's last millionth.
  if (needed <= 1e-6) return Time::zero();
  return Time(static_cast<int64_t>(std::ceil(needed / rate_ * 1e9)));
}

void TokenBucket::Take(uint64_t cost) {
  if (rate_ != 0) tokens_ -= static_cast<double>(cost);
}

RateLimiter::RateLimiter(RateLimits limits, TokenBucket::Time now)
    : requests_(limits.requests, now), bytes_(limits.bytes, now) {}

TokenBucket::Time RateLimiter::TryTake(uint64_t bytes, TokenBucket::Time now) {
  const auto wait = std::max(requests_.Wait(1, now), bytes_.Wait(bytes, now));
  if (wait != TokenBucket::Time::zero()) return wait;
  requests_.Take(1);
  bytes_.Take(bytes);
  return wait;
}

}  // namespace vmm
