#include "vmm/config/value_parsers.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/un.h>

#include <charconv>
#include <vector>

#include "vmm/config/spelling.h"

namespace vmm {
namespace {

constexpr uint64_t kLargestNumber = uint64_t{1} << 53;
constexpr uint64_t kLongestTimeMs = uint64_t{365} * 24 * 3600 * 1000;
constexpr size_t kLongestQuote = 60;
// The length of a socket's path, its NUL byte included. [unix(7)]
constexpr size_t kSocketPathSize = sizeof(sockaddr_un{}.sun_path);

// The text as a message shows it: short, and without control characters.
std::string Quoted(std::string_view text) {
  std::string quoted = "'";
  for (char c : text.substr(0, kLongestQuote)) {
    const auto byte = static_cast<unsigned char>(c);
    quoted += byte < 0x20 || byte == 0x7F ? '?' : c;
  }
  return quoted + (text.size() > kLongestQuote ? "...'" : "'");
}

tl::unexpected<ValueError> Wrong(std::string what, std::string why, std::string fix) {
  return tl::unexpected<ValueError>(ValueError{std::move(what), std::move(why), std::move(fix)});
}

// A decimal number and what follows it.
struct NumberAndUnit {
  bool valid = false;
  bool too_large = false;
  uint64_t number = 0;
  std::string_view unit;
};

NumberAndUnit Split(std::string_view text) {
  NumberAndUnit split;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), split.number, 10);
  split.too_large = error == std::errc::result_out_of_range;
  split.valid = error == std::errc() || split.too_large;
  split.unit = text.substr(static_cast<size_t>(end - text.data()));
  return split;
}

char UpperCase(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

// What somebody who wrote `split` may have meant: "512m", "512MB" and "512 MiB" are 512M.
std::string SizeGuess(const NumberAndUnit& split) {
  if (!split.valid || split.too_large || split.number == 0) return "512M";
  std::string_view unit = split.unit;
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  const char letter = unit.empty() ? 'M' : UpperCase(unit.front());
  if (letter != 'K' && letter != 'M' && letter != 'G') return "512M";
  return fmt::format("{}{}", split.number, letter);
}

tl::unexpected<ValueError> SocketPathTooLong(size_t size) {
  return Wrong(fmt::format("the path of the socket has {} bytes", size),
               fmt::format("Linux takes at most {}", kSocketPathSize - 1),
               "move the socket to a shorter path, for example under /run");
}

}  // namespace

Parsed<uint64_t> ParseSize(std::string_view text) {
  const NumberAndUnit split = Split(text);
  uint64_t factor = 0;
  if (split.unit == "K") factor = kKiB;
  if (split.unit == "M") factor = kMiB;
  if (split.unit == "G") factor = kGiB;
  if (!split.valid || factor == 0) {
    return Wrong(fmt::format("{} is not a size", Quoted(text)),
                 "a size is a whole number followed by K, M or G",
                 fmt::format("write \"{}\"", SizeGuess(split)));
  }
  if (split.too_large || split.number > kLargestNumber / factor) {
    return Wrong(fmt::format("the size {} is too large", Quoted(text)),
                 "it is beyond what any computer can address", "write a smaller one");
  }
  return split.number * factor;
}

std::string FormatSize(uint64_t bytes) {
  if (bytes != 0 && bytes % kGiB == 0) return fmt::format("{}G", bytes / kGiB);
  if (bytes != 0 && bytes % kMiB == 0) return fmt::format("{}M", bytes / kMiB);
  if (bytes % kKiB == 0) return fmt::format("{}K", bytes / kKiB);
  return fmt::format("{} bytes", bytes);
}

Parsed<std::chrono::milliseconds> ParseTime(std::string_view text) {
  const NumberAndUnit split = Split(text);
  uint64_t factor = 0;
  if (split.unit == "ms") factor = 1;
  if (split.unit == "s") factor = 1000;
  if (split.unit == "m") factor = 60'000;
  if (!split.valid || factor == 0) {
    const bool bare_number = split.valid && !split.too_large && split.unit.empty();
    return Wrong(fmt::format("{} is not a time", Quoted(text)),
                 "a time is a whole number followed by ms, s or m",
                 fmt::format("write \"{}s\"", bare_number ? split.number : 30));
  }
  if (split.too_large || split.number > kLongestTimeMs / factor) {
    return Wrong(fmt::format("the time {} is too long", Quoted(text)), "the longest is a year",
                 "write a shorter one, or leave it out");
  }
  return std::chrono::milliseconds(split.number * factor);
}

