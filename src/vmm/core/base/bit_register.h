// A device register made of named bits. `Bit` is the scoped enum with the names of the data sheet,
// so that a bit of one register can't be tested in another by mistake:
//
//   enum class LSR : uint8_t { DR = 0x01, OE = 0x02 };
//   BitRegister<LSR> lsr;
//   if (lsr.Has(LSR::DR)) lsr.Clear(LSR::OE);
#pragma once

#include <concepts>
#include <type_traits>

namespace vmm {

template <class Bit>
  requires std::is_enum_v<Bit>
class BitRegister {
 public:
  using Raw = std::underlying_type_t<Bit>;

  constexpr BitRegister() = default;
  constexpr explicit BitRegister(Raw raw) : raw_(raw) {}

  template <std::same_as<Bit>... Bits>
  static constexpr Raw Mask(Bits... bits) {
    return static_cast<Raw>((Raw{0} | ... | static_cast<Raw>(bits)));
  }
  template <std::same_as<Bit>... Bits>
  static constexpr BitRegister Of(Bits... bits) {
    return BitRegister(Mask(bits...));
  }

  constexpr Raw raw() const { return raw_; }
  constexpr Raw Field(Raw mask) const { return static_cast<Raw>(raw_ & mask); }

  template <std::same_as<Bit>... Bits>
  constexpr bool Has(Bits... any_of) const {
    return (raw_ & Mask(any_of...)) != 0;
  }
  template <std::same_as<Bit>... Bits>
  constexpr void Set(Bits... bits) {
    raw_ = static_cast<Raw>(raw_ | Mask(bits...));
  }
  template <std::same_as<Bit>... Bits>
  constexpr void Clear(Bits... bits) {
    raw_ = static_cast<Raw>(raw_ & ~Mask(bits...));
  }
  constexpr void Assign(Bit bit, bool on) { on ? Set(bit) : Clear(bit); }

  // Is every bit that is set one of `legal`? For Load().
  constexpr bool IsWithin(Raw legal) const { return (raw_ & ~legal) == 0; }

  friend constexpr bool operator==(BitRegister, BitRegister) = default;

 private:
  Raw raw_ = 0;
};

}  // namespace vmm
