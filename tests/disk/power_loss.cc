// What is left of a disk image when the power fails, or the process is killed.
//
//   power_loss raw|qcow2 [--cuts N] [--seed S] [--without-sync]
//   power_loss kill [--cuts N] [--seed S]
//   power_loss replay START RECORD [--cuts N] [--seed S] [--without-sync] [--backed]
//   power_loss judge IMAGE TABLE [--backed]
//
// A random workload on an image is recorded, write by write: here, or in a guest (`replay`, of what
// vmm_recorded has left; START is the image before). Then the record is cut at N random
// points: what was synced is there, of the rest any part is, in any order, whole or in sectors.
// Each time qemu-img finds no corruption (leaks are allowed), and each block is at least as new as
// the last finished flush. --without-sync ignores the syncs: then something must be found, or this
// test is worth nothing. `judge` looks at an image that a killed vmm has left, and the table of
// promises that its guest kept (guest_writer.cc).
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "tests/disk/numbered_disk.h"
#include "tests/disk/record_store.h"
#include "tests/support/memory_file.h"
#include "vmm/core/base/check.h"
#include "vmm/core/block/host_file.h"
#include "vmm/core/block/image_open.h"
#include "vmm/core/block/qcow2_check.h"
#include "vmm/core/block/qcow2_create.h"
#include "vmm/core/block/qcow2_image.h"
#include "vmm/core/block/raw_image.h"
#include "vmm/core/block/recorded_file.h"

namespace vmm {
namespace {

namespace fs = std::filesystem;

struct Setup {
  ImageFormat format;
  unsigned cluster_bits;
  uint64_t size;
  bool backed;
  uint32_t version;
  unsigned refcount_order;
};

constexpr Setup kSetups[] = {
    {ImageFormat::kRaw, 16, 4 << 20, false, 3, 4},
    {ImageFormat::kQcow2, 16, 8 << 20, false, 3, 4},
    {ImageFormat::kQcow2, 12, 4 << 20, true, 3, 4},
    {ImageFormat::kQcow2, 9, 4 << 20, false, 3, 4},  // its refcount table grows and moves
    {ImageFormat::kQcow2, 10, 4 << 20, true, 2, 4},
    {ImageFormat::kQcow2, 12, 4 << 20, false, 3, 0},
};

struct Options {
  std::string what;
  std::vector<std::string> files;
  bool backed = false;
  unsigned cuts = 1000;
  uint64_t seed = 1;
  bool without_sync = false;
};

std::unique_ptr<BlockImage> BackingOf(const Setup& setup) {
  if (!setup.backed) return nullptr;
  return std::make_unique<RawImage>(
      std::make_unique<MemoryFile>(NumberedDisk::FirstContents(setup.size)), true, false);
}

std::unique_ptr<BlockImage> OpenOn(std::unique_ptr<BlockFile> file, const Setup& setup,
                                   bool writable, std::string* why) {
  if (setup.format == ImageFormat::kRaw) {
    return std::make_unique<RawImage>(std::move(file), !writable, false);
  }
  auto header = Qcow2Image::ReadHeader(*file);
  if (!header) return *why = header.error().message, nullptr;
  auto image = Qcow2Image::Open(std::move(file), *header, BackingOf(setup), writable);
  if (!image) return *why = image.error().message, nullptr;
  return std::move(*image);
}

int Format(BlockFile& file, const Setup& setup) {
  if (setup.format == ImageFormat::kRaw) {
    const int error = file.Resize(setup.size);
    return error == 0 ? file.Sync() : error;
  }
  Qcow2Header header;
  header.size = setup.size;
  header.cluster_bits = setup.cluster_bits;
  header.version = setup.version;
  header.refcount_order = setup.refcount_order;
  return CreateQcow2(file, header);
}

struct Recording {
  std::vector<uint8_t> start;     // the file before
  std::vector<FileEvent> events;  // a note: part of a table with a Promise for each block
};

FileEvent NoteOf(uint64_t block, std::span<const Promise> promises) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(promises.data());
  return {
      FileEvent::Kind::kNote, block * sizeof(Promise), 0, {bytes, bytes + promises.size_bytes()}};
}

void Merge(std::vector<Promise>& promises, const FileEvent& note) {
  const uint64_t first = note.offset / sizeof(Promise);
  for (uint64_t i = 0; i < note.bytes.size() / sizeof(Promise); ++i) {
    Promise promise;
    std::memcpy(&promise, &note.bytes[i * sizeof promise], sizeof promise);
    if (first + i < promises.size()) promises[first + i].Merge(promise);
  }
}

Recording Record(const Setup& setup, uint64_t seed) {
  Recording recording;
  auto file = std::make_unique<MemoryFile>();
  CHECK(Format(*file, setup) == 0);
  recording.start = file->bytes();
  FileRecord record;
  {
    std::string why;
    auto image = OpenOn(std::make_unique<RecordedFile>(std::move(file), record), setup, true, &why);
    CHECK(image != nullptr);
    NumberedDisk disk(
        *image, {
                    [&](uint64_t block, uint64_t version) {
                      const Promise note{.newest_zero = version};
                      record.Add(NoteOf(block, {&note, 1}));
                    },
                    [&](const std::vector<Promise>& floors) { record.Add(NoteOf(0, floors)); },
                });
    CHECK(disk.Run(3, setup.cluster_bits == 9 ? 400 : 150, seed));
  }
  recording.events = record.Take();
  return recording;
}

// Applies a write, or only some of the sectors that it touches.
void Apply(MemoryFile& file, const FileEvent& event, std::mt19937_64* tear) {
  using Kind = FileEvent::Kind;
  if (event.kind == Kind::kResize) {
    if (event.offset > file.size()) CHECK(file.Resize(event.offset) == 0);
  } else if (event.kind == Kind::kZero) {
    CHECK(file.Zero(event.offset, event.length, true) == 0);
  } else if (event.kind == Kind::kWrite) {
    for (uint64_t at = 0; at < event.bytes.size();) {
      const uint64_t step = tear == nullptr ? event.bytes.size()
                                            : std::min<uint64_t>(512 - (event.offset + at) % 512,
                                                                 event.bytes.size() - at);
      if (tear == nullptr || (*tear)() % 2 == 0) {
        CHECK(WriteAt(file, event.offset + at, std::span(event.bytes).subspan(at, step)) == 0);
      }
      at += step;
    }
  }
}

std::string QemuImgCheck(const fs::path& path) {
  const std::string command = fmt::format("qemu-img check -f qcow2 {} 2>&1", path.string());
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "can't run qemu-img";
  std::string output;
  char line[512];
  while (std::fgets(line, sizeof line, pipe) != nullptr) output += line;
  const int status = pclose(pipe);
  // 3: leaks and nothing worse.
  return WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3) ? "" : output;
}

