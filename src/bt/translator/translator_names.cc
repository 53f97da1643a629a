// What perf shows of the translator's code: guest code by its linear and physical address.
#include <fmt/format.h>

#include <algorithm>

#include "bt/translator/translator.h"

namespace bt {

void Translator::NameCode(std::string_view kind, uint64_t linear, bool user, const Block& block,
                          CodeVerifier::Range hot, CodeVerifier::Range cold) {
  const std::string name =
      fmt::format("{} {:#x} phys {:#x}{}", kind, linear, block.phys, user ? " user" : "");
  names_->Add(space_.run(hot.begin), hot.end - hot.begin, name);
  names_->Add(space_.run(cold.begin), cold.end - cold.begin, "cold part of " + name);
}

// They lie one behind the other.
void Translator::NameStubs() {
  struct Stub {
    CodeSpace::Offset at;
    std::string_view name;
  };
  const auto enter = reinterpret_cast<const uint8_t*>(stubs_.enter);
  std::vector<Stub> stubs{{static_cast<CodeSpace::Offset>(enter - space_.run(0)), "enter"},
                          {stubs_.run_site, "run_site"},
                          {stubs_.load_vectors, "load_vectors"},
                          {stubs_.load_x87, "load_x87"},
                          {stubs_.jump, "jump"},
                          {stubs_.indirect, "indirect"},
                          {stubs_.leave, "leave"},
                          {stubs_.syscall, "syscall"},
                          {stubs_.sysret, "sysret"},
                          {stubs_.swapgs, "swapgs"},
                          {stubs_.stac, "stac"},
                          {stubs_.clac, "clac"},
                          {space_.OffsetOf(space_.hot()), ""}};
  for (CodeSpace::Offset at : stubs_.repeat) stubs.push_back({at, "repeat"});
  std::ranges::sort(stubs, {}, &Stub::at);
  for (size_t i = 0; i + 1 < stubs.size(); ++i) {
    names_->Add(space_.run(stubs[i].at), stubs[i + 1].at - stubs[i].at,
                fmt::format("translator stub {}", stubs[i].name));
  }
}

}  // namespace bt
