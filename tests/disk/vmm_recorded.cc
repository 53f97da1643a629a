// vmm as a whole, which remembers what it does to the images of its disks.
//
//   VMM_RECORD=FILE VMM_RECORD_NOTES=IMAGE build/tests/disk/vmm_recorded run ...
//
// What is written to IMAGE, a raw one, are the guest's notes about all the others; they stand in
// the same record, in the order in which all that has happened.
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "tests/disk/record_store.h"
#include "vmm/cli/cli_main.h"
#include "vmm/core/block/image_open.h"

int main(int argc, char** argv) {
  const char* record_path = std::getenv("VMM_RECORD");
  const char* notes = std::getenv("VMM_RECORD_NOTES");
  if (record_path == nullptr || notes == nullptr) {
    std::fputs("VMM_RECORD and VMM_RECORD_NOTES must be set\n", stderr);
    return 64;
  }
  vmm::FileRecord record;
  vmm::OverrideImageFiles([&](std::unique_ptr<vmm::BlockFile> file) {
    const bool has_notes = std::filesystem::equivalent(file->name(), notes);
    return std::make_unique<vmm::RecordedFile>(std::move(file), record, has_notes);
  });
  const int code = vmm::CliMain(argc, argv);
  if (!vmm::SaveRecord(record_path, record.Take())) {
    std::fprintf(stderr, "can't write %s\n", record_path);
    return 100;
  }
  return code;
}
