// The spellings of single values: "512M", "30s", "unix:console.sock". A failure says what is wrong,
// why, and what would be right.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "vmm/config/config.h"

namespace vmm {

// "what (why); fix: fix" without the place, which the caller knows.
struct ValueError {
  std::string what;
  std::string why;
  std::string fix;
};

template <class T>
using Parsed = tl::expected<T, ValueError>;

// A whole number followed by K, M or G: bytes, at most 2^53.
Parsed<uint64_t> ParseSize(std::string_view text);
// The shortest spelling that ParseSize reads back; "4096 bytes" when there is none.
std::string FormatSize(uint64_t bytes);

// A whole number followed by ms, s or m; at most a year.
Parsed<std::chrono::milliseconds> ParseTime(std::string_view text);

// A whole decimal number, at most 2^53.
Parsed<uint64_t> ParseInteger(std::string_view text);

// "true" or "false".
Parsed<bool> ParseBoolean(std::string_view text);

// stdio, pty, null, unix:PATH or file:PATH; a relative PATH is taken from `base`.
Parsed<ConsoleSpec> ParseConsole(std::string_view text, const std::filesystem::path& base);

// PORT, HOST:PORT, [IPV6]:PORT or unix:PATH; without a host 127.0.0.1. A relative PATH is taken
// from `base`.
Parsed<GdbSpec> ParseGdb(std::string_view text, const std::filesystem::path& base);

// Six bytes in hexadecimal with colons; no group address, and not zero.
Parsed<NetSpec::Mac> ParseMac(std::string_view text);
// "GUEST:HOST[:COUNT]"
Parsed<IdRange> ParseIds(std::string_view text);

// tcp:PORT:PORT, tcp:ADDRESS:PORT:PORT or udp:...; first the host's, then the guest's. The address
// is an IPv4 one of the host.
Parsed<ForwardSpec> ParseForward(std::string_view text);

// `text` as a path, taken from `base` when relative. No "~", no NUL byte.
Parsed<std::filesystem::path> ParsePath(std::string_view text, const std::filesystem::path& base);

}  // namespace vmm
