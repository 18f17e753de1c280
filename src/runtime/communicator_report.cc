// What a communicator tells people: how calls are carried, what is active, what it saved.
#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "runtime/communicator.h"

namespace slimccl::runtime {
namespace {

using collectives::Kind;
using collectives::Plan;
using collectives::Shape;

uint64_t bytes_to_other_nodes(const Plan& plan, const topology::Topology& topology, int rank) {
  uint64_t bytes = 0;
  for (const auto& step : plan.steps) {
    const bool crosses =
        step.kind == Kind::kSend && topology.node_of(step.peer) != topology.node_of(rank);
    if (crosses) bytes += step.from.front().slice.bytes;
  }
  return bytes;
}

}  // namespace

std::string Communicator::async_error_text() const {
  const std::lock_guard lock(mutex_);
  return async_text_;
}

Stats Communicator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

std::string Communicator::explain(const Shape& shape, bool paused) const {
  const auto& topology = agreement_.topology;
  const collectives::Choice choice = select(shape, topology, agreement_.policy, paused);
  const collectives::Codecs used = choice.row->lossy ? choice.codecs : collectives::Codecs{};
  const Shape call = cut_by(*choice.row, shape);
  const uint64_t sent =
      bytes_to_other_nodes(choice.row->plan(call, topology, used, rank_, false), topology, rank_);
  const uint64_t exact = choice.row->lossy ? rank_out_bytes(shape, topology, {}, rank_) : sent;
  Shape segment = call;
  segment.elems = segment_elems(*choice.row, call, topology,
                                {agreement_.segment_elems, agreement_.window, kArenaBytes});
  std::string text =
      concat(name(shape.op), " of ", shape.count, " x ", quant::type_name(shape.type), " on ",
             to_text(topology), ": ", choice.row->name, " because ", choice.reason);
  text += concat("\ncodecs: partial sums ", quant::name(used.reduce), ", gathered ",
                 quant::name(used.gather));
  text += concat("\nrank ", rank_, " sends ", sent, " bytes to other nodes, exact ", exact,
                 "\nplan of one segment: ");
  return text + to_text(choice.row->plan(segment, topology, choice.codecs, rank_, false));
}

double Communicator::estimated_seconds(const Work& work) const {
  const double rate = agreement_.policy.net_bytes_per_s;
  double seconds = 0;
  for (const Operation& operation : work.collectives) {
    seconds += collectives::estimated_seconds(*operation.choice.row, operation.shape,
                                              agreement_.topology, operation.choice.codecs, rate);
  }
  for (const Transfer& transfer : work.transfers) {
    if (transfer.kind == Transfer::Kind::kSend)
      seconds += static_cast<double>(transfer.bytes) / rate;
  }
  return seconds;
}

void Communicator::report_start() const {
  if (!agreement_.warning.empty() && rank_ == 0) log::warn(agreement_.warning);
  if (rank_ != 0) return;
  const auto& policy = agreement_.policy;
  log::notice(name_, name_.empty() ? "" : ": ", ranks(), " ranks on ", agreement_.topology.nodes(),
              " node(s) (", to_text(agreement_.topology), "), profile ", policy.profile,
              policy.profile == "exact"
                  ? ": nothing is compressed (SLIMCCL_PROFILE=zeropp compresses between nodes)"
                  : concat(": calls of ", policy.floor_elems,
                           " elements per rank and more are compressed between nodes"),
              agreement_.checks ? "; SLIMCCL_CHECK compares every call's arguments first" : "");
}

void Communicator::report_savings() const {
  const Stats total = stats();
  if (rank_ != 0 || async_error_ != ncclSuccess) return;
  const auto ratio = static_cast<double>(total.exact_bytes_between_nodes) /
                     static_cast<double>(std::max<uint64_t>(1, total.bytes_between_nodes));
  std::string exact;
  for (const auto& [kind, calls] : total.calls_by_kind) {
    if (kind != "compressed") exact += concat(exact.empty() ? "" : ", ", calls, " (", kind, ")");
  }
  log::notice(name_, name_.empty() ? "" : ": ", "rank 0: ", total.calls, " calls, ",
              total.compressed_calls, " compressed", exact.empty() ? "" : ", exact: ", exact,
              total.transfers > 0 ? concat(", ", total.transfers, " messages point to point") : "",
              "; ", total.bytes_between_nodes,
              " bytes sent to other nodes, exact calls would have sent ",
              total.exact_bytes_between_nodes,
              total.bytes_between_nodes > 0 ? concat(": ", ratio, " times as many") : "");
}

}  // namespace slimccl::runtime
