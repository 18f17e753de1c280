#include "api/launch.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "api/stream.h"
#include "base/error.h"
#include "base/variant.h"
#include "runtime/staging/staged_work.h"

namespace slimccl::api {
namespace {

using runtime::Completion;
using runtime::Transfer;
using runtime::Work;

// One communicator's part of the group.
struct Part {
  std::shared_ptr<Comm> comm;
  std::shared_ptr<runtime::Communicator> communicator;
  Work work;
  std::vector<cudaStream_t> streams;  // of its calls, each once; null among them
};

void add_once(std::vector<cudaStream_t>& streams, cudaStream_t stream) {
  if (std::ranges::find(streams, stream) == streams.end()) streams.push_back(stream);
}

std::vector<Part> parts_of(std::vector<Task> tasks) {
  std::vector<Part> parts;
  for (Task& task : tasks) {
    auto found = std::ranges::find(parts, task.communicator, &Part::communicator);
    if (found == parts.end())
      found = parts.insert(parts.end(), {task.comm, task.communicator, Work{}, {}});
    add_once(found->streams, task.stream);
    if (task.collective) found->work.collectives.push_back(std::move(*task.collective));
    auto& transfers = found->work.transfers;
    transfers.insert(transfers.end(), task.transfers.begin(), task.transfers.end());
  }
  return parts;
}

// The n-th send to oneself and the n-th receive from oneself are a copy.
void pair_with_oneself(std::vector<Transfer>& transfers, int rank) {
  std::deque<Transfer> sends, recvs;
  std::vector<Transfer> rest;
  for (const Transfer& transfer : transfers) {
    const bool own = transfer.peer == rank && transfer.kind != Transfer::Kind::kCopy;
    if (!own) {
      rest.push_back(transfer);
    } else {
      (transfer.kind == Transfer::Kind::kSend ? sends : recvs).push_back(transfer);
    }
  }
  check(sends.size() == recvs.size(), ncclInvalidUsage, "rank ", rank, " sends itself ",
        sends.size(), " messages and receives ", recvs.size(),
        " of them in this group: a message to oneself needs both ends in one group");
  for (size_t i = 0; i < sends.size(); ++i) {
    check(sends[i].bytes == recvs[i].bytes, ncclInvalidArgument, "rank ", rank, " sends itself ",
          sends[i].bytes, " bytes and receives ", recvs[i].bytes);
    rest.push_back(
        {Transfer::Kind::kCopy, rank, sends[i].from, recvs[i].into, sends[i].bytes, sends[i].type});
  }
  transfers = std::move(rest);
}

// Checks what only the whole group shows.
std::vector<Part> prepared(std::vector<Task> tasks) {
  const bool blocking = tasks.front().comm->wishes().blocking;
  for (const Task& task : tasks) {
    check(task.comm->wishes().blocking == blocking, ncclInvalidUsage,
          "the group mixes blocking and non-blocking communicators: use one group for each");
  }
  std::vector<Part> parts = parts_of(std::move(tasks));
  for (Part& part : parts) pair_with_oneself(part.work.transfers, part.communicator->rank());
  std::erase_if(parts, [](const Part& part) {
    return part.work.collectives.empty() && part.work.transfers.empty();
  });
  return parts;
}

// A communicator that takes no work finishes its part with the reason, and the others go on: they
// may have begun.
void submit(Part& part, const std::shared_ptr<Completion>& completion,
            std::exception_ptr& failure) {
  part.work.completion = completion;
  try {
    part.communicator->submit(std::move(part.work));
  } catch (const Error& error) {
    completion->finish_part(error.code(), error.what());
    if (!failure) failure = std::current_exception();
  } catch (const std::exception& error) {
    completion->finish_part(ncclSystemError, error.what());
    if (!failure) failure = std::current_exception();
  }
}

// Whether it goes by CUDA's streams. Those of host memory are for calls that all are on such.
bool is_on_cuda(const Part& part) {
  if (part.comm->staging() == nullptr) return false;
  const auto host = std::ranges::count_if(part.streams, is_host_stream);
  check(host == 0 || host == std::ssize(part.streams), ncclInvalidUsage,
        "the group has calls of one communicator on CUDA streams and on streams of "
        "slimcclStreamCreate: use a group for each");
  return host == 0;
}

// What CUDA's streams carry. All of it is under way before any stream waits for some of it.
class StreamParts {
 public:
  // Takes its parts out of `parts`. Throws Error if their buffers are not usable; nothing has begun
  // then.
  explicit StreamParts(std::vector<Part>& parts) {
    for (Part& part : parts) {
      if (!is_on_cuda(part)) continue;
      std::vector<device::CUstream> streams;
      for (const cudaStream_t stream : part.streams)
        streams.push_back(reinterpret_cast<device::CUstream>(stream));
      works_.push_back(std::make_unique<runtime::StagedWork>(
          part.comm->staging(), part.communicator, part.work, std::move(streams)));
      part.communicator.reset();
    }
    std::erase_if(parts, [](const Part& part) { return !part.communicator; });
  }

