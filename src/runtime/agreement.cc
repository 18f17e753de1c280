#include "runtime/agreement.h"

#include <map>
#include <type_traits>

#include "base/error.h"
#include "quant/codec.h"
#include "runtime/placement.h"
#include "runtime/serial.h"

namespace slimccl::runtime {
namespace {

constexpr uint32_t kRecordMagic = 0x52434c53;  // "SLCR"

// Visits the fields of a record in their order on the wire.
template <class RecordType, class Visitor>
void for_each_field(RecordType& record, Visitor&& visit) {
  visit(record.version);
  visit(record.node);
  visit(record.host);
  visit(record.process);
  visit(record.ucx_version);
  visit(record.pid);
  visit(record.error);
  visit(record.profile);
  visit(record.overrides);
  visit(record.floor_elems);
  visit(record.segment_elems);
  visit(record.window);
  visit(record.net_gbits);
  visit(record.checks);
  visit(record.device);
  visit(record.staging_mb);
  visit(record.family);
}

// "exact on ranks 0, 2; zeropp on ranks 1, 3"
std::string who_has_what(std::span<const Record> records, std::string Record::*field) {
  std::map<std::string, std::string> ranks;
  for (size_t rank = 0; rank < records.size(); ++rank) {
    std::string& list = ranks[records[rank].*field];
    list += concat(list.empty() ? "" : ", ", rank);
  }
  std::string text;
  for (const auto& [value, list] : ranks)
    text += concat(text.empty() ? "" : "; ", value, " on ranks ", list);
  return text;
}

bool all_equal(std::span<const Record> records, std::string Record::*field) {
  for (const Record& record : records) {
    if (record.*field != records.front().*field) return false;
  }
  return true;
}

// Calls on CUDA memory are cut into pieces, on all ranks or on none.
void agree_on_staging(std::span<const Record> records, Agreement& agreement) {
  std::string with, without;
  for (size_t rank = 0; rank < records.size(); ++rank) {
    std::string& list = records[rank].device >= 0 ? with : without;
    list += concat(list.empty() ? "" : ", ", rank);
  }
  if (with.empty()) return;
  if (without.empty()) {
    agreement.staging_bytes = records.front().staging_mb << 20;
    return;
  }
  agreement.warning +=
      concat(agreement.warning.empty() ? "" : "; ", "ranks ", with,
             " have a CUDA device current and ranks ", without,
             " have none, so this communicator takes host memory only; make a device current on "
             "all ranks before they make it");
}

}  // namespace

std::vector<std::byte> to_bytes(const Record& record) {
  ByteWriter writer;
  writer.put(kRecordMagic);
  for_each_field(record, [&](const auto& field) {
    if constexpr (std::is_same_v<decltype(field), const std::string&>) {
      writer.put_block(field);
    } else {
      writer.put(field);
    }
  });
  return writer.finish();
}

Record record_from_bytes(ConstBytes bytes) {
  ByteReader reader(bytes, "a rank's set-up record");
  check(reader.get<uint32_t>() == kRecordMagic, ncclRemoteError,
        "a rank sent no set-up record; are all ranks running libslimccl?");
  Record record;
  for_each_field(record, [&](auto& field) {
    using Field = std::remove_reference_t<decltype(field)>;
    if constexpr (std::is_same_v<Field, std::string>) {
      field = reader.text();
    } else {
      field = reader.get<Field>();
    }
  });
  return record;
}

Agreement agree(std::span<const Record> records) {
  for (size_t rank = 0; rank < records.size(); ++rank) {
    check(records[rank].error.empty(), ncclInvalidUsage, "rank ", rank, " (host ",
          records[rank].host, ") cannot take part: ", records[rank].error);
  }
  check(all_equal(records, &Record::version), ncclInvalidUsage,
        "ranks run different versions of libslimccl: ", who_has_what(records, &Record::version),
        "; install one version everywhere");
  topology::Topology topology = topology_of(by_rank(records, &Record::node));
  check(topology.nodes() == 1 || all_equal(records, &Record::ucx_version), ncclInvalidUsage,
        "ranks run different versions of UCX, which do not talk to each other: ",
        who_has_what(records, &Record::ucx_version), "; install one version everywhere");
  const Record& first = records.front();
  Agreement agreement{.topology = std::move(topology),
                      .policy = {},
                      .segment_elems = 0,
                      .window = first.window,
                      .checks = first.checks != 0,
                      .families = families_of(by_rank(records, &Record::family)),
                      .warning = ""};
  agreement.policy = {first.profile, first.overrides, first.floor_elems, first.net_gbits * 1e9 / 8};
  agreement.segment_elems = round_up(first.segment_elems, quant::kSuperblock);
  if (!all_equal(records, &Record::profile)) {
    agreement.policy.profile = "exact";
    agreement.warning =
        concat("SLIMCCL_PROFILE differs between ranks, so this communicator is exact: ",
               who_has_what(records, &Record::profile), "; set it alike everywhere");
  }
  agree_on_staging(records, agreement);
  return agreement;
}

}  // namespace slimccl::runtime
