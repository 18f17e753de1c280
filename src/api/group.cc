#include "api/group.h"

#include <algorithm>
#include <future>
#include <utility>

#include "api/export.h"
#include "api/launch.h"
#include "base/error.h"

namespace slimccl::api {
namespace {

void undo(const Making& making) {
  if (!making.comm) return;
  *making.out = nullptr;
  forget(making.handle);
}

// Runs one making to its end. Throws Error, and then leaves nothing of it.
void carry_out(const Making& making) {
  try {
    auto communicator = making.make();
    if (making.comm) making.comm->set_communicator(std::move(communicator));
  } catch (...) {
    undo(making);
    throw;
  }
}

// The owner polls. The thread is the runner's own, which must not be kept alive by it.
void carry_out_aside(const Making& making) {
  Comm* const comm = making.comm.get();
  making.runner->run_aside([comm, make = making.make] {
    auto communicator = make();
    if (comm != nullptr) comm->set_communicator(std::move(communicator));
  });
}

// Where no thread is to be had the making fails, like any other.
std::future<void> in_a_thread(const Making& making) {
  try {
    return std::async(std::launch::async, [&making] { carry_out(making); });
  } catch (const std::exception& error) {
    undo(making);
    std::promise<void> failed;
    failed.set_exception(std::make_exception_ptr(
        Error(ncclSystemError, concat("cannot start a thread for each rank: ", error.what()))));
    return failed.get_future();
  }
}

ncclResult_t run_makings(const std::vector<Making>& makings) {
  if (makings.size() == 1 && makings.front().runner->wishes().blocking) {
    carry_out(makings.front());
    return ncclSuccess;
  }
  // Several ranks of one process: each needs the others to come along.
  ncclResult_t result = ncclSuccess;
  std::vector<std::future<void>> under_way;
  for (const Making& making : makings) {
    if (!making.runner->wishes().blocking) {
      carry_out_aside(making);
      result = ncclInProgress;
    } else {
      under_way.push_back(in_a_thread(making));
    }
  }
  std::exception_ptr failure;
  for (auto& each : under_way) {
    try {
      each.get();
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
  return result;
}

}  // namespace

Group& Group::of_this_thread() {
  thread_local Group group;
  return group;
}

Group Group::take() {
  Group taken = std::move(*this);
  *this = Group();
  return taken;
}

bool Group::leave() {
  check(depth_ > 0, ncclInvalidUsage,
        "no group is open in this thread: ncclGroupStart comes first");
  return --depth_ == 0;
}

void Group::check_sound() const {
  check(error_ == ncclSuccess, error_, "nothing of the group was run: ", error_text_);
  check(tasks_.empty() || makings_.empty(), ncclInvalidUsage,
        "the group both makes communicators and communicates: use one group for each");
}

ncclResult_t Group::end() {
  if (!leave()) return ncclSuccess;
  Group taken = take();
  try {
    taken.check_sound();
  } catch (...) {
    std::ranges::for_each(taken.makings_, undo);
    throw;
  }
  if (!taken.makings_.empty()) return run_makings(taken.makings_);
  return taken.tasks_.empty() ? ncclSuccess : launch(std::move(taken.tasks_));
}

double Group::simulate() {
  if (!leave()) return 0;
  Group taken = take();
  check(taken.makings_.empty(), ncclInvalidUsage,
        "the making of communicators cannot be simulated: end the group with ncclGroupEnd");
  taken.check_sound();
  return estimate(std::move(taken.tasks_));
}

ncclResult_t Group::add(Task task) {
  if (!open()) {
    std::vector<Task> alone;
    alone.push_back(std::move(task));
    return launch(std::move(alone));
  }
  tasks_.push_back(std::move(task));
  return ncclSuccess;
}

ncclResult_t Group::add(Making making) {
  if (!open()) return run_makings({std::move(making)});
  makings_.push_back(std::move(making));
  return ncclSuccess;
}

void Group::spoil(ncclResult_t code, std::string text) {
  if (error_ != ncclSuccess) return;
  error_ = code;
  error_text_ = std::move(text);
}

}  // namespace slimccl::api

namespace api = slimccl::api;

SLIMCCL_TWIN(GroupStart);
SLIMCCL_EXPORT ncclResult_t ncclGroupStart() {
  api::Group::of_this_thread().start();
  return ncclSuccess;
}

SLIMCCL_TWIN(GroupEnd);
SLIMCCL_EXPORT ncclResult_t ncclGroupEnd() {
  return api::guard("ncclGroupEnd", [] { return api::Group::of_this_thread().end(); });
}

SLIMCCL_TWIN(GroupSimulateEnd);
SLIMCCL_EXPORT ncclResult_t ncclGroupSimulateEnd(ncclSimInfo_t* simInfo) {
  return api::guard("ncclGroupSimulateEnd", [&] {
    constexpr unsigned int kMagic = 0x74685283;
    // Without a place for the estimate NCCL does not simulate: it ends the group.
    if (simInfo == nullptr) return api::Group::of_this_thread().end();
    const double seconds = api::Group::of_this_thread().simulate();
    slimccl::check(simInfo->magic == kMagic && simInfo->size >= sizeof(ncclSimInfo_t),
                   ncclInvalidArgument,
                   "simInfo was not set to NCCL_SIM_INFO_INITIALIZER before the call");
    simInfo->estimatedTime = static_cast<float>(seconds * 1e6);  // microseconds, as NCCL has it
    return ncclSuccess;
  });
}
