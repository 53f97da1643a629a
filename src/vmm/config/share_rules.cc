#include "vmm/config/share_rules.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace vmm {
namespace {

bool Overlap(uint32_t one, uint32_t one_count, uint32_t other, uint32_t other_count) {
  return one < uint64_t{other} + other_count && other < uint64_t{one} + one_count;
}

// An id of either side has one meaning on the other.
void CheckIds(const std::vector<IdRange>& ranges, std::string_view key, const Place& place,
              ConfigProblems& problems) {
  if (ranges.size() > IdMap::kMaxRanges) {
    problems.Add(place, {fmt::format("{} has {} ranges", key, ranges.size()),
                         fmt::format("the most is {}", IdMap::kMaxRanges), "write fewer"});
    return;
  }
  for (size_t i = 0; i < ranges.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const IdRange &one = ranges[i], &other = ranges[j];
      if (!Overlap(one.guest, one.count, other.guest, other.count) &&
          !Overlap(one.host, one.count, other.host, other.count)) {
        continue;
      }
      problems.Add(place, {fmt::format("{} \"{}:{}:{}\" and \"{}:{}:{}\" overlap", key, other.guest,
                                       other.host, other.count, one.guest, one.host, one.count),
                           "an id would have two meanings", "change one of them"});
    }
  }
}

}  // namespace

void CheckShares(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  if (config.shares.empty()) return;
  if (config.deterministic) {
    problems.Add(reader.PlaceOf("share"),
                 {"share does not go with deterministic = true",
                  "what a file holds and when is up to the host", "remove one of the two"});
  }
  for (size_t i = 0; i < config.shares.size(); ++i) {
    const Place& place = reader.SharePlaces()[i];
    const ShareSpec& share = config.shares[i];
    CheckIds(share.users, "users", place, problems);
    CheckIds(share.groups, "groups", place, problems);
    for (size_t j = 0; j < i; ++j) {
      if (share.tag != config.shares[j].tag) continue;
      problems.Add(place, {fmt::format("two shared directories have the tag \"{}\"", share.tag),
                           "the guest mounts them by it", "write another tag"});
    }
  }
}

void CheckShareFiles(const Config& config, const ConfigReader& reader, ConfigProblems& problems) {
  for (size_t i = 0; i < config.shares.size(); ++i) {
    const Place& place = reader.SharePlaces()[i];
    const std::string name = config.shares[i].path.string();
    struct stat status{};
    if (stat(name.c_str(), &status) != 0) {
      const int error = errno;
      const bool missing = error == ENOENT || error == ENOTDIR;
      problems.Add(place,
                   {fmt::format("the shared directory {} {}", name,
                                missing ? "does not exist" : "can't be reached"),
                    std::strerror(error),
                    missing ? "correct the path, or make it" : "allow it, or name another"},
                   missing ? ExitCode::kFileMissing : ExitCode::kNoPermission);
    } else if (!S_ISDIR(status.st_mode)) {
      problems.Add(place,
                   {fmt::format("{} is no directory", name), "only directories are shared",
                    "name the directory that it is in"},
                   ExitCode::kFileMissing);
    } else if (access(name.c_str(), R_OK | X_OK) != 0) {
      problems.Add(place,
                   {fmt::format("the shared directory {} can't be read", name),
                    std::strerror(errno), "allow it, or name another"},
                   ExitCode::kNoPermission);
    }
  }
}

}  // namespace vmm
