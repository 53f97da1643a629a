#include "vmm/config/value_parsers.h"

#include <catch2/catch.hpp>

using namespace std::chrono_literals;

TEST_CASE("sizes are whole numbers with K, M or G", "[config]") {
  CHECK(vmm::ParseSize("4K") == 4096U);
  CHECK(vmm::ParseSize("512M") == 512 * vmm::kMiB);
  CHECK(vmm::ParseSize("1G") == vmm::kGiB);
  CHECK(vmm::ParseSize("0K") == 0U);
  CHECK(vmm::ParseSize("8388608G") == uint64_t{1} << 53);
  for (const char* wrong :
       {"", "M", "512", "512m", "512MB", "512 M", " 512M", "512M ", "-1M", "+1M", "1.5G", "0x10M",
        "1T", "8388609G", "18446744073709551616G", "1e3M"}) {
    INFO(wrong);
    CHECK_FALSE(vmm::ParseSize(wrong));
  }
}

TEST_CASE("a wrong size is answered with the size that was meant", "[config]") {
  CHECK(vmm::ParseSize("512MB").error().fix == "write \"512M\"");
  CHECK(vmm::ParseSize("2 GiB").error().fix == "write \"2G\"");
  CHECK(vmm::ParseSize("768").error().fix == "write \"768M\"");
  CHECK(vmm::ParseSize("much").error().fix == "write \"512M\"");
}

TEST_CASE("a size is written as it is read", "[config]") {
  for (const char* text : {"4K", "2M", "1G", "1025M", "1048577K"}) {
    CHECK(vmm::FormatSize(*vmm::ParseSize(text)) == text);
  }
  CHECK(vmm::FormatSize(1024 * vmm::kKiB) == "1M");
  CHECK(vmm::FormatSize(5) == "5 bytes");
  CHECK(vmm::FormatSize(0) == "0K");
}

TEST_CASE("times are whole numbers with ms, s or m", "[config]") {
  CHECK(vmm::ParseTime("500ms") == 500ms);
  CHECK(vmm::ParseTime("30s") == 30s);
  CHECK(vmm::ParseTime("5m") == 5min);
  CHECK(vmm::ParseTime("0s") == 0s);
  CHECK(vmm::ParseTime("525600m") == 365 * 24h);
  for (const char* wrong :
       {"", "s", "30", "30 s", "1h", "-1s", "1.5s", "30S", "525601m", "99999999999999999999s"}) {
    INFO(wrong);
    CHECK_FALSE(vmm::ParseTime(wrong));
  }
  CHECK(vmm::ParseTime("90").error().fix == "write \"90s\"");
}

TEST_CASE("whole numbers and truth values have one spelling", "[config]") {
  CHECK(vmm::ParseInteger("8") == 8U);
  for (const char* wrong : {"", "two", "2x", "-2", "2.0", "9007199254740993"}) {
    CHECK_FALSE(vmm::ParseInteger(wrong));
  }
  CHECK(vmm::ParseBoolean("true") == true);
  CHECK(vmm::ParseBoolean("false") == false);
  CHECK_FALSE(vmm::ParseBoolean("True"));
}

TEST_CASE("a console is a word or a kind with a path", "[config]") {
  using Kind = vmm::ConsoleSpec::Kind;
  CHECK(vmm::ParseConsole("null", "d")->kind == Kind::kNull);
  CHECK(vmm::ParseConsole("stdio", "d")->kind == Kind::kStdio);
  CHECK(vmm::ParseConsole("pty", "d")->kind == Kind::kPty);
  CHECK(vmm::ParseConsole("unix:a.sock", "d") == vmm::ConsoleSpec{Kind::kUnix, "d/a.sock"});
  CHECK(vmm::ParseConsole("file:/a:b.log", "d") == vmm::ConsoleSpec{Kind::kFile, "/a:b.log"});
  for (const char* wrong :
       {"", "tcp:1", "unix", "unix:", "file:", "stdio:x", "STDIO", "file:~/x"}) {
    INFO(wrong);
    CHECK_FALSE(vmm::ParseConsole(wrong, "d"));
  }
}

TEST_CASE("a socket's path is refused when Linux could not bind it", "[config]") {
  const std::string longest = "/" + std::string(106, 'x');
  CHECK(vmm::ParseConsole("unix:" + longest, {}));  // 107 bytes and the NUL [unix(7)]
  CHECK_FALSE(vmm::ParseConsole("unix:" + longest + "x", {}));
}

TEST_CASE("a relative path starts at its base and an absolute one does not", "[config]") {
  CHECK(vmm::ParsePath("a/b", "/vm") == std::filesystem::path("/vm/a/b"));
  CHECK(vmm::ParsePath("/a/b", "/vm") == std::filesystem::path("/a/b"));
  CHECK(vmm::ParsePath("a", "") == std::filesystem::path("a"));
  CHECK_FALSE(vmm::ParsePath("", "/vm"));
  CHECK_FALSE(vmm::ParsePath(std::string("a\0b", 3), "/vm"));
}

TEST_CASE("a place for a debugger is a port, an address with one, or a socket", "[config]") {
  using Kind = vmm::GdbSpec::Kind;
  const auto tcp = [](std::string host, uint16_t port) {
    return vmm::GdbSpec{.kind = Kind::kTcp, .host = std::move(host), .port = port, .path = {}};
  };
  CHECK(*vmm::ParseGdb("1234", "/vm") == tcp("127.0.0.1", 1234));
  CHECK(*vmm::ParseGdb(":0", "/vm") == tcp("127.0.0.1", 0));
  CHECK(*vmm::ParseGdb("localhost:65535", "/vm") == tcp("localhost", 65535));
  CHECK(*vmm::ParseGdb("[::1]:1234", "/vm") == tcp("::1", 1234));
  CHECK(vmm::ParseGdb("unix:gdb.sock", "/vm")->path == "/vm/gdb.sock");
  for (const char* bad : {"", "65536", "12x", "host", "::1:1234", "[]:1", "a b:1", "host:", "-1"}) {
    INFO(bad);
    CHECK_FALSE(vmm::ParseGdb(bad, "/vm"));
  }
  CHECK_FALSE(vmm::ParseGdb("unix:", "/vm"));
  CHECK_FALSE(vmm::ParseGdb("unix:" + std::string(200, 'x'), "/vm"));
  CHECK(vmm::ParseGdb("tcp::1234", "/vm").error().fix == "write \"1234\"");
  CHECK(vmm::ParseGdb("tcp:host:1234", "/vm").error().fix == "write \"host:1234\"");
}
