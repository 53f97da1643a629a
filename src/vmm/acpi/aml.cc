#include "vmm/acpi/aml.h"

#include "vmm/core/base/check.h"

namespace vmm::aml {
namespace {

// [ACPI] 20.3
enum Op : uint8_t {
  kNameOp = 0x08,
  kDWordPrefix = 0x0c,
  kStringPrefix = 0x0d,
  kScopeOp = 0x10,
  kExtOpPrefix = 0x5b,
  kDeviceOp = 0x82,
};

Code Text(std::string_view text) {
  return Code(text.begin(), text.end());
}

// The length of a package counts its own bytes: one up to 63, else a lead byte with the number of
// bytes that follow and the low four bits. [ACPI] 20.2.4
Code PackageLength(size_t content) {
  if (content + 1 < 0x40) return {static_cast<uint8_t>(content + 1)};
  unsigned more = 1;
  while (content + 1 + more >= size_t{1} << (4 + 8 * more)) ++more;
  CHECK(more <= 3);
  const size_t length = content + 1 + more;
  Code code{static_cast<uint8_t>(more << 6 | (length & 0xf))};
  for (unsigned i = 0; i < more; ++i) code.push_back(static_cast<uint8_t>(length >> (4 + 8 * i)));
  return code;
}

Code Package(const Code& op, std::string_view name, const Code& content) {
  return Join({op, PackageLength(name.size() + content.size()), Text(name), content});
}

}  // namespace

Code Join(std::initializer_list<Code> parts) {
  Code all;
  for (const Code& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

Code Scope(std::string_view name, const Code& content) {
  return Package({kScopeOp}, name, content);
}

Code Device(std::string_view name, const Code& content) {
  return Package({kExtOpPrefix, kDeviceOp}, name, content);
}

Code NameInteger(std::string_view name, uint32_t value) {
  Code number{kDWordPrefix};
  for (unsigned i = 0; i < 4; ++i) number.push_back(static_cast<uint8_t>(value >> (8 * i)));
  return Join({{kNameOp}, Text(name), number});
}

Code NameText(std::string_view name, std::string_view text) {
  return Join({{kNameOp}, Text(name), {kStringPrefix}, Text(text), {0}});
}

}  // namespace vmm::aml
