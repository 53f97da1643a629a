#include "vmm/machine/disks.h"

#include <fmt/format.h>

#include <utility>

#include "vmm/core/base/log.h"
#include "vmm/core/block/image_open.h"

namespace vmm {
namespace {

OpenImageOptions HowToOpen(const DiskSpec& spec) {
  OpenImageOptions options;
  if (spec.format == DiskFormat::kRaw) options.format = ImageFormat::kRaw;
  if (spec.format == DiskFormat::kQcow2) options.format = ImageFormat::kQcow2;
  options.writable = spec.mode == DiskMode::kReadWrite;
  options.throw_away = spec.mode == DiskMode::kSnapshot;
  options.direct = spec.direct;
  return options;
}

DiskCache CacheOf(const DiskSpec& spec) {
  // Of what is thrown away nothing need be durable.
  if (spec.mode == DiskMode::kSnapshot) return DiskCache::kUnsafe;
  switch (spec.cache) {
    case DiskSpec::Cache::kWriteBack:
      return DiskCache::kWriteBack;
    case DiskSpec::Cache::kWriteThrough:
      return DiskCache::kWriteThrough;
    case DiskSpec::Cache::kUnsafe:
      return DiskCache::kUnsafe;
  }
  return DiskCache::kWriteBack;
}

}  // namespace

Result<std::unique_ptr<Disks>> Disks::Open(const Config& config) {
  auto disks = std::make_unique<Disks>();
  for (const DiskSpec& spec : config.disks) {
    const std::string context = fmt::format("disk{}", disks->entries_.size());
    auto opened = OpenImage(spec.path, HowToOpen(spec));
    if (!opened) return tl::unexpected(std::move(opened.error()).WithContext(context));
    if (opened->image->size() == 0) {
      return Fail(ExitCode::kConfigInvalid,
                  fmt::format("{}: {} has no room for a single sector; fix: vmm disk resize {} 10G",
                              context, spec.path.string(), spec.path.string()));
    }
    Disk::Options options;
    options.queues = spec.queues != 0 ? spec.queues : config.cpus;
    options.cache = CacheOf(spec);
    options.limits = {spec.iops, spec.bandwidth};
    const bool read_only = opened->image->read_only();
    Entry entry{spec, opened->format, options.queues, read_only,
                std::make_unique<Disk>(std::move(opened->image), options)};
    Log(LogLevel::kDebug, fmt::format("{}: {} ({}), by {}", context, spec.path.string(),
                                      Name(opened->format), entry.disk->Describe()));
    disks->entries_.push_back(std::move(entry));
  }
  return disks;
}

std::vector<BoardDisk> Disks::ForBoard() const {
  std::vector<BoardDisk> disks;
  for (const Entry& entry : entries_) {
    disks.push_back({entry.disk.get(), entry.queues, entry.spec.serial, entry.read_only});
  }
  return disks;
}

std::vector<control::DiskStatus> Disks::TellStatus() const {
  std::vector<control::DiskStatus> all;
  for (const Entry& entry : entries_) {
    std::error_code ignored;
    control::DiskStatus status;
    status.name = fmt::format("disk{}", all.size());
    status.path = std::filesystem::absolute(entry.spec.path, ignored).string();
    status.format = Name(entry.format);
    status.mode = entry.spec.mode == DiskMode::kSnapshot ? "snapshot"
                  : entry.read_only                      ? "ro"
                                                         : "rw";
    status.size = entry.disk->image().size();
    status.queues = entry.queues;
    status.io = entry.disk->Describe();
    all.push_back(std::move(status));
  }
  return all;
}

std::string Disks::WhyNotToSuspend() const {
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].spec.mode == DiskMode::kSnapshot) {
      return fmt::format("what was written to disk{} (mode = \"snapshot\") is lost with this run",
                         i);
    }
  }
  return {};
}

}  // namespace vmm
