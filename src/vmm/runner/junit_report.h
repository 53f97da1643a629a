// The results of tests as JUnit XML, which CI systems read.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "vmm/runner/test_case.h"

namespace vmm {

// The document. `started` is seconds since 1970.
std::string JUnitXml(std::span<const TestResult> results, int64_t started);

// Text of any bytes as XML 1.0 takes it, also between quotation marks: what is no UTF-8 and what
// no document may have (control characters) becomes U+FFFD.
std::string XmlText(std::string_view bytes);

}  // namespace vmm
