// `vmm disk ...` as plain data. Only disk_command_line.cc knows how it is typed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace CLI {
class App;
}

namespace vmm {

struct DiskOptions {
  enum class Action : uint8_t { kNone, kCreate, kInfo, kCheck, kConvert, kResize };

  Action action = Action::kNone;
  std::filesystem::path file;    // of convert: the source
  std::filesystem::path target;  // of convert
  std::string size;              // of create (empty: the backing file's) and resize, as typed
  std::string format;            // of what is made (create, convert); empty: qcow2
  std::string source_format;     // of what is there; empty: looked for
  std::string backing, backing_format;  // of create
  std::string preallocation = "off";    // of create
  std::string cluster_size;             // of create and convert; empty: 64K
  std::string compression = "zlib";     // of create and convert
  bool compress = false;                // of convert
  bool force = false;                   // of create and convert: replace the file
  bool shrink = false;                  // of resize
  bool repair = false;                  // of check
  bool chain = false;                   // of info
  bool json = false;                    // of info and check
  bool quiet = false;
};

// Adds create, info, ... to the command `disk`.
void AddDiskActions(CLI::App& disk, DiskOptions* options);

}  // namespace vmm
