// The keys of one disk: the members of a table of `disk`, and of --disk FILE,KEY=VALUE.
#include <fmt/format.h>

#include "vmm/config/item_reader.h"

namespace vmm {
namespace {

constexpr uint64_t kLeastBandwidth = 64 * kKiB, kMostBandwidth = 1024 * kGiB;
constexpr uint64_t kMostIops = 1'000'000'000;

constexpr ConfigKey kDiskKeys[] = {
    {.name = "disk.path",
     .kind = ValueKind::kFile,
     .default_text = "must be given",
     .example = "\"root.qcow2\"",
     .option = "",
     .help = "The image: a file or a block device of the host.",
     .set = [](Config& config, const ConfigValue& value) { config.disks.back().path = value.path; },
     .aliases = "file|image|filename|source"},
    {.name = "disk.mode",
     .kind = ValueKind::kChoice,
     .default_text = "\"rw\"",
     .example = "\"snapshot\"",
     .option = "",
     .help =
         "\"snapshot\" keeps what the guest writes in a temporary file, which goes with the run; "
         "\"ro\" refuses writes.",
     .set = [](Config& config,
               const ConfigValue& value) { config.disks.back().mode = DiskMode(value.number); },
     .choices = "rw|ro|snapshot",
     .aliases = "readonly|read_only|access|snapshot"},
    {.name = "disk.format",
     .kind = ValueKind::kChoice,
     .default_text = "\"auto\"",
     .example = "\"raw\"",
     .option = "",
     .help = "The format of the image; \"auto\" looks at its first bytes.",
     .set = [](Config& config,
               const ConfigValue& value) { config.disks.back().format = DiskFormat(value.number); },
     .choices = "auto|raw|qcow2",
     .later = "vmdk",
     .aliases = "type|driver"},
    {.name = "disk.bus",
     .kind = ValueKind::kChoice,
     .default_text = "\"virtio\"",
     .example = "\"virtio\"",
     .option = "",
     .help = "How the guest sees it: a virtio block device.",
     .set = [](Config&, const ConfigValue&) {},
     .choices = "virtio",
     .later = "ide|scsi|cd|floppy",
     .aliases = "interface|if|controller"},
    {.name = "disk.serial",
     .kind = ValueKind::kText,
     .default_text = "\"\"",
     .example = "\"root-1\"",
     .option = "",
     .help = "What the guest reads as its serial number, at most 20 bytes: its link in "
             "/dev/disk/by-id.",
     .set = [](Config& config,
               const ConfigValue& value) { config.disks.back().serial = value.text; },
     .aliases = "id|name|serial_number"},
    {.name = "disk.queues",
     .kind = ValueKind::kInteger,
     .default_text = "one a processor",
     .example = "2",
     .option = "",
     .help = "How many queues the guest may use side by side.",
     .set = [](Config& config,
               const ConfigValue& value) { config.disks.back().queues = unsigned(value.number); },
     .aliases = "num_queues|queue_count",
     .min = 1,
     .max = DiskSpec::kMaxQueues},
    {.name = "disk.cache",
     .kind = ValueKind::kChoice,
     .default_text = "\"writeback\"",
     .example = "\"writethrough\"",
     .option = "",
     .help = "When a write is durable: after the guest's next flush; at once; or \"unsafe\", when "
             "the run ends, whatever the guest asks for.",
     .set =
         [](Config& config, const ConfigValue& value) {
           config.disks.back().cache = DiskSpec::Cache(value.number);
         },
     .choices = "writeback|writethrough|unsafe",
     .aliases = "sync|caching"},
    {.name = "disk.direct",
     .kind = ValueKind::kBoolean,
     .default_text = "false",
     .example = "true",
     .option = "",
     .help = "Keep the guest's data out of the host's page cache (O_DIRECT)?",
     .set = [](Config& config,
               const ConfigValue& value) { config.disks.back().direct = value.number != 0; },
     .aliases = "o_direct|nocache"},
    {.name = "disk.iops",
     .kind = ValueKind::kInteger,
     .default_text = "no limit",
     .example = "500",
     .option = "",
     .help = "The most requests a second.",
     .set = [](Config& config,
               const ConfigValue& value) { config.disks.back().iops = value.number; },
     .aliases = "max_iops|requests",
     .min = 1,
     .max = kMostIops},
    {.name = "disk.bandwidth",
     .kind = ValueKind::kSize,
     .default_text = "no limit",
     .example = "\"100M\"",
     .option = "",
     .help = "The most bytes a second.",
     .set = [](Config& config,
               const ConfigValue& value) { config.disks.back().bandwidth = value.number; },
     .aliases = "bps|throughput|rate",
     .min = kLeastBandwidth,
     .max = kMostBandwidth},
};

}  // namespace

std::span<const ConfigKey> DiskKeys() {
  return kDiskKeys;
}

const ItemKind kDiskItems{
    .list = "disk",
    .item = "a disk",
    .plural = "disks",
    .plain = "a path",
    .example = R"(disk = ["root.qcow2"])",
    .why_needed = "it is the image",
    .most = Config::kMaxDisks,
    .keys = &DiskKeys,
    .add = [](Config& config) { config.disks.emplace_back(); },
    .drop = [](Config& config) { config.disks.pop_back(); },
    .count = [](const Config& config) { return config.disks.size(); },
    .complete = [](Config&, std::span<const std::string_view>) {},
    .check = [](const ConfigKey& key, const ConfigValue& value) -> std::optional<ValueError> {
      if (key.name != "disk.serial" || value.text.size() <= DiskSpec::kMaxSerial) return {};
      return ValueError{fmt::format("'{}' has {} bytes", key.name, value.text.size()),
                        fmt::format("the most is {}", DiskSpec::kMaxSerial), "write a shorter one"};
    },
};

}  // namespace vmm
