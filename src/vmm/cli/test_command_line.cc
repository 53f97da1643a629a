#include <CLI/CLI.hpp>

#include "vmm/cli/test_options.h"

namespace vmm {

void AddTestOptions(CLI::App& app, TestOptions* options) {
  app.footer(
      "vmm test --kernel vmlinuz -- COMMAND WORD...   boots, runs the command, returns its status\n"
      "vmm test --list tests.toml --jobs 4 --junit report.xml\n"
      "Without a command the guest's own end is the verdict. docs/ci.md tells the rest.");
  app.add_option("--rootfs", options->rootfs,
                 "The guest's files: a directory, or a disk image, which is left as it is")
      ->type_name("DIR|IMAGE");
  app.add_option("--modules", options->modules,
                 "The kernel's modules: /lib/modules/VERSION, or a folder of some, all loaded")
      ->type_name("DIR");
  app.add_option("--load", options->load, "Load this module of --modules as well; may be repeated")
      ->type_name("NAME");
  app.add_option("--busybox", options->busybox,
                 "The guest's programs where there is no --rootfs (the host's static busybox)")
      ->type_name("FILE");
  app.add_option("--timeout", options->timeout,
                 "The longest a guest may run, its boot included (10m); 0s: no limit")
      ->type_name("TIME");
  app.add_option("--idle-timeout", options->idle_timeout,
                 "The longest a guest may print nothing (no limit)")
      ->type_name("TIME");
  app.add_option("--list", options->list, "A file with several tests")->type_name("FILE");
  app.add_option("-j,--jobs", options->jobs, "How many guests run at a time (1)")
      ->check(CLI::Range(1u, 1024u))
      ->type_name("N");
  app.add_option("--junit", options->junit, "Write a report for CI systems, as JUnit XML")
      ->type_name("FILE");
  app.add_flag("--console", options->console, "Show what the guest's kernel prints, on stderr");
}

}  // namespace vmm
