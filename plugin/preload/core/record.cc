#include "core/record.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <type_traits>

#include "base/error.h"
#include "core/kernels.h"
#include "runtime/placement.h"
#include "runtime/serial.h"
#include "runtime/signature.h"

namespace slimccl::overlay {
namespace {

constexpr uint32_t kRecordMagic = 0x4f434c53;  // "SLCO"

// Visits the fields after the version, in their order on the wire.
template <class RecordType, class Visitor>
void for_each_field(RecordType& record, Visitor&& visit) {
  visit(record.messages);
  visit(record.node);
  visit(record.nvlink);
  visit(record.settings);
  visit(record.name);
  visit(record.kernels);
  visit(record.host);
  visit(record.family);
  visit(record.arena_bytes);
  visit(record.nccl_version);
  visit(record.checks);
}

// Empty if all are equal, else "rank 0: a; ranks 1-3: b".
std::string difference(std::span<const Record> records, std::string Record::*field) {
  const std::vector<std::string> texts = runtime::by_rank(records, field);
  const bool equal = std::ranges::all_of(texts, [&](const auto& each) { return each == texts[0]; });
  return equal ? "" : runtime::who_says_what(texts);
}

// Why the ranks' records do not fit together; kCompressible if they do.
Verdict objection(std::span<const Record> records) {
  const auto no = [](Reason reason, std::string why) {
    return Verdict{.standing = reason, .why = std::move(why), .warns = true};
  };
  if (const std::string who = difference(records, &Record::version); !who.empty()) {
    return no(Reason::kVersion, concat("ranks run different versions of SlimCCL: ", who,
                                       "; install one version everywhere"));
  }
  if (const std::string who = difference(records, &Record::messages); !who.empty()) {
    return no(Reason::kVersion, concat("ranks speak different message versions: ", who));
  }
  if (const std::string who = difference(records, &Record::settings); !who.empty()) {
    return no(Reason::kSettings,
              concat("settings differ between ranks: ", who, "; set SLIMCCL_* alike everywhere"));
  }
  const std::string& kernels = records.front().kernels;
  const std::string who = difference(records, &Record::kernels);
  if (!who.empty() || (kernels != kKernelsOk && kernels != kKernelsNotTried)) {
    return no(Reason::kKernels,
              concat("the CUDA kernels cannot be used: ", who.empty() ? kernels : who));
  }
  return {.standing = Reason::kCompressible};
}

}  // namespace

std::vector<std::byte> to_bytes(const Record& record) {
  runtime::ByteWriter writer;
  writer.put(kRecordMagic).put_block(record.version);
  for_each_field(record, [&](const auto& field) {
    if constexpr (std::is_same_v<decltype(field), const std::string&>) {
      writer.put_block(field);
    } else {
      writer.put(field);
    }
  });
  return writer.finish();
}

Record record_from_bytes(ConstBytes bytes, std::string_view own_version) {
  runtime::ByteReader reader(bytes, "a rank's set-up record");
  check(reader.get<uint32_t>() == kRecordMagic, ncclRemoteError,
        "a rank sent no set-up record of the overlay");
  Record record;
  record.version = reader.text();
  if (record.version != own_version) return record;
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

std::string settings_text(const Policy& policy) {
  std::array<char, 32> net{};  // all digits: what is equal as text must be equal
  std::to_chars(net.data(), net.data() + net.size(), policy.net_bytes_per_s);
  return concat("profile=", name(policy.profile), " floor=", policy.floor_elems,
                " algo=", policy.algo, " net=", net.data(), " rules=", digest(policy.rules));
}

Verdict agree(std::span<const Record> records) {
  Verdict verdict = objection(records);
  if (verdict.standing == Reason::kVersion) return verdict;  // the rest was not read
  verdict.topology = runtime::topology_of(runtime::by_rank(records, &Record::node));
  verdict.families = runtime::families_of(runtime::by_rank(records, &Record::family));
  verdict.name = records.front().name;
  verdict.names_differ = difference(records, &Record::name);
  verdict.checks = records.front().checks != 0;
  verdict.arena_bytes = std::ranges::min(records, {}, &Record::arena_bytes).arena_bytes;
  if (verdict.standing == Reason::kCompressible && verdict.topology->nodes() == 1) {
    verdict.standing = Reason::kOneNode;
    verdict.why = "all its ranks are on one node";
  }
  return verdict;
}

std::string explain_failure(std::string_view failure) {
  const size_t silent = failure.find(" did not come within ");
  if (silent == failure.npos) return std::string(failure);
  const std::string_view when = failure.substr(silent + std::strlen(" did not come within "));
  return concat(failure.substr(0, silent), " did not answer within ",
                when.substr(0, when.find(':')), ": is LD_PRELOAD set there?");
}

int speaker(std::string_view failure) {
  if (!failure.starts_with("rank")) return 0;
  const size_t first = failure.find(' ');
  if (first == failure.npos) return 0;
  int lowest = 0;
  const char* at = failure.data() + first + 1;
  const char* const end = failure.data() + failure.size();
  for (int from = 0; at < end;) {
    const auto [stop, bad] = std::from_chars(at, end, from);
    if (bad != std::errc{} || from > lowest) break;
    int last = from;
    at = stop;
    if (at < end && *at == '-') at = std::from_chars(at + 1, end, last).ptr;
    lowest = last + 1;
    if (end - at < 2 || *at != ',') break;
    at += 2;
  }
  return lowest;
}

}  // namespace slimccl::overlay
