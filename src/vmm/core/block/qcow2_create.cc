#include "vmm/core/block/qcow2_create.h"

#include <algorithm>
#include <cerrno>

#include "vmm/core/block/big_endian.h"
#include "vmm/core/block/qcow2_refcounts.h"

namespace vmm {

// Header, refcount table, its blocks, L1 table: one after the other, the header last in time.
int CreateQcow2(BlockFile& file, Qcow2Header header) {
  const uint64_t size = header.cluster_size();
  const uint64_t l1_bytes = header.needed_l1_entries() * 8;
  if (header.size > INT64_MAX || l1_bytes > Qcow2Header::kMaxL1Bytes) return EFBIG;
  if (header.compression != Qcow2Header::Compression::kZlib) {
    header.incompatible |= Qcow2Header::kCompressionType;
  }
  const uint64_t l1 = std::max<uint64_t>(1, (l1_bytes + size - 1) / size);
  const uint64_t per_block = size * 8 >> header.refcount_order;
  uint64_t blocks = 1, table = 1;
  for (;;) {  // the blocks count themselves and the table too
    const uint64_t all = 1 + table + blocks + l1;
    const uint64_t needed_blocks = (all + per_block - 1) / per_block;
    const uint64_t needed_table = (needed_blocks * 8 + size - 1) / size;
    if (needed_blocks <= blocks && needed_table <= table) break;
    blocks = std::max(blocks, needed_blocks);
    table = std::max(table, needed_table);
  }
  const uint64_t first_block = 1 + table, first_l1 = first_block + blocks;
  std::vector<uint8_t> bytes(size * table);
  for (uint64_t i = 0; i < blocks; ++i) {
    StoreBigEndian(&bytes[i * 8], (first_block + i) * size);
  }
  if (const int error = WriteAt(file, size, bytes)) return error;
  const std::vector<uint8_t> zeros(size);
  for (uint64_t i = first_block; i < first_l1 + l1; ++i) {
    if (const int error = WriteAt(file, i * size, zeros)) return error;
  }
  header.refcount_table_offset = size;
  header.refcount_table_clusters = static_cast<uint32_t>(table);
  header.l1_offset = first_l1 * size;
  header.l1_entries = static_cast<uint32_t>(header.needed_l1_entries());
  Qcow2Refcounts counts(file, header);
  if (const int error = counts.Load()) return error;
  for (uint64_t i = 0; i < first_l1 + l1; ++i) {
    if (const int error = counts.Add(i, 1)) return error;
  }
  const Qcow2Refcounts::Owed owed = counts.TakeOwed();
  for (const MetadataWrite& write : owed.blocks) {
    if (const int error = WriteAt(file, write.offset, write.bytes)) return error;
  }
  if (const int error = file.Sync()) return error;
  if (const int error = WriteAt(file, 0, header.Serialize())) return error;
  return file.Sync();
}

}  // namespace vmm
