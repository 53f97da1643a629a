// Words for the exits that end a run.
#pragma once

#include <string>

#include "kvm/vcpu_fd.h"

namespace kvm {

// KVM_EXIT_INTERNAL_ERROR: the suberror, the instruction's bytes where KVM tells them, and where.
std::string DescribeInternalError(const VcpuFd& vcpu);
// KVM_EXIT_FAIL_ENTRY: the processor's own reason.
std::string DescribeFailEntry(const VcpuFd& vcpu);
// Any exit that this program does not know.
std::string DescribeUnknownExit(const VcpuFd& vcpu);

}  // namespace kvm