class Bench {
 public:
  explicit Bench(Options options) : options_(std::move(options)), random_(options_.seed) {
    std::string name =
        (access("/dev/shm", W_OK) == 0 ? "/dev/shm" : fs::temp_directory_path().string()) +
        "/vmm-power-XXXXXX";
    CHECK(mkdtemp(name.data()) != nullptr);
    directory_ = name;
  }
  ~Bench() { fs::remove_all(directory_); }

  int Run();

 private:
  void CutAtRandom(const Setup& setup, const Recording& recording, unsigned cuts);
  bool Replay();
  bool JudgeFile();
  void KillAtRandom(const Setup& setup);
  // What is wrong with the file; it is opened as the next run of a machine would.
  std::string Judge(MemoryFile& file, const Setup& setup, const std::vector<Promise>& promises);

  const Options options_;
  std::mt19937_64 random_;
  fs::path directory_;
  unsigned passed_ = 0, bad_ = 0;
  std::string first_;
};

std::string Bench::Judge(MemoryFile& file, const Setup& setup,
                         const std::vector<Promise>& promises) {
  if (setup.format == ImageFormat::kQcow2) {
    const fs::path path = directory_ / "image";
    const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    CHECK(write(fd.get(), file.bytes().data(), file.bytes().size()) ==
          static_cast<ssize_t>(file.bytes().size()));
    if (std::string wrong = QemuImgCheck(path); !wrong.empty()) return wrong;
  }
  std::string why;
  auto image = OpenOn(std::make_unique<MemoryFile>(file.bytes()), setup, true, &why);
  if (!image) return why;
  return NumberedDisk::Check(*image, promises, setup.backed);
}

