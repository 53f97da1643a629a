// Opens a disk image with all it stands on, and makes new ones.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "vmm/core/base/result.h"
#include "vmm/core/block/block_image.h"
#include "vmm/core/block/host_file.h"

namespace vmm {

enum class ImageFormat : uint8_t { kRaw, kQcow2 };
std::string_view Name(ImageFormat format);
std::optional<ImageFormat> ImageFormatOf(std::string_view name);

struct OpenImageOptions {
  std::optional<ImageFormat> format;  // none: looked for; what is nothing known is raw
  bool writable = false;
  bool direct = false;  // past the host's page cache
  bool lock = true;     // image_lock.h
  // What is written goes to a temporary file without a name, and is gone with the image; the files
  // themselves are only read. Implies what `writable` says to the guest.
  bool throw_away = false;
  std::filesystem::path temporary_directory;  // empty: $TMPDIR or /var/tmp
};

struct OpenedImage {
  std::unique_ptr<BlockImage> image;
  ImageFormat format;
};

// An image that was not closed is repaired first when it is to be written. Error: kFileMissing,
// kNoPermission, kIoError, kImageLocked, kImageCorrupt, kUnavailable (what vmm does not know); for
// a backing file, the message says whose.
Result<OpenedImage> OpenImage(const std::filesystem::path& path, const OpenImageOptions& options);

// What a file is, by how it begins.
Result<ImageFormat> DetectFormat(BlockFile& file);

// Where an image's backing file is: relative names start at the image's directory.
std::filesystem::path BackingPath(const std::filesystem::path& image, const std::string& name);

// For tests: stands between each image that may be written and its file, from now on.
using FileWrapper = std::function<std::unique_ptr<BlockFile>(std::unique_ptr<BlockFile> file)>;
void OverrideImageFiles(FileWrapper wrapper);

}  // namespace vmm