Parsed<uint64_t> ParseInteger(std::string_view text) {
  const NumberAndUnit split = Split(text);
  if (!split.valid || !split.unit.empty() || split.too_large || split.number > kLargestNumber) {
    return Wrong(fmt::format("{} is not a whole number", Quoted(text)),
                 "only digits may stand here", "write a number such as 2");
  }
  return split.number;
}

Parsed<bool> ParseBoolean(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return Wrong(fmt::format("{} is neither true nor false", Quoted(text)),
               "there is nothing between them", "write true or false");
}

Parsed<std::filesystem::path> ParsePath(std::string_view text, const std::filesystem::path& base) {
  if (text.empty()) {
    return Wrong("the path is empty", "no file has an empty name",
                 "name a file, or leave the key out");
  }
  if (text.find('\0') != std::string_view::npos) {
    return Wrong("the path holds a NUL character", "no file name can", "write the path without it");
  }
  if (text.starts_with("~/")) {
    return Wrong(fmt::format("the path {} starts with '~'", Quoted(text)),
                 "only shells know what it means", "write the whole path");
  }
  return base / std::filesystem::path(text);
}

Parsed<ConsoleSpec> ParseConsole(std::string_view text, const std::filesystem::path& base) {
  using Kind = ConsoleSpec::Kind;
  if (text == "null") return ConsoleSpec{Kind::kNull, {}};
  if (text == "stdio") return ConsoleSpec{Kind::kStdio, {}};
  if (text == "pty") return ConsoleSpec{Kind::kPty, {}};
  const size_t colon = text.find(':');
  const std::string_view kind = text.substr(0, colon);
  if (kind != "unix" && kind != "file") {
    constexpr std::string_view kKnown[] = {"stdio", "pty", "null", "unix", "file"};
    const std::string_view near = NearestSpelling(kind, kKnown);
    const bool with_path = near == "unix" || near == "file";
    return Wrong(
        fmt::format("{} is not a place for a console", Quoted(text)),
        "there are stdio, pty, null, unix:PATH and file:PATH",
        fmt::format("write \"{}{}\"", near.empty() ? "stdio" : near, with_path ? ":PATH" : ""));
  }
  if (colon == std::string_view::npos || colon + 1 == text.size()) {
    return Wrong(
        fmt::format("{} lacks its path", Quoted(text)),
        kind == "unix" ? "a socket needs a place" : "a file needs a place",
        fmt::format("write \"{}:{}\"", kind, kind == "unix" ? "console.sock" : "console.log"));
  }
  auto path = ParsePath(text.substr(colon + 1), base);
  if (!path) return tl::unexpected(path.error());
  if (kind == "unix" && path->native().size() >= kSocketPathSize) {
    return SocketPathTooLong(path->native().size());
  }
  return ConsoleSpec{kind == "unix" ? Kind::kUnix : Kind::kFile, *path};
}

Parsed<GdbSpec> ParseGdb(std::string_view text, const std::filesystem::path& base) {
  constexpr std::string_view kUnixPrefix = "unix:", kOtherPrefix = "tcp:";
  if (text.starts_with(kUnixPrefix)) {
    auto path = ParsePath(text.substr(kUnixPrefix.size()), base);
    if (!path) return tl::unexpected(path.error());
    if (path->native().size() >= kSocketPathSize) return SocketPathTooLong(path->native().size());
    return GdbSpec{.kind = GdbSpec::Kind::kUnix, .host = {}, .port = 0, .path = path->string()};
  }
  const size_t colon = text.rfind(':');
  const std::string_view digits = colon == std::string_view::npos ? text : text.substr(colon + 1);
  std::string_view host = colon == std::string_view::npos ? "" : text.substr(0, colon);
  const NumberAndUnit port = Split(digits);
  const bool good_port =
      port.valid && !port.too_large && port.unit.empty() && port.number <= 0xFFFF;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos || host.find_first_of("[]") != host.npos) {
    host = "?";
  }
  if (!good_port || host == "?" || host.find(' ') != host.npos) {
    const bool other_form = text.starts_with(kOtherPrefix);  // tcp::1234, tcp:HOST:1234
    const std::string_view rest = other_form ? text.substr(kOtherPrefix.size()) : "";
    return Wrong(fmt::format("{} is no place for a debugger to connect to", Quoted(text)),
                 "there are PORT, HOST:PORT, [IPV6]:PORT and unix:PATH",
                 good_port && other_form && rest.size() < kLongestQuote
                     ? fmt::format("write \"{}\"", rest.starts_with(':') ? digits : rest)
                     : "write \"1234\"");
  }
  return GdbSpec{.kind = GdbSpec::Kind::kTcp,
                 .host = host.empty() ? "127.0.0.1" : std::string(host),
                 .port = static_cast<uint16_t>(port.number),
                 .path = {}};
}

