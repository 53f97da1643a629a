// Programs of busybox: a shell loop, compression and checksums of a file in the working folder.
// BUSYBOX is its path; the working folder has to be in memory.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench_rows.h"

namespace {

constexpr char kInput[] = "bench-input", kOutput[] = "bench-output";
constexpr uint64_t kMiB = 1024 * 1024;

// Words in disorder: gzip makes about a third of it.
void WriteInput(uint64_t bytes) {
  Random random(7);
  std::array<std::string, 1024> words;
  for (std::string& word : words) {
    for (uint64_t left = 2 + random.Next() % 9; left > 0; --left) {
      word += static_cast<char>('a' + random.Next() % 26);
    }
  }
  std::string text;
  while (text.size() < kMiB) {
    const uint64_t value = random.Next();
    text += words[value % 1024 * (value >> 32 & 1023) / 1024];
    text += value >> 59 == 0 ? '\n' : ' ';
  }
  text.resize(kMiB);
  std::FILE* file = std::fopen(kInput, "w");
  if (file == nullptr) Fail("input file");
  for (uint64_t written = 0; written < bytes; written += kMiB) {
    for (size_t i = 0; i < 4096; ++i) text[random.Next() % kMiB] = static_cast<char>(random.Next());
    if (std::fwrite(text.data(), 1, kMiB, file) != kMiB) Fail("input file");
  }
  if (std::fclose(file) != 0) Fail("input file");
}

uint64_t ChecksumOfOutput() {
  std::FILE* file = std::fopen(kOutput, "r");
  if (file == nullptr) Fail("output file");
  std::vector<uint64_t> buffer(8192);
  uint64_t checksum = 0;
  for (size_t bytes; (bytes = std::fread(buffer.data(), 1, 65536, file)) > 0;) {
    checksum = Mix(checksum, bytes);
    for (size_t i = 0; i < bytes / 8; ++i) checksum = Mix(checksum, buffer[i]);
  }
  std::fclose(file);
  return checksum;
}

// Runs busybox with its output in a file; not one of its failures may pass for a quick run.
void Busybox(std::vector<const char*> arguments) {
  const char* path = std::getenv("BUSYBOX");
  if (path == nullptr) Fail("BUSYBOX is not set");
  const pid_t child = fork();
  if (child == 0) {
    const int output = open(kOutput, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (output < 0 || dup2(output, STDOUT_FILENO) < 0) _exit(126);
    arguments.insert(arguments.begin(), "busybox");
    arguments.push_back(nullptr);
    execv(path, const_cast<char**>(arguments.data()));
    _exit(127);
  }
  int status;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) Fail(arguments.front());
}

uint64_t RunShellLoop(uint64_t count) {
  const std::string script =
      "i=0; while [ $i -lt " + std::to_string(count) + " ]; do i=$((i+1)); done; echo $i";
  Busybox({"sh", "-c", script.c_str()});
  return ChecksumOfOutput();
}

uint64_t RunGzip(uint64_t) {
  Busybox({"gzip", "-c", kInput});
  return ChecksumOfOutput();
}

uint64_t RunSha256sum(uint64_t) {
  Busybox({"sha256sum", kInput});
  return ChecksumOfOutput();
}

uint64_t RunMd5sum(uint64_t) {
  Busybox({"md5sum", kInput});
  return ChecksumOfOutput();
}

void PrepareInput(uint64_t count) {
  WriteInput(count * kMiB);
}

constexpr Row kRows[] = {
    {"shell-loop", nullptr, RunShellLoop, 200'000},
    {"gzip", PrepareInput, RunGzip, 16},  // MiB
    {"sha256sum", PrepareInput, RunSha256sum, 32},
    {"md5sum", PrepareInput, RunMd5sum, 64},
};

}  // namespace

int main(int argc, char** argv) {
  return RunRows(argc, argv, kRows);
}
