// What the commands of `vmm disk` share.
#pragma once

#include <memory>
#include <optional>

#include "vmm/cli/disk_options.h"
#include "vmm/cli/progress_bar.h"
#include "vmm/core/base/result.h"
#include "vmm/core/block/image_open.h"
#include "vmm/core/block/qcow2_header.h"
#include "vmm/core/block/qcow2_image.h"

namespace vmm {

Result<void> CreateDisk(const DiskOptions& options);
Result<void> DescribeDisk(const DiskOptions& options);  // info
Result<void> CheckDisk(const DiskOptions& options);
Result<void> ConvertDisk(const DiskOptions& options);
Result<void> ResizeDisk(const DiskOptions& options);

// "10G", "512M", "2T" or bytes, a multiple of 512.
Result<uint64_t> ParseDiskSize(const std::string& text);
// Of an option; empty: none was given.
Result<std::optional<ImageFormat>> ParseFormat(const std::string& option, const std::string& text);
// What --cluster-size and --compression make of a new image's header.
Result<Qcow2Header> HeaderFor(const DiskOptions& options, uint64_t size);
// An empty qcow2 image in a new file, opened for writing. `backing`: what is open already of what
// the header names, or null.
Result<std::unique_ptr<Qcow2Image>> MakeQcow2(const std::filesystem::path& path,
                                              const Qcow2Header& header, bool replace,
                                              std::unique_ptr<BlockImage> backing);
// Of an image: "PATH: what: reason", with the image's own account where it has one.
tl::unexpected<Error> ImageFailed(const BlockImage& image, const char* what, int error);
// Removes a file that was begun, unless the work was finished.
class RemoveUnlessDone {
 public:
  explicit RemoveUnlessDone(std::filesystem::path path) : path_(std::move(path)) {}
  ~RemoveUnlessDone();
  void Done() { path_.clear(); }

 private:
  std::filesystem::path path_;
};

}  // namespace vmm
