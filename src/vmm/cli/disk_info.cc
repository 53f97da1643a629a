// vmm disk info, check.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "vmm/cli/disk_parts.h"
#include "vmm/cli/output.h"
#include "vmm/config/value_parsers.h"
#include "vmm/core/block/qcow2_check.h"

namespace vmm {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// One image of a chain. Each is only looked at, so locks of a running machine are no obstacle.
Result<Json> Describe(const std::filesystem::path& path, std::optional<ImageFormat> format) {
  auto file = HostFile::Open(path, {.writable = false, .direct = false, .lock = false});
  if (!file) return tl::unexpected(file.error());
  if (!format) {
    const auto found = DetectFormat(**file);
    if (!found) return tl::unexpected(found.error());
    format = *found;
  }
  Json json;
  json["file"] = path.string();
  json["format"] = Name(*format);
  if (*format == ImageFormat::kRaw) {
    json["size"] = ((*file)->size() + 511) / 512 * 512;
    json["allocated"] = (*file)->allocated();
    return json;
  }
  const auto header = Qcow2Image::ReadHeader(**file);
  if (!header) return tl::unexpected(header.error());
  json["size"] = header->size;
  json["allocated"] = (*file)->allocated();
  json["version"] = header->version;
  json["cluster_size"] = header->cluster_size();
  json["refcount_bits"] = 1U << header->refcount_order;
  json["compression"] = header->compression == Qcow2Header::Compression::kZlib ? "zlib" : "zstd";
  json["lazy_refcounts"] = (header->compatible & Qcow2Header::kLazyRefcounts) != 0;
  json["snapshots"] = header->snapshots;
  json["dirty"] = header->is_dirty();
  json["corrupt"] = header->is_corrupt();
  if (!header->backing_file.empty()) {
    json["backing_file"] = header->backing_file;
    json["backing_format"] = header->backing_format;
    json["backing_path"] = BackingPath(path, header->backing_file).string();
  }
  return json;
}

std::string InWords(const Json& json) {
  const auto size = [&](const char* key) {
    const uint64_t bytes = json[key];
    const std::string rounded = FormatSize(bytes);
    return rounded.ends_with("bytes") ? rounded : fmt::format("{} ({} bytes)", rounded, bytes);
  };
  std::string text = fmt::format("file:       {}\nformat:     {}\nsize:       {}\non disk:    {}\n",
                                 json["file"].get<std::string>(), json["format"].get<std::string>(),
                                 size("size"), size("allocated"));
  if (!json.contains("version")) return text;
  text += fmt::format("version:    {}\nclusters:   {}\nrefcounts:  {} bits\ncompressed: {}\n",
                      json["version"].get<int>(), FormatSize(json["cluster_size"].get<uint64_t>()),
                      json["refcount_bits"].get<int>(), json["compression"].get<std::string>());
  if (json["lazy_refcounts"]) text += "lazy:       its refcounts may lag behind\n";
  if (json["snapshots"] != 0) {
    text += fmt::format("snapshots:  {}, so vmm only reads it\n", json["snapshots"].get<int>());
  }
  if (json["dirty"]) text += "dirty:      it was not closed; it is repaired when it is written\n";
  if (json["corrupt"]) text += "corrupt:    it is marked so; vmm disk check tells more\n";
  if (json.contains("backing_file")) {
    const std::string format = json["backing_format"];
    text += fmt::format("backing:    {} ({})\n", json["backing_file"].get<std::string>(),
                        format.empty() ? "its format is looked for" : format);
  }
  return text;
}

Json ToJson(const Qcow2CheckReport& report) {
  Json json;
  json["corruptions"] = report.corruptions;
  json["leaks"] = report.leaks;
  json["clusters"] = report.clusters;
  json["allocated"] = report.allocated;
  json["compressed"] = report.compressed;
  json["end"] = report.end;
  json["messages"] = report.messages;
  return json;
}

std::string InWords(const Qcow2CheckReport& report) {
  std::string text;
  for (const std::string& message : report.messages) text += message + "\n";
  const double share = report.clusters == 0 ? 0.0
                                            : 100.0 * static_cast<double>(report.allocated) /
                                                  static_cast<double>(report.clusters);
  text += fmt::format("{} corruptions, {} leaked clusters\n{} of {} clusters are here ({:.1f}%)",
                      report.corruptions, report.leaks, report.allocated, report.clusters, share);
  if (report.compressed != 0) text += fmt::format(", {} compressed", report.compressed);
  return text + "\n";
}

}  // namespace

Result<void> DescribeDisk(const DiskOptions& options) {
  auto format = ParseFormat("--source-format", options.source_format);
  if (!format) return tl::unexpected(format.error());
  constexpr size_t kMaxChain = 64;
  Json all = Json::array();
  std::filesystem::path path = options.file;
  std::optional<ImageFormat> kind = *format;
  do {
    auto json = Describe(path, kind);
    if (!json) return tl::unexpected(json.error());
    all.push_back(*json);
    if (!json->contains("backing_path")) break;
    path = (*json)["backing_path"].get<std::string>();
    kind = ImageFormatOf((*json)["backing_format"].get<std::string>());
    if (all.size() == kMaxChain) {
      return Fail(ExitCode::kImageCorrupt, fmt::format("the chain of backing files of {} does not "
                                                       "end; fix: restore a backup",
                                                       options.file.string()));
    }
  } while (options.chain);
  if (options.json) return PrintText(Dump(options.chain ? all : all[0]));
  std::string text;
  for (const Json& json : all) text += (text.empty() ? "" : "\n") + InWords(json);
  return PrintText(text);
}

Result<void> CheckDisk(const DiskOptions& options) {
  auto file =
      HostFile::Open(options.file, {.writable = options.repair, .direct = false, .lock = true});
  if (!file) return tl::unexpected(file.error());
  const auto format = DetectFormat(**file);
  if (!format) return tl::unexpected(format.error());
  if (*format == ImageFormat::kRaw) {
    return PrintText(options.json ? Dump(ToJson({}))
                                  : "a raw image has nothing that could be inconsistent\n");
  }
  Result<Qcow2CheckReport> report;
  {
    ProgressBar bar("checking", options.quiet);
    const CheckProgress show = [&](uint64_t done, uint64_t all) { bar.Show(done, all); };
    report = CheckQcow2(**file, show);
    if (report && options.repair) {
      if (auto repaired = RepairQcow2(**file); !repaired) return repaired;
      report = CheckQcow2(**file, show);
    }
  }
  if (!report) return tl::unexpected(report.error());
  auto printed = PrintText(options.json ? Dump(ToJson(*report)) : InWords(*report));
  if (!printed) return printed;
  if (report->corruptions == 0) return {};
  return Fail(
      ExitCode::kImageCorrupt,
      fmt::format("{} has {} corruptions; fix: {}", options.file.string(), report->corruptions,
                  options.repair || report->unmendable != 0
                      ? "restore a backup"
                      : fmt::format("vmm disk check --repair {}", options.file.string())));
}

}  // namespace vmm
