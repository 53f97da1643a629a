// Makes of a test the machine that runs it: the generated initramfs, the kernel's command line, the
// disk with the root.
#pragma once

#include "vmm/config/config.h"
#include "vmm/core/base/result.h"
#include "vmm/core/host/unique_fd.h"
#include "vmm/runner/test_case.h"

namespace vmm {

struct PreparedGuest {
  Config config;
  UniqueFd initramfs;  // which config.initrd names; none without a command
};

// Line serial1 is left for the caller to connect. In the process that runs the machine: what is
// copied into the initramfs may take a while.
Result<PreparedGuest> PrepareGuest(const TestCase& test);

// What can be said before: the files are there, nothing is asked for that excludes the other.
Result<void> CheckTest(const TestCase& test);

// A program that needs no other file to run: no interpreter ([ELF] PT_INTERP), for this processor.
bool IsStaticProgram(const std::filesystem::path& file);

}  // namespace vmm
