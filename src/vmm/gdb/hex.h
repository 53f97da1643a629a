// Hexadecimal numbers and bytes, as GDB's remote protocol writes them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vmm::gdb {

// The value of one digit of either case, or -1.
int HexDigit(uint8_t character);

// Two digits a byte, in lower case.
std::string ToHex(std::span<const uint8_t> bytes);
std::string ToHex(std::string_view text);
// Nothing unless `text` is an even number of hexadecimal digits.
std::optional<std::vector<uint8_t>> FromHex(std::string_view text);

// Reads the fields of a packet from left to right. A failed read leaves it where it was.
class FieldReader {
 public:
  explicit FieldReader(std::string_view text) : rest_(text) {}

  // A number, the most significant digit first; at most 64 bits.
  std::optional<uint64_t> Number();
  // True, and `character` is skipped, if it comes next.
  bool Skip(char character);
  // The text before `separator`, which is skipped; all that is left when there is none.
  std::string_view Until(char separator);
  std::string_view rest() const { return rest_; }
  bool empty() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

}  // namespace vmm::gdb
