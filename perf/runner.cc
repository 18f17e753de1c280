#include "runner.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "elements.h"
#include "expectation.h"

namespace slimccl::perf {
namespace {

// The same idea of a node as the library's: what is overridden, else boot id and /dev/shm.
std::string node_text() {
  for (const char* variable : {"SLIMCCL_NODE_ID", "NCCL_HOSTID"}) {
    if (const char* text = std::getenv(variable); text != nullptr && *text != '\0') return text;
  }
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  struct stat shared {};
  (void)stat("/dev/shm", &shared);
  return boot + ":" + std::to_string(shared.st_dev);
}

std::vector<int> find_nodes(SideChannel& channel) {
  const std::string text = node_text();
  const auto labels = channel.gather(hash_bytes(text.data(), text.size()));
  std::vector<int> nodes;
  nodes.reserve(labels.size());
  for (const uint64_t label : labels) {
    nodes.push_back(static_cast<int>(std::ranges::find(labels, label) - labels.begin()));
  }
  return nodes;
}

uint64_t sent_bytes(const std::string& network_interface) {
  uint64_t bytes = 0;
  const std::string path = "/sys/class/net/" + network_interface + "/statistics/tx_bytes";
  if (!(std::ifstream(path) >> bytes)) throw std::runtime_error("cannot read " + path);
  return bytes;
}

// The codecs that slimcclExplain's "codecs:" line names for this collective.
std::string codecs_in(const std::string& text, Collective collective) {
  const size_t line = text.find("codecs:");
  if (line == std::string::npos) return "?";
  const auto word_after = [&](const char* key) {
    const size_t at = text.find(key, line);
    if (at == std::string::npos) return std::string("?");
    const size_t begin = at + std::strlen(key);
    return text.substr(begin, text.find_first_of(", \n", begin) - begin);
  };
  std::string reduce = word_after("partial sums ");
  std::string gather = word_after("gathered ");
  if (collective == Collective::kReduceScatter) return reduce;
  if (collective == Collective::kAllGather) return gather;
  return reduce == gather ? reduce : reduce + "+" + gather;
}

}  // namespace

struct Runner::Buffers {
  std::vector<char> pristine, memory;
  void* send;
  void* recv;
};

Runner::Runner(const Options& options, const Place& place, SideChannel& channel, ncclComm_t comm)
    : options_(options),
      place_(place),
      channel_(channel),
      comm_(comm),
      node_of_(find_nodes(channel)),
      counts_wire_(false) {
  const int mine = node_of_[static_cast<size_t>(place_.rank)];
  counts_wire_ = !options_.network_interface.empty() && mine == place_.rank;  // a node's first rank
}

Runner::Meter Runner::read_meter() {
  channel_.barrier();
  Meter meter{};
  meter.stats.size = sizeof meter.stats;
  require(slimcclGetStats(comm_, &meter.stats), "slimcclGetStats");
  meter.wire = counts_wire_ ? sent_bytes(options_.network_interface) : 0;
  channel_.barrier();
  return meter;
}

void Runner::settle_codec(Row& row) {
  row.codec = "exact";
  if (!row.compressed) return;
  std::string text(65536, '\0');
  require(slimcclExplain(comm_, name(row.test.collective), row.test.count, row.test.type,
                         text.data(), text.size()),
          "slimcclExplain");
  row.codec = codecs_in(text.c_str(), row.test.collective);
}

Row Runner::run(const Case& test) {
  Row row{};
  row.test = test;
  // A first call tells whether this kind is compressed, and so which inputs can be checked how.
  const size_t width = element_bytes(test.type);
  std::vector<char> send(std::max<size_t>(1, test.send_elems() * width));
  std::vector<char> recv(std::max<size_t>(1, test.recv_elems() * width));
  const Inputs plain(Inputs::Kind::kIntegers, test.type, test.reduction, test.ranks);
  const Operation op(test.reduction, test.type, static_cast<float>(plain.scale(place_.rank)),
                     comm_);
  const Meter before = read_meter();
  call(test, send.data(), recv.data(), op.get(), comm_);
  const Meter after = read_meter();
  const auto compressed =
      channel_.gather(after.stats.compressed_calls - before.stats.compressed_calls);
  row.compressed = compressed.front() > 0;
  if (std::ranges::any_of(compressed, [&](uint64_t c) { return (c > 0) != row.compressed; })) {
    throw std::runtime_error("the ranks disagree on whether the call is compressed");
  }
  settle_codec(row);
  std::vector<char>().swap(send);
  std::vector<char>().swap(recv);
  const auto kind = row.compressed ? Inputs::Kind::kNatural : Inputs::Kind::kIntegers;
  const Inputs inputs(kind, test.type, test.reduction, test.ranks);
  row.out_of_place = place(row, inputs, false);
  row.in_place = place(row, inputs, true);
  return row;
}

Placement Runner::place(Row& row, const Inputs& inputs, bool in_place) {
  const Case& test = row.test;
  const size_t width = element_bytes(test.type);
  const size_t send_bytes = test.send_elems() * width;
  const size_t recv_bytes = test.recv_elems() * width;
  Buffers buffers;
  buffers.pristine.resize(std::max<size_t>(1, send_bytes));
  inputs.fill(buffers.pristine.data(), place_.rank, test.send_elems());
  buffers.memory.resize(
      std::max<size_t>(1, in_place ? std::max(send_bytes, recv_bytes) : recv_bytes));
  buffers.send = buffers.pristine.data();
  buffers.recv = buffers.memory.data();
  if (in_place) {
    const size_t own = static_cast<size_t>(place_.rank) * test.count * width;
    buffers.send = buffers.memory.data() + (test.collective == Collective::kAllGather ? own : 0);
    buffers.recv =
        buffers.memory.data() + (test.collective == Collective::kReduceScatter ? own : 0);
  }
  Placement result;
  const Operation op(test.reduction, test.type, static_cast<float>(inputs.scale(place_.rank)),
                     comm_);
  for (int i = 0; i < std::max(options_.checks, 0); ++i) {
    if (in_place) std::memcpy(buffers.send, buffers.pristine.data(), send_bytes);
    call(test, buffers.send, buffers.recv, op.get(), comm_);
    const Placement checked = check(row, inputs, buffers, in_place);
    result.wrong += checked.wrong;
    if (result.why.empty()) result.why = checked.why;
  }
  const Meter before = read_meter();
  result.time_us = time(row, buffers, op.get(), in_place);
  const Meter after = read_meter();
  if (in_place) return result;
  const double calls = options_.warmup + options_.iterations;
  struct Moved {
    uint64_t sent, exact, wire;
  };
  const Moved mine{after.stats.bytes_between_nodes - before.stats.bytes_between_nodes,
                   after.stats.exact_bytes_between_nodes - before.stats.exact_bytes_between_nodes,
                   after.wire - before.wire};
  for (const Moved& moved : channel_.gather(mine)) {
    row.bytes_between_nodes += static_cast<double>(moved.sent) / calls;
    row.exact_bytes += static_cast<double>(moved.exact) / calls;
    row.wire_bytes += static_cast<double>(moved.wire) / calls;
  }
  return result;
}

Placement Runner::check(Row& row, const Inputs& inputs, const Buffers& buffers, bool in_place) {
  const Expectation what{row.test, inputs, node_of_, place_.rank, row.codec};
  const Judge mine = judge_output(what, buffers.recv);
  Judge all;
  for (const Judge& judge : channel_.gather(mine)) all.add(judge);
  Placement result;
  const double tolerance = gain_tolerance(row.codec);
  std::string why = complaint(mine.result(), tolerance);
  const auto hashes = replica_hashes(row.test, buffers.recv);
  if (!hashes.empty()) {
    const auto bytes = channel_.gather_bytes(hashes.data(), hashes.size() * sizeof hashes[0]);
    std::vector<uint64_t> table(bytes.size() / sizeof(uint64_t));
    std::memcpy(table.data(), bytes.data(), bytes.size());
    const bool foreign = row.test.collective == Collective::kAllGather;
    const auto differing = differing_ranks(table, hashes.size(), foreign);
    if (std::ranges::find(differing, place_.rank) != differing.end()) {
      why += (why.empty() ? "" : "; ") + std::string("other bits than the other replicas");
    }
  }
  struct Verdict {
    uint64_t wrong;
    char why[200];
  };
  Verdict verdict{why.empty() ? 0 : std::max<uint64_t>(1, mine.result().wrong), {}};
  why.copy(verdict.why, sizeof verdict.why - 1);
  const auto verdicts = channel_.gather(verdict);
  for (size_t rank = 0; rank < verdicts.size(); ++rank) {
    result.wrong += verdicts[rank].wrong;
    if (verdicts[rank].wrong > 0 && result.why.empty()) {
      result.why = "rank " + std::to_string(rank) + ": " + verdicts[rank].why;
    }
  }
  if (!in_place) row.accuracy = all.result();
  return result;
}

double Runner::time(const Row& row, const Buffers& buffers, ncclRedOp_t op, bool in_place) {
  using Clock = std::chrono::steady_clock;
  std::chrono::duration<double, std::micro> spent{0};
  for (int i = 0; i < options_.warmup + options_.iterations; ++i) {
    // Back to the first data, or repeated sums in place would grow without end.
    if (in_place) {
      std::memcpy(buffers.send, buffers.pristine.data(),
                  row.test.send_elems() * element_bytes(row.test.type));
    }
    if (i == 0 || i == options_.warmup) channel_.barrier();
    const auto start = Clock::now();
    call(row.test, buffers.send, buffers.recv, op, comm_);
    if (i >= options_.warmup) spent += Clock::now() - start;
  }
  double sum = 0;  // nccl-tests' default: the average over ranks
  const auto all = channel_.gather(spent.count() / options_.iterations);
  for (const double each : all) sum += each;
  return sum / static_cast<double>(all.size());
}

}  // namespace slimccl::perf
