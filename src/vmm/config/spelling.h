// The nearest right spelling of a word that nobody knows.
#pragma once

#include <span>
#include <string_view>

namespace vmm {

// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
unsigned EditDistance(std::string_view a, std::string_view b);

// The candidate that a typing error most likely meant, without regard to case and to '-' or '_';
// empty when none is near (more than a third of the letters differ).
std::string_view NearestSpelling(std::string_view word,
                                 std::span<const std::string_view> candidates);

}  // namespace vmm
