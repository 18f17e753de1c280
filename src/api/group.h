// Groups: what a thread calls between ncclGroupStart and ncclGroupEnd is carried out at the
// outermost end, as one. A call outside of a group is a group of its own.
//
// A group holds operations or makings of communicators, not both. An argument error is returned by
// the call at once; the group then runs nothing, and its end returns that error.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/guard.h"
#include "api/registry.h"
#include "runtime/work.h"

namespace slimccl::api {

// One call: a collective, or messages.
struct Task {
  std::shared_ptr<Comm> comm;
  std::shared_ptr<runtime::Communicator> communicator;
  std::optional<runtime::Operation> collective;
  std::vector<runtime::Transfer> transfers;
  cudaStream_t stream;
};

// One communicator to be made, by a job that blocks until its ranks have met.
struct Making {
  std::shared_ptr<Comm> comm;    // the new one, with its handle; null: this rank gets none
  std::shared_ptr<Comm> runner;  // who is polled if it does not block: the new one, or its parent
  ncclComm_t handle;
  ncclComm_t* out;  // set to null if it fails
  std::function<std::shared_ptr<runtime::Communicator>()> make;
};

// One thread's group.
class Group {
 public:
  [[nodiscard]] static Group& of_this_thread();

  void start() noexcept { ++depth_; }
  // Returns ncclInProgress if it holds something of a non-blocking communicator.
  ncclResult_t end();
  // Ends it without running anything: seconds that it would take.
  double simulate();

  ncclResult_t add(Task task);
  ncclResult_t add(Making making);
  // The group will run nothing, and end with this.
  void spoil(ncclResult_t code, std::string text);
  [[nodiscard]] bool open() const noexcept { return depth_ > 0; }

 private:
  // Takes the contents out, so that the thread's group is empty whatever happens.
  [[nodiscard]] Group take();
  [[nodiscard]] bool leave();  // true: it was the outermost end
  void check_sound() const;

  int depth_ = 0;
  std::vector<Task> tasks_;
  std::vector<Making> makings_;
  ncclResult_t error_ = ncclSuccess;
  std::string error_text_;
};

// A call of the API that adds to the group: guard(), and an error spoils the group it is in.
template <class Body>
ncclResult_t group_call(std::string_view function, Body&& body) noexcept {
  return guard(function, [&] {
    Group& group = Group::of_this_thread();
    try {
      return group.add(body());
    } catch (const Error& error) {
      if (group.open()) group.spoil(error.code(), concat(function, ": ", error.what()));
      throw;
    } catch (const std::exception& error) {
      if (group.open()) group.spoil(ncclSystemError, concat(function, ": ", error.what()));
      throw;
    }
  });
}

}  // namespace slimccl::api
