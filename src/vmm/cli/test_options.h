// `vmm test` as plain data. Only test_command_line.cc knows how it is typed.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace vmm {

struct TestOptions {
  std::vector<std::string> command;  // words behind "--"
  std::filesystem::path list;        // of tests; empty: one test
  std::filesystem::path rootfs, modules, busybox, junit;
  std::vector<std::string> load;
  std::string timeout = "10m";
  std::string idle_timeout = "0s";
  unsigned jobs = 1;
  bool console = false;
};

void AddTestOptions(CLI::App& app, TestOptions* options);

}  // namespace vmm
