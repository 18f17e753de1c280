#include "runtime/agreement.h"

#include <cstring>
#include <map>

#include "base/error.h"
#include "quant/codec.h"

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
}

class Writer {
 public:
  template <class Number>
  void operator()(const Number& number) {
    const auto* first = reinterpret_cast<const std::byte*>(&number);
    bytes.insert(bytes.end(), first, first + sizeof number);
  }
  void operator()(const std::string& text) {
    (*this)(static_cast<uint32_t>(text.size()));
    const auto* first = reinterpret_cast<const std::byte*>(text.data());
    bytes.insert(bytes.end(), first, first + text.size());
  }
  std::vector<std::byte> bytes;
};

class Reader {
 public:
  explicit Reader(ConstBytes bytes) : left_(bytes) {}
  template <class Number>
  void operator()(Number& number) {
    std::memcpy(&number, take(sizeof number).data(), sizeof number);
  }
  void operator()(std::string& text) {
    uint32_t size = 0;
    (*this)(size);
    const ConstBytes bytes = take(size);
    text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

 private:
  ConstBytes take(size_t size) {
    check(size <= left_.size(), ncclRemoteError,
          "a rank sent a set-up record that is cut short; are all ranks running ",
          "the same libslimccl?");
    const ConstBytes taken = left_.first(size);
    left_ = left_.subspan(size);
    return taken;
  }
  ConstBytes left_;
};

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

topology::Topology topology_of(std::span<const Record> records) {
  std::map<std::string, int> labels;
  std::vector<int> nodes;
  for (const Record& record : records) {
    nodes.push_back(labels.try_emplace(record.node, static_cast<int>(labels.size())).first->second);
  }
  return topology::Topology(nodes);
}

}  // namespace

std::vector<std::byte> to_bytes(const Record& record) {
  Writer writer;
  writer(kRecordMagic);
  for_each_field(record, writer);
  return writer.bytes;
}

Record record_from_bytes(ConstBytes bytes) {
  Reader reader(bytes);
  uint32_t magic = 0;
  reader(magic);
  check(magic == kRecordMagic, ncclRemoteError,
        "a rank sent no set-up record; are all ranks running libslimccl?");
  Record record;
  for_each_field(record, reader);
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
  topology::Topology topology = topology_of(records);
  check(topology.nodes() == 1 || all_equal(records, &Record::ucx_version), ncclInvalidUsage,
        "ranks run different versions of UCX, which do not talk to each other: ",
        who_has_what(records, &Record::ucx_version), "; install one version everywhere");
  const Record& first = records.front();
  Agreement agreement{std::move(topology), {}, 0, first.window, ""};
  agreement.policy = {first.profile, first.overrides, first.floor_elems, first.net_gbits * 1e9 / 8};
  agreement.segment_elems = round_up(first.segment_elems, quant::kSuperblock);
  if (!all_equal(records, &Record::profile)) {
    agreement.policy.profile = "exact";
    agreement.warning =
        concat("SLIMCCL_PROFILE differs between ranks, so this communicator is exact: ",
               who_has_what(records, &Record::profile), "; set it alike everywhere");
  }
  return agreement;
}

}  // namespace slimccl::runtime
