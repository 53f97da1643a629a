// `vmm new` as plain data. Only new_command_line.cc knows how it is typed.
#pragma once

#include <filesystem>
#include <string>

namespace CLI {
class App;
}

namespace vmm {

struct NewOptions {
  std::filesystem::path directory;
  std::filesystem::path kernel, initrd;  // are copied; initrd: empty for none
  std::string append = "console=ttyS0";
  std::string memory = "1G";
  std::string cpus = "1";
  std::string disk;             // the size of an empty one; empty: none
  std::filesystem::path image;  // or what the disk begins with
  bool no_net = false;
  bool quiet = false;
};

void AddNewOptions(CLI::App& app, NewOptions* options);

}  // namespace vmm
