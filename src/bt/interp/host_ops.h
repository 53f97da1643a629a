// Arithmetic as the host does it: each function runs the instruction itself and gives the host's
// flags. `T` is the unsigned type of the operand size.
#pragma once

#include <cstdint>

#include "bt/interp/flags.h"

namespace bt::host {

// Register constraint: byte registers must be addressable without REX surprises; GCC's "q" is that.
#define VMM_HOST_BINARY(name, mnemonic)                                                   \
  template <class T>                                                                      \
  [[gnu::always_inline]] inline T name(T a, T b, Flags& flags) {                          \
    asm(mnemonic " %2, %0\n\tlahf\n\tseto %%al" : "+q"(a), "=&a"(flags) : "q"(b) : "cc"); \
    return a;                                                                             \
  }
VMM_HOST_BINARY(Add, "add")
VMM_HOST_BINARY(Sub, "sub")
VMM_HOST_BINARY(And, "and")
VMM_HOST_BINARY(Or, "or")
VMM_HOST_BINARY(Xor, "xor")
#undef VMM_HOST_BINARY

// With the guest's carry coming in.
#define VMM_HOST_CARRY(name, mnemonic)                           \
  template <class T>                                             \
  [[gnu::always_inline]] inline T name(T a, T b, Flags& flags) { \
    asm("bt $8, %k1\n\t" mnemonic " %2, %0\n\tlahf\n\tseto %%al" \
        : "+q"(a), "+&a"(flags)                                  \
        : "q"(b)                                                 \
        : "cc");                                                 \
    return a;                                                    \
  }
VMM_HOST_CARRY(Adc, "adc")
VMM_HOST_CARRY(Sbb, "sbb")
#undef VMM_HOST_CARRY

#define VMM_HOST_UNARY(name, mnemonic)                                         \
  template <class T>                                                           \
  [[gnu::always_inline]] inline T name(T a, Flags& flags) {                    \
    asm(mnemonic " %0\n\tlahf\n\tseto %%al" : "+q"(a), "=&a"(flags) : : "cc"); \
    return a;                                                                  \
  }
VMM_HOST_UNARY(Inc, "inc")
VMM_HOST_UNARY(Dec, "dec")
VMM_HOST_UNARY(Neg, "neg")
#undef VMM_HOST_UNARY

// Shifts and rotates by CL, with the guest's carry coming in (RCL, RCR).
#define VMM_HOST_SHIFT(name, mnemonic)                                     \
  template <class T>                                                       \
  [[gnu::always_inline]] inline T name(T a, uint8_t count, Flags& flags) { \
    asm("bt $8, %k1\n\t" mnemonic " %%cl, %0\n\tlahf\n\tseto %%al"         \
        : "+q"(a), "+&a"(flags)                                            \
        : "c"(count)                                                       \
        : "cc");                                                           \
    return a;                                                              \
  }
VMM_HOST_SHIFT(Rol, "rol")
VMM_HOST_SHIFT(Ror, "ror")
VMM_HOST_SHIFT(Rcl, "rcl")
VMM_HOST_SHIFT(Rcr, "rcr")
VMM_HOST_SHIFT(Shl, "shl")
VMM_HOST_SHIFT(Shr, "shr")
VMM_HOST_SHIFT(Sar, "sar")
#undef VMM_HOST_SHIFT

#define VMM_HOST_DOUBLE_SHIFT(name, mnemonic)                                   \
  template <class T>                                                            \
  [[gnu::always_inline]] inline T name(T a, T b, uint8_t count, Flags& flags) { \
    asm(mnemonic " %%cl, %2, %0\n\tlahf\n\tseto %%al"                           \
        : "+r"(a), "=&a"(flags)                                                 \
        : "r"(b), "c"(count)                                                    \
        : "cc");                                                                \
    return a;                                                                   \
  }
VMM_HOST_DOUBLE_SHIFT(Shld, "shld")
VMM_HOST_DOUBLE_SHIFT(Shrd, "shrd")
#undef VMM_HOST_DOUBLE_SHIFT

}  // namespace bt::host
