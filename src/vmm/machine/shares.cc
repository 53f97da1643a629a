#include "vmm/machine/shares.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <utility>

namespace vmm {
namespace {

// Linux's own guests use no more than one; each has a vector.
constexpr unsigned kMostQueues = 8;
// Of descriptors: what all else of the process may need, and what a directory has use for.
constexpr uint64_t kOthers = 256, kLeast = 64, kMost = 16384;

// How many descriptors each of `shares` directories may hold.
size_t DescriptorsFor(size_t shares) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kLeast;
  if (limit.rlim_cur < limit.rlim_max) {
    const rlimit raised{limit.rlim_max, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  const uint64_t free = limit.rlim_cur > kOthers ? limit.rlim_cur - kOthers : 0;
  return std::clamp(free / shares, kLeast, kMost);
}

ShareCache CacheOf(ShareSpec::Cache cache) {
  switch (cache) {
    case ShareSpec::Cache::kNone:
      return ShareCache::kNone;
    case ShareSpec::Cache::kShort:
      return ShareCache::kShort;
    case ShareSpec::Cache::kLong:
      return ShareCache::kLong;
  }
  return ShareCache::kNone;
}

}  // namespace

Result<std::unique_ptr<Shares>> Shares::Open(const Config& config) {
  auto shares = std::make_unique<Shares>();
  if (config.shares.empty()) return shares;
  const size_t descriptors = DescriptorsFor(config.shares.size());
  for (const ShareSpec& spec : config.shares) {
    auto server = ShareServer::Open({.path = spec.path.string(),
                                     .read_only = spec.mode == ShareSpec::Mode::kReadOnly,
                                     .setuid = spec.setuid,
                                     .cache = CacheOf(spec.cache),
                                     .users = IdMap(spec.users),
                                     .groups = IdMap(spec.groups),
                                     .descriptors = descriptors});
    if (!server) {
      return tl::unexpected(
          std::move(server.error()).WithContext(fmt::format("share{}", shares->entries_.size())));
    }
    shares->entries_.push_back(
        {std::move(*server), spec.tag, std::clamp(config.cpus, 1u, kMostQueues)});
  }
  return shares;
}

std::vector<BoardShare> Shares::ForBoard() const {
  std::vector<BoardShare> shares;
  for (const Entry& entry : entries_) {
    shares.push_back({entry.server.get(), entry.tag, entry.queues});
  }
  return shares;
}

}  // namespace vmm
