// Why the host's KVM can't be used: which step failed with which errno, and what that means to the
// person who has to change it.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "kvm/host_facts.h"
#include "vmm/core/base/result.h"

namespace kvm {

struct Refusal {
  std::string step;  // "open /dev/kvm", "KVM_CREATE_VM", "KVM_CAP_SPLIT_IRQCHIP"
  int error = 0;     // errno; 0: the answer itself was not good enough (a missing capability)

  enum class Kind { kMissing, kNoAccess, kBusy, kUnusable };
  Kind kind() const;
};

template <class T>
using KvmResult = tl::expected<T, Refusal>;

struct Explanation {
  std::string reason;  // one line: what and why
  std::string remedy;  // a command to run
};

Explanation Explain(const Refusal& refusal, const HostFacts& facts);

// For paths where KVM is required: kEngineUnavailable, "reason (remedy)".
vmm::Error ToError(const Refusal& refusal, const HostFacts& facts);

}  // namespace kvm
