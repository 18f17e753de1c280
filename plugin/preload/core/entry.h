// What the overlay knows of one real communicator. It lies beside the real handle (table.h), which
// callers keep.
//
// Threads: the first part is atomic. The second belongs to who holds `mutex`: the maker during
// set-up, later whoever splits, checks or ends the communicator. Memory of entries is never given
// back, only used again, and not soon: so a call may go on with an entry that another thread ends.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/reduction.h"
#include "core/background.h"
#include "core/compressor.h"
#include "core/counts.h"
#include "core/evidence.h"
#include "core/policy.h"
#include "core/record.h"
#include "overlay.h"
#include "runtime/bootstrap.h"

namespace slimccl::overlay {

// What may change from one call to the next that is like it.
struct Moment {
  bool windowed = false, paused = false, capturing = false;

  bool operator==(const Moment&) const = default;
};

// The outcome for calls of one kind, kept because its formula takes longer than a call should.
struct Judged {
  Call call{};
  Moment moment{};
  bool known = false;
  Decision decision{};
  Savings saved{};
};

struct Entry {
  // Read by each call.
  std::atomic<ncclComm_t> comm{nullptr};
  std::atomic<const slimccl_nccl*> nccl{nullptr};  // the copy that made it; null: not known
  std::atomic<Reason> standing{Reason::kNotAgreed};
  std::atomic<bool> checks{false}, ended{false}, joining{false};
  std::atomic<bool> cancel{false};  // ends a meeting under way
  std::atomic<int> rank{-1}, ranks{0};
  std::atomic<int> windows{0};      // ever registered, which all ranks do alike
  std::atomic<uint64_t> number{0};  // of this process's communicators, in the order of their making
  Counts counts;
  api::Reductions reductions;  // that its program has made

  // What compressed calls need; null if none is. Any thread.
  [[nodiscard]] std::shared_ptr<Compressor> compressor_now() const;
  void set_compressor(std::shared_ptr<Compressor> compressor);
  // What its ranks do next is no longer alike: need_whole() throws that Error from now on. Any
  // thread.
  void break_off(ncclResult_t code, const std::string& text) noexcept;
  void need_whole() const {
    if (broken.load(std::memory_order_acquire)) [[unlikely]]
      throw_broken();
  }
  std::atomic<bool> broken{false};

  std::mutex judged_mutex;
  std::array<Judged, 32> judged;  // under judged_mutex; by a hash of the call

  std::mutex evidence_mutex;  // of the next two; calls of one communicator come one by one
  std::optional<EvidenceTable> evidence;  // there if its calls may be compressed
  Background background;                  // whoever wants to use the star waits for it first

  std::mutex mutex;  // what follows is under it
  std::string name, why;
  std::unique_ptr<runtime::Bootstrap> star;  // null: the ranks have not met
  std::vector<Record> records;               // by rank, if they have
  std::optional<topology::Topology> topology;
  std::vector<ncclUniqueId> families;  // by rank
  std::optional<ncclUniqueId> own_family;
  std::map<uint64_t, uint64_t> meetings;  // how many there were, by purpose
  uint64_t checked = 0;                   // calls compared so far

  void reset();  // as new; the star must be gone

 private:
  [[noreturn]] void throw_broken() const;

  mutable std::mutex compressor_mutex_;  // held shortly, and by nobody who waits
  std::shared_ptr<Compressor> compressor_;
  ncclResult_t broken_code_ = ncclSuccess;
  std::string broken_text_;  // both under compressor_mutex_
};

}  // namespace slimccl::overlay
