// How the ranks of a communicator find each other, and how they learn of each other's death.
//
// A star of TCP connections: the process that made the unique id runs one rendezvous thread (for
// all ids it made) that every rank connects to. The id (128 bytes) holds a magic, a version, that
// thread's address and port, which of the meetings there, and 16 random bytes that a caller must
// present (compared in constant time): against strangers on the network, not against a man in the
// middle. The star stays up after set-up: a process that dies closes its connection, the server
// tells all others who it was, whichever transport they use.
//
// Threads: a Bootstrap belongs to one thread at a time; the server thread is our own.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/config.h"
#include "slimccl/nccl.h"

namespace slimccl::runtime {

// Which rank can no longer take part, and why. rank -1: nobody in particular (the rendezvous itself
// was lost).
struct RankFailure {
  int rank;
  std::string reason;
};

// Starts listening (first call in a process: starts the thread) and returns a fresh id, good for
// one meeting.
[[nodiscard]] ncclUniqueId make_unique_id(const Config& config);
// An id from which any number of meetings derive; itself none, joining it is an error. The process
// that made it serves them all, whether it takes part in them or not, and must live until they are
// set up.
[[nodiscard]] ncclUniqueId make_family_id(const Config& config);
// The id of one meeting of a family. Pure: an equal (family, branch) is the same meeting, so
// `branch` is best a hash of who meets and for the how-manieth time. Of a branch: its family's
// branch. Of a plain id: an id that the server refuses.
//
// A branch leaves nothing behind once all its ranks have come, and all have left (or died); then
// its number may be met again, as a new meeting. Whoever comes again earlier "was taken twice". A
// branch whose set-up failed says so to the ranks that come late. It too may be met again: once
// every rank knows, or after about twice the time-out of its ranks.
[[nodiscard]] ncclUniqueId branch_of(const ncclUniqueId& family, uint64_t branch);
// The process forgets an id or family that it made: whoever comes later is refused as with an
// unknown id, meetings that all have come to go on. No effect for a branch, or the id of another
// process. Any thread.
void withdraw_id(const ncclUniqueId& id) noexcept;

class Bootstrap {
 public:
  // Collective: returns when all `ranks` ranks have joined with this id. Throws Error: an id that
  // is not ours (ncclInvalidArgument), rank out of range or taken twice or another `ranks`
  // elsewhere (ncclInvalidUsage, both sides named), nobody listening or refused (ncclSystemError),
  // and on time-out ncclRemoteError naming the ranks that did not come ("ranks 2, 5 of 8 did not
  // come within 120 s") on every rank that did.
  //
  // *cancel becoming true, or being so from the start, ends this and every later all_gather()
  // within 100 ms with ncclInvalidUsage; the other ranks learn at once that this one aborted, those
  // that are still to come as well. The flag must outlive the Bootstrap; any thread may set it.
  static std::unique_ptr<Bootstrap> join(const ncclUniqueId& id, int ranks, int rank,
                                         double timeout_s,
                                         const std::atomic<bool>* cancel = nullptr);

  virtual ~Bootstrap() =
      default;  // closes; a peer that has not been told leave() first sees a death

  // Collective, for set-up and agreements: every rank's bytes (any length each), by rank. Throws
  // Error naming the rank that died or did not come in time.
  virtual std::vector<std::vector<std::byte>> all_gather(ConstBytes mine, double timeout_s) = 0;

  // After set-up, neither blocks. wait_fd() is readable when check() may have something to say.
  // check() returns the first failure known, again and again: a rank died, aborted, or some rank
  // reported it.
  [[nodiscard]] virtual int wait_fd() const noexcept = 0;
  [[nodiscard]] virtual std::optional<RankFailure> check() noexcept = 0;
  // Tells all ranks, this one included, of a failure seen here. Only the first report of a
  // communicator counts.
  virtual void report(const RankFailure& failure) noexcept = 0;

  // What are the others doing? on_question() is called once after set-up, none of these blocks.
  // ask() asks all other ranks; check() of each calls its answerer, on its thread, and sends the
  // text, cut to 1,000 bytes; if it throws, the error's text. answers() gives what this rank's
  // check() has received so far, by rank: nothing of itself, nor of a rank that left, died or does
  // not call check(). A question from before on_question() waits for the next check(). Another
  // ask() starts afresh; each rank gets the answers to its own alone.
  virtual void on_question(std::function<std::string()> answerer) = 0;
  virtual void ask() noexcept = 0;
  [[nodiscard]] virtual std::vector<std::optional<std::string>> answers() const = 0;

  // An orderly farewell: from now on this rank's going is no failure to the others...
  virtual void leave() noexcept = 0;
  // ...or a disorderly one: the others get the failure "rank N aborted: reason".
  virtual void abort(const std::string& reason) noexcept = 0;
};

}  // namespace slimccl::runtime
