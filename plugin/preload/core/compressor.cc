#include "core/compressor.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "core/judge.h"
#include "core/kernels.h"
#include "core/state.h"
#include "device/cuda/memory.h"
#include "runtime/in_place.h"
#include "runtime/stream/stream_executor.h"

namespace slimccl::overlay {
namespace {

Compressed prepare(Entry& entry, const Call& call, const Outcome& outcome, const Buffers& buffers) {
  Compressed one{.compressor = entry.compressor_now(),
                 .entry = &entry,
                 .shape = {.op = collective_of(call.op), .type = call.type, .count = call.count},
                 .row = outcome.row,
                 .codecs = outcome.codecs,
                 .buffers = buffers,
                 .in_place = false,
                 .scale = 1,
                 .device_scale = nullptr};
  check(one.compressor != nullptr, ncclInvalidUsage, "this communicator was ended");
  check(buffers.from != nullptr && buffers.into != nullptr, ncclInvalidArgument, name(call.op),
        ": ", buffers.from == nullptr ? "sendbuff" : "recvbuff", " is null");
  if (call.op != Operation::kAllGather) {
    const auto how = entry.reductions.resolve(call.reduction, call.type, entry.ranks);
    one.shape.scaling = how.scaling;
    one.scale = how.scale.f32;
    one.device_scale = how.device_scalar;
  }
  const runtime::Call whole{.op = one.shape.op,
                            .type = call.type,
                            .count = call.count,
                            .input = buffers.from,
                            .output = buffers.into};
  one.in_place = runtime::layout_of(whole, entry.ranks, entry.rank).in_place;
  return one;
}

runtime::StreamCall to_stream_call(const Compressed& one) {
  return {.team = &one.compressor->team,
          .shape = one.shape,
          .row = one.row,
          .codecs = one.codecs,
          .input = static_cast<const std::byte*>(one.buffers.from),
          .output = static_cast<std::byte*>(one.buffers.into),
          .in_place = one.in_place,
          .stream = reinterpret_cast<device::CUstream>(one.buffers.stream),
          .scale = one.scale,
          .device_scale = one.device_scale};
}

// Throws Error.
void enqueue_calls(const std::vector<Compressed>& calls) {
  std::vector<runtime::StreamTeam*> teams;
  // By copy of NCCL, in order: a group is of one copy.
  std::vector<std::pair<const slimccl_nccl*, std::vector<runtime::StreamCall>>> copies;
  for (const Compressed& one : calls) {
    teams.push_back(&one.compressor->team);
    const slimccl_nccl* nccl = one.entry->nccl;
    auto copy = std::ranges::find(copies, nccl, [](const auto& each) { return each.first; });
    if (copy == copies.end()) copy = copies.insert(copies.end(), {nccl, {}});
    copy->second.push_back(to_stream_call(one));
  }
  std::ranges::sort(teams, std::less<>());
  const auto [first, last] = std::ranges::unique(teams);
  teams.erase(first, last);
  std::vector<std::unique_lock<std::mutex>> locks;
  for (runtime::StreamTeam* team : teams) locks.emplace_back(team->mutex());
  for (const Compressed& one : calls) one.entry->need_whole();  // others may have called since
  for (const auto& [nccl, stream_calls] : copies) runtime::enqueue(stream_calls);
}

// Frees what aborted communicators have left.
void bury() {
  State& state = State::instance();
  std::vector<std::shared_ptr<Compressor>> dead;
  const std::lock_guard lock(state.graves_mutex);
  dead.swap(state.graves);
}

}  // namespace

Compressor::Compressor(const Gpu& gpu, int device, const topology::Topology& topology, int rank,
                       std::unique_ptr<RealLink> messages, uint64_t arena_bytes)
    : link(messages.get()),
      team(gpu.driver, gpu.kernels, device, topology, rank, std::move(messages), arena_bytes),
      sampler(gpu.driver, team.context()) {}

bool Compressor::captures(cudaStream_t stream) const {
  const device::Driver& driver = loaded_gpu()->driver;
  const device::CurrentContext current(driver, team.context());
  auto status = device::CU_STREAM_CAPTURE_STATUS_NONE;
  const device::CUresult result =
      driver.cuStreamIsCapturing.result(reinterpret_cast<device::CUstream>(stream), &status);
  if (result == device::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT) return true;
  return result == device::CUDA_SUCCESS && status != device::CU_STREAM_CAPTURE_STATUS_NONE;
}

void Compressor::join_node() {
  const device::CurrentContext current(loaded_gpu()->driver, team.context());
  const topology::Topology& topology = team.topology();
  link->join_node(topology.node_of(team.rank()), topology.local_of(team.rank()));
}

void Compressor::leave_node(RealLink::NodeEnd how) noexcept {
  try {
    const device::CurrentContext current(loaded_gpu()->driver, team.context());
    link->leave_node(how);
  } catch (const std::exception& error) {
    warn_of("a node's communicator is not ended: ", error);
  }
}

std::shared_ptr<Compressor> make_compressor(const slimccl_nccl& nccl, ncclComm_t comm, int device,
                                            const topology::Topology& topology, int rank,
                                            uint64_t arena_bytes) {
  const Gpu* gpu = loaded_gpu();
  bury();
  ensure(gpu != nullptr, "a communicator compresses without CUDA kernels");
  auto link = std::make_unique<RealLink>(nccl, comm, State::instance().issuing);
  return std::make_shared<Compressor>(*gpu, device, topology, rank, std::move(link), arena_bytes);
}

ncclResult_t compress(Entry& entry, const Call& call, const Outcome& outcome,
                      const Buffers& buffers) noexcept {
  try {
    std::vector<Compressed> one;
    one.push_back(prepare(entry, call, outcome, buffers));
    ThreadState& thread = ThreadState::current();
    if (thread.depth == 0) return enqueue_all(one);
    thread.compressed.push_back(std::move(one.front()));
    return ncclSuccess;
  } catch (const std::exception& error) {
    return fail_call(code_of(error), error.what());
  }
}

ncclResult_t enqueue_all(const std::vector<Compressed>& calls) noexcept {
  if (calls.empty()) return ncclSuccess;
  ncclResult_t result = ncclSystemError;
  std::string text;
  try {
    enqueue_calls(calls);
    return ncclSuccess;
  } catch (const std::exception& error) {
    result = code_of(error);
    text = error.what();
  }
  for (const Compressed& one : calls) {
    one.entry->break_off(result, concat("an earlier compressed call failed half-way: ", text));
  }
  return fail(result, std::move(text));
}

}  // namespace slimccl::overlay