Parsed<NetSpec::Mac> ParseMac(std::string_view text) {
  NetSpec::Mac mac{};
  bool good = text.size() == 17;
  for (size_t i = 0; good && i < mac.size(); ++i) {
    const char* from = text.data() + 3 * i;
    const auto [end, error] = std::from_chars(from, from + 2, mac[i], 16);
    good = error == std::errc() && end == from + 2 && (i == 5 || from[2] == ':');
  }
  if (!good) {
    return Wrong(fmt::format("{} is no MAC address", Quoted(text)),
                 "it has six bytes in hexadecimal with colons",
                 "write one such as \"52:54:00:12:34:56\"");
  }
  if ((mac[0] & 1) != 0 || mac == NetSpec::Mac{}) {
    return Wrong(
        fmt::format("{} can't be the address of one card", Quoted(text)),
        "an odd first byte means a group, and zero nobody",
        fmt::format("write \"52{}\"",
                    mac == NetSpec::Mac{} ? ":54:00:12:34:56" : std::string(text.substr(2))));
  }
  return mac;
}

Parsed<IdRange> ParseIds(std::string_view text) {
  constexpr uint64_t kEnd = UINT32_MAX;  // no user or group has it
  std::vector<uint64_t> numbers;
  bool good = true;
  for (std::string_view rest = text;;) {
    const size_t colon = rest.find(':');
    const NumberAndUnit number = Split(rest.substr(0, colon));
    good =
        good && number.valid && !number.too_large && number.unit.empty() && number.number <= kEnd;
    numbers.push_back(number.number);
    if (colon == std::string_view::npos) break;
    rest = rest.substr(colon + 1);
  }
  if (numbers.size() == 2) numbers.push_back(1);
  if (!good || numbers.size() != 3 || numbers[2] == 0 || numbers[0] + numbers[2] > kEnd ||
      numbers[1] + numbers[2] > kEnd) {
    return Wrong(fmt::format("{} are no ids", Quoted(text)),
                 "it is the guest's first id, the host's first and how many, each below 4294967295",
                 "write some such as \"0:1000\" or \"0:100000:65536\"");
  }
  return IdRange{static_cast<uint32_t>(numbers[0]), static_cast<uint32_t>(numbers[1]),
                 static_cast<uint32_t>(numbers[2])};
}

Parsed<ForwardSpec> ParseForward(std::string_view text) {
  ForwardSpec spec;
  std::vector<std::string_view> parts;
  for (std::string_view rest = text;;) {
    const size_t from = rest.starts_with('[') ? rest.find(']') : 0;
    const size_t colon = rest.find(':', from);
    parts.push_back(rest.substr(0, colon));
    if (colon == std::string_view::npos) break;
    rest = rest.substr(colon + 1);
  }
  const auto port = [](std::string_view digits, uint64_t least, uint16_t& out) {
    const NumberAndUnit number = Split(digits);
    out = static_cast<uint16_t>(number.number);
    return number.valid && !number.too_large && number.unit.empty() && number.number >= least &&
           number.number <= 0xFFFF;
  };
  const bool has_form =
      (parts.size() == 3 || parts.size() == 4) && (parts[0] == "tcp" || parts[0] == "udp");
  in6_addr address{};  // of either kind
  int family = AF_INET;
  if (has_form && parts.size() == 4) {
    spec.address = std::string(parts[1]);
    if (parts[1].starts_with('[') && parts[1].ends_with(']')) {
      family = AF_INET6;
      spec.address = spec.address.substr(1, spec.address.size() - 2);
    }
  }
  if (!has_form || !port(parts[parts.size() - 2], 0, spec.host_port) ||
      !port(parts.back(), 1, spec.guest_port) ||
      inet_pton(family, spec.address.c_str(), &address) != 1) {
    return Wrong(fmt::format("{} is no forward", Quoted(text)),
                 "there are tcp:PORT:PORT and udp:ADDRESS:PORT:PORT, with an IPv4 address, or an "
                 "IPv6 one in brackets, and port of the host and then the guest's port",
                 "write one such as \"tcp:2222:22\"");
  }
  spec.is_udp = parts[0] == "udp";
  return spec;
}

}  // namespace vmm
