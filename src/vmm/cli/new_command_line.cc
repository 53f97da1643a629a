#include <CLI/CLI.hpp>

#include "vmm/cli/new_options.h"

namespace vmm {

void AddNewOptions(CLI::App& app, NewOptions* options) {
  app.footer("SIZE: 512M, 10G. The files are copied: the directory is all that the machine needs.");
  app.add_option("directory", options->directory, "Is made; one that is there must be empty")
      ->required()
      ->type_name("DIR");
  app.add_option("--kernel", options->kernel, "What is booted")->required()->type_name("FILE");
  app.add_option("--initrd", options->initrd, "The kernel's initial RAM disk")->type_name("FILE");
  app.add_option("--append", options->append, "The kernel's command line (console=ttyS0)")
      ->type_name("TEXT");
  app.add_option("--memory", options->memory, "How much RAM the guest has (1G)")->type_name("SIZE");
  app.add_option("--cpus", options->cpus, "How many processors the guest has (1)")->type_name("N");
  CLI::Option* disk = app.add_option("--disk", options->disk, "An empty disk that holds so much")
                          ->type_name("SIZE");
  app.add_option("--image", options->image, "A disk that begins as this image, raw or qcow2, is")
      ->type_name("FILE")
      ->excludes(disk);
  app.add_flag("--no-net", options->no_net, "No network card");
  app.add_flag("--quiet", options->quiet, "No progress bar");
}

}  // namespace vmm
