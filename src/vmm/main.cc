#include "vmm/cli/cli_main.h"

int main(int argc, char** argv) {
  return vmm::CliMain(argc, argv);
}
