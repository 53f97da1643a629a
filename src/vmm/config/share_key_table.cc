// The keys of one shared directory: the members of a table of `share`, and of
// --share DIRECTORY,KEY=VALUE.
#include <fmt/format.h>

#include "vmm/config/item_reader.h"

namespace vmm {
namespace {

constexpr ConfigKey kShareKeys[] = {
    {.name = "share.path",
     .kind = ValueKind::kFile,
     .default_text = "must be given",
     .example = "\"files\"",
     .option = "",
     .help = "The directory of the host.",
     .set = [](Config& config,
               const ConfigValue& value) { config.shares.back().path = value.path; },
     .aliases = "directory|dir|source|folder|host|shared_dir"},
    {.name = "share.tag",
     .kind = ValueKind::kText,
     .default_text = "share0, share1 ..., by its place in the list",
     .example = "\"files\"",
     .option = "",
     .help = "What the guest mounts, at most 36 bytes: mount -t virtiofs TAG /mnt.",
     .set = [](Config& config, const ConfigValue& value) { config.shares.back().tag = value.text; },
     .aliases = "name|mount_tag|label|target"},
    {.name = "share.mode",
     .kind = ValueKind::kChoice,
     .default_text = "\"rw\"",
     .example = "\"ro\"",
     .option = "",
     .help = "\"ro\" refuses all that would change something there.",
     .set =
         [](Config& config, const ConfigValue& value) {
           config.shares.back().mode = ShareSpec::Mode(value.number);
         },
     .choices = "rw|ro",
     .aliases = "readonly|read_only|access|writable"},
    {.name = "share.cache",
     .kind = ValueKind::kChoice,
     .default_text = "\"none\"",
     .example = "\"long\"",
     .option = "",
     .help = "How long the guest believes what it knows of a file without asking: \"none\", not at "
             "all; \"short\", a second; \"long\", for directories that nobody else changes.",
     .set =
         [](Config& config, const ConfigValue& value) {
           config.shares.back().cache = ShareSpec::Cache(value.number);
         },
     .choices = "none|short|long",
     .aliases = "caching|timeout|attr_timeout"},
    {.name = "share.setuid",
     .kind = ValueKind::kBoolean,
     .default_text = "false",
     .example = "true",
     .option = "",
     .help = "May the guest make programs there that run as their owner or group, on the host too?",
     .set = [](Config& config,
               const ConfigValue& value) { config.shares.back().setuid = value.number != 0; },
     .aliases = "suid|nosuid|set_uid"},
    {.name = "share.users",
     .kind = ValueKind::kIds,
     .default_text = "the guest's root is the user that runs vmm",
     .example = "[\"0:1000\"]",
     .option = "",
     .help = "Which users of the guest are which of the host, \"GUEST:HOST\" or "
             "\"GUEST:HOST:COUNT\"; all others are nobody.",
     .set = [](Config& config,
               const ConfigValue& value) { config.shares.back().users.push_back(value.ids); },
     .aliases = "user|uid|uids|uid_map|uidmap|owner"},
    {.name = "share.groups",
     .kind = ValueKind::kIds,
     .default_text = "the guest's root is the group that runs vmm",
     .example = "[\"0:1000\"]",
     .option = "",
     .help = "The same for groups.",
     .set = [](Config& config,
               const ConfigValue& value) { config.shares.back().groups.push_back(value.ids); },
     .aliases = "group|gid|gids|gid_map|gidmap"},
};

}  // namespace

std::span<const ConfigKey> ShareKeys() {
  return kShareKeys;
}

const ItemKind kShareItems{
    .list = "share",
    .item = "a shared directory",
    .plural = "shared directories",
    .plain = "a path",
    .example = R"(share = ["files"])",
    .why_needed = "it is the directory",
    .most = Config::kMaxShares,
    .keys = &ShareKeys,
    .add = [](Config& config) { config.shares.emplace_back(); },
    .drop = [](Config& config) { config.shares.pop_back(); },
    .count = [](const Config& config) { return config.shares.size(); },
    .complete =
        [](Config& config, std::span<const std::string_view>) {
          ShareSpec& share = config.shares.back();
          if (share.tag.empty()) share.tag = fmt::format("share{}", config.shares.size() - 1);
        },
    .check = [](const ConfigKey& key, const ConfigValue& value) -> std::optional<ValueError> {
      if (key.name != "share.tag") return {};
      if (value.text.empty()) {
        return ValueError{"'share.tag' is empty", "the guest mounts it by its tag",
                          "write tag = \"files\", or leave it out"};
      }
      if (value.text.size() <= ShareSpec::kMaxTag) return {};
      return ValueError{fmt::format("'{}' has {} bytes", key.name, value.text.size()),
                        fmt::format("the most is {}", ShareSpec::kMaxTag), "write a shorter one"};
    },
};

}  // namespace vmm