void Bench::CutAtRandom(const Setup& setup, const Recording& recording, unsigned cuts) {
  using Kind = FileEvent::Kind;
  const auto& events = recording.events;
  std::vector<size_t> points;
  for (unsigned i = 0; i < cuts; ++i) points.push_back(random_() % (events.size() + 1));
  std::ranges::sort(points);

  MemoryFile durable(recording.start);
  std::map<uint64_t, size_t> sync_begins;
  std::vector<Promise> promises(setup.size / NumberedDisk::kBlock);
  size_t seen = 0, applied = 0, synced = 0;
  for (const size_t point : points) {
    for (; seen < point; ++seen) {
      const FileEvent& event = events[seen];
      if (event.kind == Kind::kSync) sync_begins[event.offset] = seen;
      if (event.kind == Kind::kSynced && !options_.without_sync) {
        synced = std::max(synced, sync_begins[event.offset]);
      }
      if (event.kind == Kind::kNote) Merge(promises, event);
    }
    for (; applied < synced; ++applied) Apply(durable, events[applied], nullptr);
    MemoryFile left(durable.bytes());
    std::vector<const FileEvent*> loose;
    const uint64_t kept = random_() % 101;  // percent
    for (size_t i = applied; i < point; ++i) {
      if (random_() % 100 < kept) loose.push_back(&events[i]);
    }
    if (random_() % 4 != 0) std::shuffle(loose.begin(), loose.end(), random_);
    for (const FileEvent* event : loose)
      Apply(left, *event, random_() % 3 == 0 ? &random_ : nullptr);
    const std::string wrong = Judge(left, setup, promises);
    if (wrong.empty()) {
      ++passed_;
    } else if (++bad_ == 1) {
      first_ = fmt::format("clusters of 2^{}, cut at {} of {} events: {}", setup.cluster_bits,
                           point, events.size(), wrong);
    }
  }
}