  // As with the parts on host memory, one's failure does not stop the others.
  void begin(std::exception_ptr& failure) {
    if (variant().one_call_at_a_time) {
      const auto run = variant().in_call_order ? &runtime::StagedWork::run_in_call_order
                                               : &runtime::StagedWork::run_in_order_of_arrival;
      for (const auto& work : works_) (void)succeeds([&] { ((*work).*run)(); }, failure);
      return works_.clear();
    }
    std::erase_if(works_,
                  [&](const auto& work) { return !succeeds([&] { work->begin(); }, failure); });
  }
  void end(std::exception_ptr& failure) {
    for (const auto& work : works_) (void)succeeds([&] { work->end(); }, failure);
  }

 private:
  static bool succeeds(auto&& step, std::exception_ptr& failure) {
    try {
      step();
      return true;
    } catch (const std::exception&) {
      if (!failure) failure = std::current_exception();
      return false;
    }
  }

  std::vector<std::unique_ptr<runtime::StagedWork>> works_;
};

// What goes by host memory, and what its caller waits for.
class HostParts {
 public:
  explicit HostParts(std::vector<Part> parts)
      : parts_(std::move(parts)), completion_(std::make_shared<Completion>(parts_.size())) {
    for (const Part& part : parts_) {
      for (const cudaStream_t stream : part.streams) {
        if (stream == nullptr) {
          waits_ = true;
        } else {
          add_once(streams_, stream);
        }
      }
    }
  }

  void begin(std::exception_ptr& failure) {
    Communicators communicators;
    for (const Part& part : parts_) communicators.emplace_back(part.communicator);
    auto before = append_to_streams(streams_, completion_, communicators);
    for (size_t i = 0; i < parts_.size(); ++i) parts_[i].work.after = std::move(before[i]);
    for (Part& part : parts_) submit(part, completion_, failure);
  }

  ncclResult_t end(const std::exception_ptr& failure) {
    if (!waits_ || parts_.empty()) {
      if (failure) std::rethrow_exception(failure);
      return ncclSuccess;
    }
    const bool polls = !parts_.front().comm->wishes().blocking;
    for (const Part& part : parts_) {
      if (polls) part.comm->watch(completion_);
    }
    // After a failure too: the other communicators still use the caller's buffers.
    if (!polls) completion_->wait();
    if (failure) std::rethrow_exception(failure);
    if (polls) return ncclInProgress;
    completion_->check_success();
    return ncclSuccess;
  }

 private:
  std::vector<Part> parts_;
  std::shared_ptr<Completion> completion_;
  std::vector<cudaStream_t> streams_;
  bool waits_ = false;
};

}  // namespace

ncclResult_t launch(std::vector<Task> tasks) {
  for (const Task& task : tasks) {
    if (task.comm->staging() == nullptr) check_stream(task.stream);
  }
  std::vector<Part> parts = prepared(std::move(tasks));
  StreamParts on_streams(parts);
  HostParts on_host(std::move(parts));
  std::exception_ptr failure;
  on_streams.begin(failure);
  on_host.begin(failure);
  on_streams.end(failure);
  return on_host.end(failure);
}

double estimate(std::vector<Task> tasks) {
  if (tasks.empty()) return 0;
  double longest = 0;
  for (const Part& part : prepared(std::move(tasks)))
    longest = std::max(longest, part.communicator->estimated_seconds(part.work));
  return longest;
}

}  // namespace slimccl::api
