// vmm disk convert: the disk as the guest sees it, into a new image.
#include <fmt/format.h>

#include <algorithm>

#include "vmm/cli/disk_parts.h"
#include "vmm/core/base/types.h"
#include "vmm/core/block/raw_image.h"

namespace vmm {
namespace {

constexpr uint64_t kStep = 2 * kMiB;  // a multiple of every cluster size

struct Target {
  std::unique_ptr<BlockImage> image;
  Qcow2Image* qcow2 = nullptr;  // the same
};

Result<Target> MakeTarget(const DiskOptions& options, ImageFormat format, uint64_t size) {
  if (format == ImageFormat::kQcow2) {
    auto header = HeaderFor(options, size);
    if (!header) return tl::unexpected(header.error());
    auto image = MakeQcow2(options.target, *header, options.force, nullptr);
    if (!image) return tl::unexpected(image.error());
    Qcow2Image* qcow2 = image->get();
    return Target{std::move(*image), qcow2};
  }
  auto file = HostFile::Create(options.target, options.force);
  if (!file) return tl::unexpected(file.error());
  if (const int error = (*file)->Resize(size)) {
    return FailErrno(ExitCode::kIoError, fmt::format("can't write {}", options.target.string()),
                     error);
  }
  // A block device that is there already may hold anything.
  return Target{std::make_unique<RawImage>(std::move(*file), false, false), nullptr};
}

// Writes what is not zero of `bytes`, `grain` at a time; the target reads as zero elsewhere.
int Put(Target& target, uint64_t offset, std::span<uint8_t> bytes, uint64_t grain, bool compress) {
  for (uint64_t at = 0; at < bytes.size();) {
    const auto piece = [&](uint64_t from) {
      return bytes.subspan(from, std::min<uint64_t>(grain, bytes.size() - from));
    };
    if (IsZero(piece(at))) {
      at += grain;
      continue;
    }
    uint64_t end = at + grain;
    if (!compress) {
      while (end < bytes.size() && !IsZero(piece(end))) end += grain;
    }
    end = std::min<uint64_t>(end, bytes.size());
    int error;
    if (compress) {
      std::vector<uint8_t> cluster(bytes.begin() + static_cast<ptrdiff_t>(at),
                                   bytes.begin() + static_cast<ptrdiff_t>(end));
      cluster.resize(grain);
      error = target.qcow2->WriteCompressed(offset + at, cluster);
    } else {
      error = WriteAt(*target.image, offset + at, bytes.subspan(at, end - at));
    }
    if (error != 0) return error;
    at = end;
  }
  return 0;
}

Result<void> Copy(BlockImage& source, Target& target, const DiskOptions& options) {
  ProgressBar bar(options.target.filename().string(), options.quiet);
  std::vector<uint8_t> buffer(kStep);
  const uint64_t grain = target.qcow2 != nullptr ? target.qcow2->header().cluster_size() : 4 * kKiB;
  for (uint64_t at = 0; at < source.size();) {
    bar.Show(at, source.size());
    // Up to the next step, so that compressed clusters stay whole.
    const uint64_t length = std::min(kStep - at % kStep, source.size() - at);
    BlockImage::Extent extent;
    if (const int error = source.Map(at, source.size() - at, &extent)) {
      return ImageFailed(source, "can't read it", error);
    }
    if (extent.holder == BlockImage::Holder::kZero && extent.length >= length) {
      // Whole steps, or up to the end.
      const uint64_t end = at + extent.length;
      at = end == source.size() ? end : end / kStep * kStep;
      continue;
    }
    const std::span<uint8_t> bytes = std::span(buffer).first(length);
    if (const int error = ReadAt(source, at, bytes)) {
      return ImageFailed(source, fmt::format("can't read it at {}", at).c_str(), error);
    }
    if (const int error = Put(target, at, bytes, grain, options.compress)) {
      return ImageFailed(*target.image, "can't write it", error);
    }
    at += length;
  }
  const int error = target.image->Flush();
  return error == 0 ? Result<void>() : ImageFailed(*target.image, "can't write it", error);
}

}  // namespace

Result<void> ConvertDisk(const DiskOptions& options) {
  auto source_format = ParseFormat("--source-format", options.source_format);
  if (!source_format) return tl::unexpected(source_format.error());
  auto format = ParseFormat("--format", options.format);
  if (!format) return tl::unexpected(format.error());
  const ImageFormat made = format->value_or(ImageFormat::kQcow2);
  if (made == ImageFormat::kRaw && (options.compress || !options.cluster_size.empty())) {
    return Fail(ExitCode::kUsage, "a raw image has no clusters to compress; fix: --format qcow2");
  }
  OpenImageOptions open;
  open.format = *source_format;
  auto source = OpenImage(options.file, open);
  if (!source) return tl::unexpected(source.error());
  std::error_code ignored;
  if (std::filesystem::equivalent(options.file, options.target, ignored)) {
    return Fail(ExitCode::kUsage, fmt::format("{} can't be converted into itself; fix: another "
                                              "name for the target",
                                              options.file.string()));
  }
  if (std::filesystem::is_block_file(options.target, ignored)) {
    return Fail(ExitCode::kUsage,
                fmt::format("{} is a block device, which may hold anything; fix: convert to a "
                            "file, then copy that",
                            options.target.string()));
  }
  auto target = MakeTarget(options, made, source->image->size());
  if (!target) return tl::unexpected(target.error());
  RemoveUnlessDone remove(options.target);
  if (auto done = Copy(*source->image, *target, options); !done) return done;
  remove.Done();
  return {};
}

}  // namespace vmm
