// The memory templates of Cpu: the end of cpu.h, which includes it.
#pragma once

#include "bt/interp/cpu.h"

namespace bt {

// Sixteen bytes, for vector operands; loads and stores of it need not be atomic.
struct Bytes16 {
  uint64_t low, high;
};

template <class T>
[[gnu::always_inline]] inline T Cpu::LoadHost(const void* host) {
  if constexpr (sizeof(T) <= 8) {
    return __atomic_load_n(static_cast<const T*>(host), __ATOMIC_RELAXED);
  } else {
    T value;
    std::memcpy(&value, host, sizeof(T));
    return value;
  }
}

template <class T>
[[gnu::always_inline]] inline void Cpu::StoreHost(void* host, T value) {
  if constexpr (sizeof(T) <= 8) {
    __atomic_store_n(static_cast<T*>(host), value, __ATOMIC_RELAXED);
  } else {
    std::memcpy(host, &value, sizeof(T));
  }
}

template <class T, class F>
[[gnu::always_inline]] inline bool Cpu::Modify(uint64_t linear, bool lock, bool stack, F&& change) {
  void* host = WritePointer(linear, sizeof(T));
  if (__builtin_expect(!host, 0)) {
    if (!PrepareModify(linear, sizeof(T), stack)) return false;
    host = WritePointer(linear, sizeof(T));
  }
  if (__builtin_expect(host != nullptr, 1)) {
    T old_value = LoadHost<T>(host);
    if (__builtin_expect(!lock, 1)) {
      StoreHost<T>(host, change(old_value));
      return true;
    }
    if constexpr (sizeof(T) <= 8) {
      const Flags before = flags_;
      for (;;) {
        const T new_value = change(old_value);
        if (__atomic_compare_exchange_n(static_cast<T*>(host), &old_value, new_value, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
          return true;
        }
        flags_ = before;
      }
    }
  }
  T scratch;
  auto thunk = [](void* context, void* value) {
    T* typed = static_cast<T*>(value);
    *typed = (*static_cast<std::remove_reference_t<F>*>(context))(*typed);
  };
  return ModifySlow(linear, sizeof(T), &scratch, thunk,
                    const_cast<void*>(static_cast<const void*>(&change)), lock);
}

}  // namespace bt
