#include "api/stream.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "api/export.h"
#include "api/guard.h"
#include "base/error.h"
#include "slimccl/slimccl.h"

namespace slimccl::api {
namespace {

using runtime::Completion;

struct Entry {
  std::shared_ptr<Completion> completion;
  Communicators communicators;
};

// What is on a stream and not yet waited for, in order. What has ended well is swept out when there
// are so many entries.
constexpr size_t kSweep = 64;
struct Stream {
  std::vector<Entry> entries;
  size_t sweep_at = kSweep;
  pid_t process = getpid();
};
using Completions = std::vector<std::shared_ptr<Completion>>;

struct Streams {
  std::mutex mutex;
  std::map<uintptr_t, Stream> streams;
  uintptr_t next = 0;
};

Streams& all_streams() {
  static auto* const value = new Streams;  // as the registry of communicators
  return *value;
}

constexpr uintptr_t kFirstHandle = 0x53000000;

Stream& find_stream(Streams& all, cudaStream_t handle) {
  const auto number = reinterpret_cast<uintptr_t>(handle);
  const auto found = all.streams.find(number);
  if (found != all.streams.end()) {
    // Nobody in a forked child would ever finish what its parent queued.
    check(found->second.process == getpid(), ncclInvalidUsage,
          "this stream was made before a fork: only the parent process can use it");
    return found->second;
  }
  check(number != 0, ncclInvalidArgument, "the stream is null");
  throw Error(ncclInvalidArgument,
              concat("0x", std::hex, number, " is no living stream of slimcclStreamCreate"));
}

bool ended_well(const Entry& each) {
  return each.completion->done() && each.completion->code() == ncclSuccess;
}

void sweep(Stream& stream) {
  if (stream.entries.size() < stream.sweep_at) return;
  std::erase_if(stream.entries, ended_well);
  stream.sweep_at = std::max(kSweep, 2 * stream.entries.size());
}

bool takes_part(const std::weak_ptr<const void>& communicator, const Entry& entry) {
  return std::ranges::any_of(entry.communicators, [&](const auto& each) {
    return !each.owner_before(communicator) && !communicator.owner_before(each);
  });
}

// A communicator runs its works in order, and begins one when all that was ahead of it is done. So
// a new part need only wait for what came after its communicator's last part, and for the other
// parts of that. All of it, not its last alone: one that failed may have ended before those ahead.
void add_what_precedes(const Stream& stream, const std::weak_ptr<const void>& communicator,
                       Completions& before) {
  for (auto entry = stream.entries.rbegin(); entry != stream.entries.rend(); ++entry) {
    const bool last = takes_part(communicator, *entry);
    if (last && entry->communicators.size() == 1) return;
    if (!entry->completion->done()) before.push_back(entry->completion);
    if (last) return;
  }
}

Completions snapshot(cudaStream_t handle) {
  Streams& all = all_streams();
  const std::lock_guard lock(all.mutex);
  Completions completions;
  for (const Entry& each : find_stream(all, handle).entries) completions.push_back(each.completion);
  return completions;
}

void take_out(cudaStream_t handle, const Completions& what) {
  Streams& all = all_streams();
  const std::lock_guard lock(all.mutex);
  const std::unordered_set<std::shared_ptr<Completion>> gone(what.begin(), what.end());
  std::erase_if(find_stream(all, handle).entries,
                [&](const Entry& each) { return gone.contains(each.completion); });
}

}  // namespace

cudaStream_t add_stream() {
  Streams& all = all_streams();
  const std::lock_guard lock(all.mutex);
  const uintptr_t handle = kFirstHandle + 16 * ++all.next;
  all.streams[handle];
  return reinterpret_cast<cudaStream_t>(handle);
}

void wait_for_stream(cudaStream_t handle) {
  const Completions waited = snapshot(handle);
  for (const auto& each : waited) each->wait();
  take_out(handle, waited);
  for (const auto& each : waited) each->check_success();
}

bool stream_is_idle(cudaStream_t handle) {
  const Completions seen = snapshot(handle);
  if (!std::ranges::all_of(seen, [](const auto& each) { return each->done(); })) return false;
  for (const auto& each : seen) each->check_success();
  return true;
}

void remove_stream(cudaStream_t handle) {
  for (const auto& each : snapshot(handle)) each->wait();
  Streams& all = all_streams();
  const std::lock_guard lock(all.mutex);
  all.streams.erase(reinterpret_cast<uintptr_t>(handle));
}

bool is_host_stream(cudaStream_t handle) {
  Streams& all = all_streams();
  const std::lock_guard lock(all.mutex);
  return all.streams.contains(reinterpret_cast<uintptr_t>(handle));
}

void check_stream(cudaStream_t handle) {
  if (handle == nullptr) return;
  Streams& all = all_streams();
  const std::lock_guard lock(all.mutex);
  (void)find_stream(all, handle);
}

std::vector<Completions> append_to_streams(std::span<const cudaStream_t> handles,
                                           const std::shared_ptr<Completion>& next,
                                           const Communicators& communicators) {
  Streams& all = all_streams();
  const std::lock_guard lock(all.mutex);
  std::vector<Stream*> streams;
  for (const cudaStream_t handle : handles) streams.push_back(&find_stream(all, handle));
  std::vector<Completions> before(communicators.size());
  for (Stream* stream : streams) {
    sweep(*stream);
    for (size_t part = 0; part < communicators.size(); ++part)
      add_what_precedes(*stream, communicators[part], before[part]);
    stream->entries.push_back({next, communicators});
  }
  return before;
}

}  // namespace slimccl::api

namespace api = slimccl::api;

SLIMCCL_EXPORT ncclResult_t slimcclStreamCreate(cudaStream_t* stream) {
  return api::guard("slimcclStreamCreate", [&] {
    slimccl::check(stream != nullptr, ncclInvalidArgument, "stream is null");
    *stream = api::add_stream();
  });
}

SLIMCCL_EXPORT ncclResult_t slimcclStreamSynchronize(cudaStream_t stream) {
  return api::guard("slimcclStreamSynchronize", [&] { api::wait_for_stream(stream); });
}

SLIMCCL_EXPORT ncclResult_t slimcclStreamQuery(cudaStream_t stream) {
  return api::guard("slimcclStreamQuery",
                    [&] { return api::stream_is_idle(stream) ? ncclSuccess : ncclInProgress; });
}

SLIMCCL_EXPORT ncclResult_t slimcclStreamDestroy(cudaStream_t stream) {
  return api::guard("slimcclStreamDestroy", [&] { api::remove_stream(stream); });
}
