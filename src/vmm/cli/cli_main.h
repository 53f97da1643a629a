// The program: what main() is.
#pragma once

namespace vmm {

// Reads the command line, does what it says, and gives the exit code (base/exit_code.h). Throws
// nothing.
int CliMain(int argc, char** argv);

}  // namespace vmm
