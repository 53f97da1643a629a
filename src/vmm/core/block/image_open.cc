#include "vmm/core/block/image_open.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "vmm/core/base/log.h"
#include "vmm/core/block/qcow2_check.h"
#include "vmm/core/block/qcow2_create.h"
#include "vmm/core/block/qcow2_image.h"
#include "vmm/core/block/raw_image.h"

namespace vmm {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxChain = 64;

FileWrapper& Wrapper() {
  static FileWrapper wrapper;
  return wrapper;
}

std::unique_ptr<BlockFile> Wrap(std::unique_ptr<BlockFile> file, bool writable) {
  return writable && Wrapper() ? Wrapper()(std::move(file)) : std::move(file);
}

// Opens a chain from the top; the files above are known by then.
class ChainOpener {
 public:
  explicit ChainOpener(const OpenImageOptions& options) : options_(options) {}

  Result<OpenedImage> Open(const fs::path& path, std::optional<ImageFormat> format, bool writable);

 private:
  Result<std::unique_ptr<BlockImage>> OpenBacking(const fs::path& image, const Qcow2Header& header);

  const OpenImageOptions& options_;
  std::vector<const HostFile*> above_;
};

Result<OpenedImage> ChainOpener::Open(const fs::path& path, std::optional<ImageFormat> format,
                                      bool writable) {
  auto opened = HostFile::Open(path, {writable, options_.direct, options_.lock});
  if (!opened) return tl::unexpected(opened.error());
  std::unique_ptr<HostFile> file = std::move(*opened);
  if (std::ranges::any_of(above_, [&](const HostFile* f) { return f->IsSameFile(*file); })) {
    return Fail(ExitCode::kImageCorrupt,
                fmt::format("{} is its own backing file; fix: restore a backup", path.string()));
  }
  if (above_.size() == kMaxChain) {
    return Fail(ExitCode::kImageCorrupt,
                fmt::format("the chain of backing files is longer than {}", kMaxChain));
  }
  above_.push_back(file.get());
  const bool guessed = !format;
  if (guessed) {
    const Result<ImageFormat> found = DetectFormat(*file);
    if (!found) return tl::unexpected(found.error());
    format = *found;
  }
  if (*format == ImageFormat::kRaw) {
    return OpenedImage{
        std::make_unique<RawImage>(Wrap(std::move(file), writable), !writable, guessed),
        ImageFormat::kRaw};
  }
  auto header = Qcow2Image::ReadHeader(*file);
  if (!header) return tl::unexpected(header.error());
  if (writable && header->is_dirty() && !header->is_corrupt()) {
    Log(LogLevel::kWarning,
        fmt::format("{} was not closed: its refcounts are made anew", path.string()));
    if (auto repaired = RepairQcow2(*file); !repaired) return tl::unexpected(repaired.error());
    header = Qcow2Image::ReadHeader(*file);
    if (!header) return tl::unexpected(header.error());
  }
  std::unique_ptr<BlockImage> backing;
  if (!header->backing_file.empty()) {
    auto below = OpenBacking(path, *header);
    if (!below) return tl::unexpected(below.error());
    backing = std::move(*below);
  }
  auto image =
      Qcow2Image::Open(Wrap(std::move(file), writable), *header, std::move(backing), writable);
  if (!image) return tl::unexpected(image.error());
  return OpenedImage{std::move(*image), ImageFormat::kQcow2};
}

Result<std::unique_ptr<BlockImage>> ChainOpener::OpenBacking(const fs::path& image,
                                                             const Qcow2Header& header) {
  const std::string context = fmt::format("{}: its backing file", image.string());
  std::optional<ImageFormat> format;
  if (!header.backing_format.empty()) {
    format = ImageFormatOf(header.backing_format);
    if (!format) {
      return Fail(ExitCode::kUnavailable,
                  fmt::format("{} has the format '{}', which vmm does not know (known: raw, qcow2)",
                              context, header.backing_format));
    }
  }
  if (header.backing_file.starts_with("json:")) {
    return Fail(ExitCode::kUnavailable,
                fmt::format("{} is described by JSON, which vmm does not know; fix: qemu-img "
                            "rebase -u -b FILE {}",
                            context, image.string()));
  }
  auto below = Open(BackingPath(image, header.backing_file), format, false);
  if (!below) return tl::unexpected(std::move(below.error()).WithContext(context));
  return std::move(below->image);
}

fs::path TemporaryDirectory(const fs::path& wanted) {
  if (!wanted.empty()) return wanted;
  const char* variable = std::getenv("TMPDIR");
  return variable != nullptr && *variable != 0 ? variable : "/var/tmp";
}

}  // namespace

void OverrideImageFiles(FileWrapper wrapper) {
  Wrapper() = std::move(wrapper);
}

std::string_view Name(ImageFormat format) {
  return format == ImageFormat::kRaw ? "raw" : "qcow2";
}

std::optional<ImageFormat> ImageFormatOf(std::string_view name) {
  if (name == "raw") return ImageFormat::kRaw;
  if (name == "qcow2") return ImageFormat::kQcow2;
  return {};
}

Result<ImageFormat> DetectFormat(BlockFile& file) {
  std::vector<uint8_t> start(std::min<uint64_t>(file.size(), 512));
  if (const int error = ReadAt(file, 0, start)) {
    return FailErrno(ExitCode::kIoError, fmt::format("can't read {}", file.name()), error);
  }
  return Qcow2Header::IsQcow2(start) ? ImageFormat::kQcow2 : ImageFormat::kRaw;
}

fs::path BackingPath(const fs::path& image, const std::string& name) {
  const fs::path backing = name.starts_with("file:") ? name.substr(5) : name;
  return backing.is_absolute() ? backing : image.parent_path() / backing;
}

Result<OpenedImage> OpenImage(const fs::path& path, const OpenImageOptions& options) {
  auto opened =
      ChainOpener(options).Open(path, options.format, options.writable && !options.throw_away);
  if (!opened || !options.throw_away) return opened;
  auto file = HostFile::Temporary(TemporaryDirectory(options.temporary_directory));
  if (!file) return tl::unexpected(file.error());
  Qcow2Header header;
  header.size = opened->image->size();
  if (const int error = CreateQcow2(**file, header)) {
    return FailErrno(ExitCode::kIoError, fmt::format("can't write {}", (*file)->name()), error);
  }
  auto made = Qcow2Image::ReadHeader(**file);
  if (!made) return tl::unexpected(made.error());
  auto overlay = Qcow2Image::Open(std::move(*file), *made, std::move(opened->image), true);
  if (!overlay) return tl::unexpected(overlay.error());
  return OpenedImage{std::move(*overlay), opened->format};
}

}  // namespace vmm
