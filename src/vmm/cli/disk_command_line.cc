#include <CLI/CLI.hpp>

#include "vmm/cli/disk_options.h"

namespace vmm {
namespace {

using Action = DiskOptions::Action;

constexpr const char* kSizes =
    "SIZE: 10G, 512M, or bytes. FORMAT: raw or qcow2.\ndocs/disk.md tells more.";

CLI::App& AddAction(CLI::App& disk, DiskOptions* options, Action action, const char* name,
                    const char* help) {
  CLI::App& app = *disk.add_subcommand(name, help);
  app.footer(kSizes);
  app.allow_extras();
  app.callback([options, action] { options->action = action; });
  return app;
}

void AddFile(CLI::App& app, DiskOptions* options) {
  app.add_option("file", options->file, "The image")->required()->type_name("FILE");
}

void AddSourceFormat(CLI::App& app, DiskOptions* options) {
  app.add_option("--source-format", options->source_format,
                 "What the image is, instead of looking how it begins")
      ->type_name("FORMAT");
}

void AddMaking(CLI::App& app, DiskOptions* options) {
  app.add_option("-f,--format", options->format, "What is made (qcow2)")->type_name("FORMAT");
  app.add_option("--cluster-size", options->cluster_size,
                 "Of qcow2: how much is allocated at a time, 512 bytes to 2M (64K)")
      ->type_name("SIZE");
  app.add_option("--compression", options->compression,
                 "Of qcow2: how compressed clusters are packed, zlib or zstd (zlib)")
      ->type_name("TYPE");
  app.add_flag("--force", options->force, "Replace a file that is there already");
}

}  // namespace

void AddDiskActions(CLI::App& disk, DiskOptions* options) {
  disk.require_subcommand(1);
  disk.footer(kSizes);

  CLI::App& create = AddAction(disk, options, Action::kCreate, "create", "Make an empty image");
  AddFile(create, options);
  create
      .add_option("size", options->size, "How much the disk holds; with --backing as much as that")
      ->type_name("SIZE");
  AddMaking(create, options);
  create
      .add_option("-b,--backing", options->backing,
                  "Of qcow2: what the disk shows where nothing was written")
      ->type_name("FILE");
  create.add_option("-F,--backing-format", options->backing_format, "What the backing file is")
      ->type_name("FORMAT");
  create
      .add_option("--preallocate", options->preallocation,
                  "off: the file grows as the disk is filled; metadata: the file's map is "
                  "complete; full: the host gives all room now")
      ->type_name("off|metadata|full");

  CLI::App& info = AddAction(disk, options, Action::kInfo, "info", "Say what an image is");
  AddFile(info, options);
  AddSourceFormat(info, options);
  info.add_flag("--chain", options->chain, "And its backing files");
  info.add_flag("--json", options->json, "Print JSON");

  CLI::App& check =
      AddAction(disk, options, Action::kCheck, "check", "Look whether an image is consistent");
  AddFile(check, options);
  check.add_flag("--repair", options->repair, "Mend what can be mended");
  check.add_flag("--json", options->json, "Print JSON");
  check.add_flag("-q,--quiet", options->quiet, "No progress bar");

  CLI::App& convert =
      AddAction(disk, options, Action::kConvert, "convert", "Copy a disk to a new image");
  convert.add_option("file", options->file, "The image to read")->required()->type_name("FILE");
  convert.add_option("target", options->target, "The image to make")
      ->required()
      ->type_name("TARGET");
  AddSourceFormat(convert, options);
  AddMaking(convert, options);
  convert.add_flag("-c,--compress", options->compress, "Of qcow2: compress it");
  convert.add_flag("-q,--quiet", options->quiet, "No progress bar");

  CLI::App& resize = AddAction(disk, options, Action::kResize, "resize", "Change a disk's size");
  AddFile(resize, options);
  resize.add_option("size", options->size, "The new size, or +SIZE for more, -SIZE for less")
      ->required()
      ->type_name("SIZE");
  AddSourceFormat(resize, options);
  resize.add_flag("--shrink", options->shrink, "Yes, cut off what is behind the new end");
}

}  // namespace vmm
