#include "api/launch.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "api/stream.h"
#include "base/error.h"

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
};

std::vector<Part> parts_of(std::vector<Task> tasks) {
  std::vector<Part> parts;
  for (Task& task : tasks) {
    auto found = std::ranges::find(parts, task.communicator, &Part::communicator);
    if (found == parts.end())
      found = parts.insert(parts.end(), {task.comm, task.communicator, Work{}});
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

}  // namespace

ncclResult_t launch(std::vector<Task> tasks) {
  std::vector<cudaStream_t> streams;
  bool waits = false;
  for (const Task& task : tasks) {
    check_stream(task.stream);
    if (task.stream == nullptr) {
      waits = true;
    } else if (std::ranges::find(streams, task.stream) == streams.end()) {
      streams.push_back(task.stream);
    }
  }
  std::vector<Part> parts = prepared(std::move(tasks));
  if (parts.empty()) return ncclSuccess;
  const auto completion = std::make_shared<Completion>(parts.size());
  Communicators communicators;
  for (const Part& part : parts) communicators.emplace_back(part.communicator);
  auto before = append_to_streams(streams, completion, communicators);
  for (size_t i = 0; i < parts.size(); ++i) parts[i].work.after = std::move(before[i]);
  std::exception_ptr failure;
  for (Part& part : parts) submit(part, completion, failure);
  const bool polls = waits && !parts.front().comm->wishes().blocking;
  for (const Part& part : parts) {
    if (polls) part.comm->watch(completion);
  }
  // After a failure too: the other communicators still use the caller's buffers.
  if (waits && !polls) completion->wait();
  if (failure) std::rethrow_exception(failure);
  if (polls) return ncclInProgress;
  if (waits) completion->check_success();
  return ncclSuccess;
}

double estimate(std::vector<Task> tasks) {
  if (tasks.empty()) return 0;
  double longest = 0;
  for (const Part& part : prepared(std::move(tasks)))
    longest = std::max(longest, part.communicator->estimated_seconds(part.work));
  return longest;
}

}  // namespace slimccl::api
