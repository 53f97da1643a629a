// The kernel's description of the KVM API, made fit for C++. Include this instead of <linux/kvm.h>:
// Linux 6.x wraps trailing arrays in a struct whose first member is empty, which has a size in C++,
// and with the size of a structure its ioctl number would change.
#pragma once

#include <linux/stddef.h>

#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]

#include <linux/kvm.h>  // IWYU pragma: export

static_assert(sizeof(kvm_cpuid2) == 8 && sizeof(kvm_msrs) == 8 && sizeof(kvm_xsave) == 4096 &&
              sizeof(kvm_irq_routing) == 8 && sizeof(kvm_signal_mask) == 4);
