// vmm disk create, resize.
#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "vmm/cli/disk_parts.h"
#include "vmm/config/value_parsers.h"
#include "vmm/core/block/qcow2_create.h"
#include "vmm/core/block/raw_image.h"

namespace vmm {
namespace {

tl::unexpected<Error> Usage(std::string message) {
  return Fail(ExitCode::kUsage, std::move(message));
}

Result<void> CreateRaw(const DiskOptions& options, uint64_t size) {
  if (!options.backing.empty()) {
    return Usage("a raw image has no backing file; fix: --format qcow2");
  }
  if (!options.cluster_size.empty())
    return Usage("a raw image has no clusters; fix: --format qcow2");
  auto file = HostFile::Create(options.file, options.force);
  if (!file) return tl::unexpected(file.error());
  RemoveUnlessDone remove(options.file);
  int error = (*file)->Resize(size);
  if (error == 0 && options.preallocation == "full") error = (*file)->Reserve(0, size);
  if (error == 0) error = (*file)->Sync();
  if (error != 0) {
    return FailErrno(ExitCode::kIoError, fmt::format("can't write {}", options.file.string()),
                     error);
  }
  remove.Done();
  return {};
}

struct Backing {
  std::unique_ptr<BlockImage> image;
  ImageFormat format = ImageFormat::kRaw;
};

Result<Backing> OpenBackingFor(const DiskOptions& options) {
  auto format = ParseFormat("--backing-format", options.backing_format);
  if (!format) return tl::unexpected(format.error());
  OpenImageOptions open;
  open.format = *format;
  auto opened = OpenImage(BackingPath(options.file, options.backing), open);
  if (!opened) return tl::unexpected(std::move(opened.error()).WithContext("the backing file"));
  return Backing{std::move(opened->image), opened->format};
}

// Of --preallocate; nothing else can go wrong after the image was made.
Result<void> Preallocate(Qcow2Image& image, const DiskOptions& options) {
  if (options.preallocation == "off") return {};
  ProgressBar bar("preallocating", options.quiet);
  const int error = image.Preallocate(options.preallocation == "full",
                                      [&](uint64_t done, uint64_t all) { bar.Show(done, all); });
  return error == 0 ? Result<void>() : ImageFailed(image, "can't preallocate", error);
}

}  // namespace

RemoveUnlessDone::~RemoveUnlessDone() {
  std::error_code ignored;
  if (!path_.empty() && std::filesystem::is_regular_file(path_, ignored)) {
    std::filesystem::remove(path_, ignored);
  }
}

Result<uint64_t> ParseDiskSize(const std::string& text) {
  const bool is_number = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  const auto wrong = [&](const std::string& fix) {
    return Usage(fmt::format("'{}' is no size of a disk; fix: {}", text, fix));
  };
  uint64_t size = 0;
  if (is_number) {
    const auto parsed = ParseInteger(text);
    if (!parsed) return wrong("a smaller one");
    size = *parsed;
  } else if (text.ends_with('T')) {
    const auto parsed = ParseSize(text.substr(0, text.size() - 1) + "G");
    if (!parsed || *parsed > INT64_MAX / 1024) return wrong("write 2T, 10G, 512M, or bytes");
    size = *parsed * 1024;
  } else {
    const auto parsed = ParseSize(text);
    if (!parsed) return wrong("write 10G, 512M, or bytes");
    size = *parsed;
  }
  if (size % 512 != 0) return wrong(fmt::format("write {}", (size + 511) / 512 * 512));
  return size;
}

Result<std::optional<ImageFormat>> ParseFormat(const std::string& option, const std::string& text) {
  if (text.empty()) return std::optional<ImageFormat>();
  const auto format = ImageFormatOf(text);
  if (format) return format;
  return Usage(
      fmt::format("{}: '{}' is no format that vmm knows; fix: write raw or qcow2", option, text));
}

Result<Qcow2Header> HeaderFor(const DiskOptions& options, uint64_t size) {
  Qcow2Header header;
  header.size = size;
  if (!options.cluster_size.empty()) {
    const auto clusters = ParseDiskSize(options.cluster_size);
    if (!clusters || !std::has_single_bit(*clusters) || *clusters < 512 || *clusters > 2 * kMiB) {
      return Usage(
          fmt::format("--cluster-size: '{}' is no power of two from 512 to 2M; fix: write "
                      "64K",
                      options.cluster_size));
    }
    header.cluster_bits = static_cast<unsigned>(std::countr_zero(*clusters));
  }
  if (options.compression == "zstd") {
    header.compression = Qcow2Header::Compression::kZstd;
  } else if (options.compression != "zlib") {
    return Usage(fmt::format("--compression: '{}' is not known; fix: write zlib or zstd",
                             options.compression));
  }
  return header;
}

tl::unexpected<Error> ImageFailed(const BlockImage& image, const char* what, int error) {
  if (const std::string problem = image.problem(); error == EIO && !problem.empty()) {
    return Fail(ExitCode::kImageCorrupt, problem);
  }
  return FailErrno(ExitCode::kIoError, fmt::format("{}: {}", image.name(), what), error);
}

Result<std::unique_ptr<Qcow2Image>> MakeQcow2(const std::filesystem::path& path,
                                              const Qcow2Header& header, bool replace,
                                              std::unique_ptr<BlockImage> backing) {
  const uint64_t most = Qcow2Header::kMaxL1Bytes / 8 * header.l2_entries() * header.cluster_size();
  if (header.size > most) {
    return Usage(
        fmt::format("a disk with clusters of {} bytes has at most {}; fix: a larger "
                    "--cluster-size",
                    header.cluster_size(), FormatSize(most)));
  }
  auto file = HostFile::Create(path, replace);
  if (!file) return tl::unexpected(file.error());
  if (const int error = CreateQcow2(**file, header)) {
    return FailErrno(ExitCode::kIoError, fmt::format("can't write {}", path.string()), error);
  }
  auto made = Qcow2Image::ReadHeader(**file);
  if (!made) return tl::unexpected(made.error());
  return Qcow2Image::Open(std::move(*file), *made, std::move(backing), true);
}

Result<void> CreateDisk(const DiskOptions& options) {
  if (options.preallocation != "off" && options.preallocation != "metadata" &&
      options.preallocation != "full") {
    return Usage(fmt::format("--preallocate: '{}' is not known; fix: write off, metadata or full",
                             options.preallocation));
  }
  auto format = ParseFormat("--format", options.format);
  if (!format) return tl::unexpected(format.error());
  uint64_t size = 0;
  if (!options.size.empty()) {
    const auto parsed = ParseDiskSize(options.size);
    if (!parsed) return tl::unexpected(parsed.error());
    size = *parsed;
  } else if (options.backing.empty()) {
    return Usage(
        fmt::format("the size is missing; fix: vmm disk create {} 10G", options.file.string()));
  }
  if (*format == ImageFormat::kRaw) return CreateRaw(options, size);

  auto header = HeaderFor(options, size);
  if (!header) return tl::unexpected(header.error());
  Backing backing;
  if (!options.backing.empty()) {
    auto opened = OpenBackingFor(options);
    if (!opened) return tl::unexpected(opened.error());
    backing = std::move(*opened);
    if (options.size.empty()) header->size = backing.image->size();
    header->backing_file = options.backing;
    header->backing_format = Name(backing.format);
    if (options.backing.size() >
        std::min<uint64_t>(Qcow2Header::kMaxBackingName, header->cluster_size() - 160)) {
      return Usage("the name of the backing file is too long; fix: a shorter or relative one");
    }
    if (options.preallocation != "off") {
      return Usage("--preallocate would hide the backing file; fix: leave one of them out");
    }
  }
  auto image = MakeQcow2(options.file, *header, options.force, std::move(backing.image));
  if (!image) return tl::unexpected(image.error());
  RemoveUnlessDone remove(options.file);
  if (auto done = Preallocate(**image, options); !done) return done;
  remove.Done();
  return {};
}

Result<void> ResizeDisk(const DiskOptions& options) {
  auto format = ParseFormat("--source-format", options.source_format);
  if (!format) return tl::unexpected(format.error());
  const char sign = options.size.empty() ? '\0' : options.size[0];
  const bool is_relative = sign == '+' || sign == '-';
  const auto parsed = ParseDiskSize(is_relative ? options.size.substr(1) : options.size);
  if (!parsed) return tl::unexpected(parsed.error());
  OpenImageOptions open;
  open.format = *format;
  open.writable = true;
  auto opened = OpenImage(options.file, open);
  if (!opened) return tl::unexpected(opened.error());
  const uint64_t old = opened->image->size();
  if (sign == '-' && *parsed > old) {
    return Usage(
        fmt::format("{} has only {} bytes; fix: take less away", options.file.string(), old));
  }
  const uint64_t size = sign == '+' ? old + *parsed : sign == '-' ? old - *parsed : *parsed;
  if (size < old && !options.shrink) {
    return Usage(
        fmt::format("what lies behind {} would be lost; fix: shrink the file systems in "
                    "it first, then add --shrink",
                    FormatSize(size)));
  }
  int error = 0;
  if (opened->format == ImageFormat::kRaw) {
    BlockFile& file = static_cast<RawImage&>(*opened->image).file();
    error = file.Resize(size);
    if (error == 0) error = file.Sync();
  } else {
    error = static_cast<Qcow2Image&>(*opened->image).Resize(size);
  }
  if (error == 0) error = opened->image->Flush();
  return error == 0 ? Result<void>() : ImageFailed(*opened->image, "can't resize it", error);
}

}  // namespace vmm
