#include "vmm/runner/outcome_codec.h"

#include <string>

namespace vmm {
namespace {

class Writer {
 public:
  void Number(uint64_t value) {
    for (unsigned i = 0; i < 8; ++i) bytes_.push_back(static_cast<uint8_t>(value >> (8 * i)));
  }
  void Text(const std::string& text) {
    Number(text.size());
    bytes_.insert(bytes_.end(), text.begin(), text.end());
  }
  std::vector<uint8_t> Take() { return std::move(bytes_); }

 private:
  std::vector<uint8_t> bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  uint64_t Number() {
    uint64_t value = 0;
    if (!Has(8)) return 0;
    for (unsigned i = 0; i < 8; ++i) value |= uint64_t{bytes_[i]} << (8 * i);
    bytes_ = bytes_.subspan(8);
    return value;
  }
  std::string Text() {
    const uint64_t size = Number();
    if (!Has(size)) return "";
    std::string text(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(size));
    bytes_ = bytes_.subspan(size);
    return text;
  }
  bool good() const { return good_; }
  bool good_to_the_end() const { return good_ && bytes_.empty(); }

 private:
  bool Has(uint64_t size) { return good_ = good_ && size <= bytes_.size(); }
  std::span<const uint8_t> bytes_;
  bool good_ = true;
};

}  // namespace

std::vector<uint8_t> EncodeOutcome(const RunOutcome& outcome) {
  Writer writer;
  writer.Number(static_cast<uint64_t>(outcome.code));
  writer.Text(outcome.reason);
  writer.Text(outcome.engine);
  writer.Text(outcome.engine_reason);
  writer.Number(outcome.uptime_ms);
  writer.Number(outcome.guest_value ? uint64_t{*outcome.guest_value} + 1 : 0);
  writer.Number(outcome.console_tail.size());
  for (const std::string& line : outcome.console_tail) writer.Text(line);
  return writer.Take();
}

std::optional<RunOutcome> DecodeOutcome(std::span<const uint8_t> bytes) {
  Reader reader(bytes);
  RunOutcome outcome;
  outcome.code = static_cast<ExitCode>(reader.Number());
  outcome.reason = reader.Text();
  outcome.engine = reader.Text();
  outcome.engine_reason = reader.Text();
  outcome.uptime_ms = reader.Number();
  if (const uint64_t value = reader.Number(); value != 0) {
    outcome.guest_value = static_cast<uint32_t>(value - 1);
  }
  for (uint64_t lines = reader.Number(); lines > 0 && reader.good(); --lines) {
    outcome.console_tail.push_back(reader.Text());
  }
  if (!reader.good_to_the_end()) return {};
  return outcome;
}

}  // namespace vmm