// A child works on a file and tells in shared memory what it has flushed, until it is killed.
void Bench::KillAtRandom(const Setup& setup) {
  const uint64_t blocks = setup.size / NumberedDisk::kBlock;
  const fs::path path = directory_ / "killed";
  const size_t bytes = blocks * sizeof(Promise);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  auto* shared = static_cast<Promise*>(memory);
  fs::remove(path);
  {
    auto made = HostFile::Create(path, false);
    CHECK(made && Format(**made, setup) == 0);
  }
  const uint64_t seed = random_();
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    std::string why;
    auto file = HostFile::Open(path, {.writable = true, .direct = false, .lock = true});
    CHECK(file);
    auto image = OpenOn(std::move(*file), setup, true, &why);
    std::mutex mutex;
    NumberedDisk disk(*image,
                      {[&](uint64_t b, uint64_t version) { shared[b].newest_zero = version; },
                       [&](const std::vector<Promise>& floors) {
                         const std::lock_guard lock(mutex);
                         for (uint64_t b = 0; b < blocks; ++b) {
                           // Killed between the two, zeros must still be right.
                           if (floors[b].floor >= shared[b].floor && floors[b].floor_is_zero) {
                             shared[b].floor_is_zero = true;
                           }
                           shared[b].Merge(floors[b]);
                         }
                       }});
    disk.Run(3, 1'000'000, seed);
    _exit(1);
  }
  usleep(static_cast<useconds_t>(2000 + random_() % 150'000));
  kill(child, SIGKILL);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  std::string wrong = WIFSIGNALED(status) ? "" : "the workload failed";
  if (wrong.empty()) {
    auto file = HostFile::Open(path, {});
    CHECK(file);
    std::vector<uint8_t> left((*file)->size());
    CHECK(ReadAt(**file, 0, left) == 0);
    MemoryFile copy(std::move(left));
    wrong = Judge(copy, setup, std::vector<Promise>(shared, shared + blocks));
  }
  munmap(memory, bytes);
  if (wrong.empty()) {
    ++passed_;
  } else if (++bad_ == 1) {
    first_ = fmt::format("clusters of 2^{}, killed: {}", setup.cluster_bits, wrong);
  }
}

// Without a lock: the kernel may hold that of a killed process for a moment.
std::vector<uint8_t> Contents(const fs::path& path) {
  auto file = HostFile::Open(path, {.writable = false, .direct = false, .lock = false});
  CHECK(file);
  std::vector<uint8_t> bytes((*file)->size());
  CHECK(ReadAt(**file, 0, bytes) == 0);
  return bytes;
}

// As the image itself says it.
Setup SetupOf(const std::vector<uint8_t>& image, bool backed) {
  MemoryFile file(image);
  Setup setup{ImageFormat::kRaw, 0, image.size(), backed, 0, 0};
  if (Qcow2Header::IsQcow2(image)) {
    const auto header = Qcow2Image::ReadHeader(file);
    CHECK(header);
    setup.format = ImageFormat::kQcow2;
    setup.size = header->size;
    setup.cluster_bits = header->cluster_bits;
  }
  return setup;
}

bool Bench::Replay() {
  Recording recording{Contents(options_.files[0]), {}};
  auto events = LoadRecord(options_.files[1]);
  if (!events) return false;
  recording.events = std::move(*events);
  using Kind = FileEvent::Kind;
  const auto count = [&](Kind kind) {
    return std::ranges::count(recording.events, kind, &FileEvent::kind);
  };
  std::printf("%td writes, %td syncs, %td notes\n", count(Kind::kWrite), count(Kind::kSynced),
              count(Kind::kNote));
  if (count(Kind::kSynced) == 0 || count(Kind::kNote) == 0) return false;
  CutAtRandom(SetupOf(recording.start, options_.backed), recording, options_.cuts);
  return true;
}

bool Bench::JudgeFile() {
  MemoryFile image(Contents(options_.files[0]));
  const Setup setup = SetupOf(image.bytes(), options_.backed);
  const FileEvent table{FileEvent::Kind::kNote, 0, 0, Contents(options_.files[1])};
  std::vector<Promise> promises(setup.size / NumberedDisk::kBlock);
  Merge(promises, table);
  const auto flushed =
      std::ranges::count_if(promises, [](const Promise& p) { return p.floor != 0; });
  const std::string wrong = Judge(image, setup, promises);
  std::printf("%td blocks were flushed\n%s\n", flushed, wrong.c_str());
  return wrong.empty();
}

int Bench::Run() {
  if (options_.what == "judge") return JudgeFile() ? 0 : 1;
  if (options_.what == "replay") {
    if (!Replay()) return 1;
  } else if (options_.what == "kill") {
    for (unsigned i = 0; i < options_.cuts; ++i) KillAtRandom(kSetups[i % std::size(kSetups)]);
  } else {
    const auto wanted = ImageFormatOf(options_.what);
    const auto fits = [&](const Setup& setup) { return setup.format == wanted; };
    const auto count = static_cast<unsigned>(std::ranges::count_if(kSetups, fits));
    for (const Setup& setup : kSetups) {
      if (fits(setup))
        CutAtRandom(setup, Record(setup, random_()), (options_.cuts + count - 1) / count);
    }
  }
  std::printf("%u images as they must be, %u not\n%s\n", passed_, bad_, first_.c_str());
  if (options_.without_sync) {
    std::printf("without syncs some must be wrong\n");
    return bad_ != 0 ? 0 : 1;
  }
  return bad_ == 0 && passed_ >= options_.cuts ? 0 : 1;
}

}  // namespace
}  // namespace vmm

int main(int argc, char** argv) {
  vmm::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--without-sync") {
      options.without_sync = true;
    } else if (word == "--cuts" && i + 1 < argc) {
      options.cuts = static_cast<unsigned>(std::stoul(argv[++i]));
    } else if (word == "--seed" && i + 1 < argc) {
      options.seed = std::stoull(argv[++i]);
    } else if (word == "--backed") {
      options.backed = true;
    } else if (options.what.empty()) {
      options.what = word;
    } else {
      options.files.push_back(word);
    }
  }
  const std::map<std::string, size_t> known = {
      {"raw", 0}, {"qcow2", 0}, {"kill", 0}, {"replay", 2}, {"judge", 2}};
  const auto found = known.find(options.what);
  if (found == known.end() || found->second != options.files.size()) {
    std::fputs("usage: see the top of power_loss.cc\n", stderr);
    return 64;
  }
  if (options.what != "raw" && std::system("qemu-img --version >/dev/null 2>&1") != 0) {
    std::printf("skipped: qemu-img is not installed\n");
    return 77;
  }
  return vmm::Bench(options).Run();
}
