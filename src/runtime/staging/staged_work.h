// One communicator's part of a group, on CUDA streams: everything is enqueued, nothing waits.
//
// On the first of the streams, after what the others have: device memory is copied to pinned
// memory, a host function tells the engine that it is there, the engine runs the communicator's
// work on the pinned memory and writes a word, for which the stream waits before it copies the
// results back. The other streams wait for that. Host memory is used where it lies, unless a call
// is cut into pieces: then the host functions copy it, since the pieces' parts of a buffer are not
// in one place.
//
// Several parts of one group are prepared first, then begun, then ended, each in the same order: so
// what they send is under way before a stream waits for any of them. On one thread.
#pragma once

#include <exception>
#include <memory>
#include <vector>

#include "runtime/communicator.h"
#include "runtime/staging/arena.h"
#include "runtime/staging/pieces.h"

namespace slimccl::runtime {

// An arena on loan from the pool, for as long as somebody may enqueue work that uses it.
class Staging {
 public:
  Staging(ArenaPool& pool, int device, uint64_t bytes)
      : pool_(pool), arena_(pool.take(device, bytes)) {}
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging() { pool_.give(std::move(arena_)); }

  [[nodiscard]] Arena& arena() noexcept { return *arena_; }
  [[nodiscard]] ArenaPool::Turn& turn() { return pool_.turn(*arena_); }
  // Whether `memory` is device memory. Throws Error naming both devices if it is another device's.
  [[nodiscard]] bool on_device(const void* memory) const;

 private:
  ArenaPool& pool_;
  std::unique_ptr<Arena> arena_;
};

class StagedWork {
 public:
  // Throws Error if the buffers are not usable; then nothing has begun.
  StagedWork(std::shared_ptr<Staging> staging, std::shared_ptr<Communicator> communicator,
             const Work& work, std::vector<device::CUstream> streams);
  StagedWork(const StagedWork&) = delete;
  StagedWork& operator=(const StagedWork&) = delete;

  // Throws Error if CUDA refuses something, which fails the communicator for all ranks, or the
  // communicator the work: then nothing is run.
  void begin();
  // After begin(). Throws Error if CUDA refuses something: what cannot be done any more fails the
  // communicator, so that no rank waits for it.
  void end();
  // Both, while no call of another communicator runs on the device: after all that they have
  // enqueued, and before what they will.
  void run_in_call_order();
  // Likewise, but after those whose streams have reached them before.
  void run_in_order_of_arrival();

 private:
  struct Copy {
    std::byte* staged;
    std::byte* user;
    uint64_t bytes;
    bool on_device;
  };
  // Copies to pinned memory, work of the engine, copies back.
  struct Stage {
    std::vector<Copy> in, out;
    std::shared_ptr<Completion> ready;  // in is done
    Arena::Release done;
    bool told = false;  // `ready` will be finished by the stream
  };

  void stage(const Operation& operation);
  Operation staged_piece(const Operation& whole, const Piece& piece, bool in_pieces, Stage& stage);
  void stage(std::vector<Transfer> transfers);
  void bring(Stage& stage);
  void take_back(const Stage& stage);
  void end_streams();
  void give_up(const std::exception& error) noexcept;
  void fail_for_all_ranks(const std::exception& error) noexcept;

  const std::shared_ptr<Staging> staging_;
  const std::shared_ptr<Communicator> communicator_;
  const std::vector<device::CUstream> streams_;
  Arena& arena_;
  const device::Driver& driver_;
  Work work_;                  // on pinned memory
  std::vector<Stage> pieces_;  // of its collectives
  Stage messages_;             // of its transfers
};

}  // namespace slimccl::runtime
