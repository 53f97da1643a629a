#include <malloc.h>

#include "vmm/cli/cli_main.h"

int main(int argc, char** argv) {
  // One heap for all threads: one of their own grows page by page, with a system call for each.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TOP_PAD, 1 << 20);
  return vmm::CliMain(argc, argv);
}
