#include "runtime/staging/staged_work.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "device/cuda/memory.h"

namespace slimccl::runtime {

using namespace device;

namespace {

constexpr uint64_t kAlign = 64;

struct HostCopy {
  void* into;
  const void* from;
  uint64_t bytes;
};
// What a host function does: on a thread of CUDA's, which may not call CUDA.
struct HostStep {
  std::vector<HostCopy> copies;
  std::shared_ptr<Completion> signal;  // may be null
};

void run_host_step(void* data) {
  const std::unique_ptr<HostStep> step(static_cast<HostStep*>(data));
  for (const HostCopy& copy : step->copies) std::memcpy(copy.into, copy.from, copy.bytes);
  if (!step->signal) return;
  step->signal->finish_part(ncclSuccess, "");
  Engine::instance().wake();
}

void enqueue(const Driver& driver, CUstream stream, std::unique_ptr<HostStep> step) {
  driver.cuLaunchHostFunc(stream, run_host_step, step.get());
  (void)step.release();  // the host function's
}

// What a stream tells its device's turn: that it has reached a call, or is done with it.
struct Visit {
  ArenaPool::Turn& turn;
  Arena::Ticket ticket;
  bool arrives;
};

void run_visit(void* data) {
  const std::unique_ptr<Visit> visit(static_cast<Visit*>(data));
  visit->arrives ? visit->turn.arrive(visit->ticket) : visit->turn.leave();
}

void enqueue_visit(const Driver& driver, CUstream stream, const Visit& visit) {
  auto kept = std::make_unique<Visit>(visit);
  driver.cuLaunchHostFunc(stream, run_visit, kept.get());
  (void)kept.release();  // the host function's
}

}  // namespace

bool Staging::on_device(const void* memory) const {
  if (memory == nullptr) return false;  // of a call of no elements
  const int device = device_of(arena_->driver(), memory);
  check(device < 0 || device == arena_->device(), ncclInvalidArgument, memory,
        " is memory of CUDA device ", device, ", and this communicator is of device ",
        arena_->device());
  return device >= 0;
}

StagedWork::StagedWork(std::shared_ptr<Staging> staging, std::shared_ptr<Communicator> communicator,
                       const Work& work, std::vector<CUstream> streams)
    : staging_(std::move(staging)),
      communicator_(std::move(communicator)),
      streams_(std::move(streams)),
      arena_(staging_->arena()),
      driver_(arena_.driver()) {
  const CurrentContext current(driver_, arena_.context());
  for (const Operation& operation : work.collectives) stage(operation);
  if (!work.transfers.empty()) stage(work.transfers);
}

void StagedWork::stage(const Operation& operation) {
  const int ranks = communicator_->ranks(), rank = communicator_->rank();
  const Cut cut =
      cut_to_fit(operation.shape, operation.choice.row->lossy, ranks, arena_.slot_bytes());
  for (uint64_t i = 0; i < cut.pieces; ++i) {
    const Piece piece = piece_of(operation.shape, cut, i, ranks, rank, operation.in_place);
    Stage stage;
    work_.collectives.push_back(staged_piece(operation, piece, cut.pieces > 1, stage));
    pieces_.push_back(std::move(stage));
  }
}

Operation StagedWork::staged_piece(const Operation& whole, const Piece& piece, bool in_pieces,
                                   Stage& stage) {
  Operation operation = whole;
  operation.shape = piece.shape;
  std::byte* const slot = arena_.slot(pieces_.size());
  const auto* const scalar = static_cast<const std::byte*>(whole.device_scalar);
  if (scalar != nullptr && staging_->on_device(scalar)) {
    stage.in.push_back(
        {slot, const_cast<std::byte*>(scalar), quant::type_bytes(whole.shape.type), true});
    operation.device_scalar = slot;
  }
  const bool input_there = piece.sends && staging_->on_device(whole.input);
  const bool output_there = piece.receives && staging_->on_device(whole.output);
  if (input_there || (piece.sends && in_pieces)) {
    operation.input = slot + piece.input_at;
    for (const StagedRange& range : piece.input) {
      stage.in.push_back({slot + piece.input_at + range.in_piece,
                          const_cast<std::byte*>(whole.input) + range.in_call, range.bytes,
                          input_there});
    }
  }
  if (output_there || (piece.receives && in_pieces)) {
    operation.output = slot + piece.output_at;
    for (const StagedRange& range : piece.output) {
      stage.out.push_back({slot + piece.output_at + range.in_piece, whole.output + range.in_call,
                           range.bytes, output_there});
    }
  }
  if (whole.in_place) operation.alias = collectives::Alias::at(operation.output - operation.input);
  return operation;
}

// Messages are under way all at once and of whatever size, so each has its own place.
void StagedWork::stage(std::vector<Transfer> transfers) {
  uint64_t bytes = 0;
  const auto place = [&](std::vector<Copy>& copies, const std::byte* user, uint64_t length) {
    if (length == 0 || !staging_->on_device(user)) return false;
    copies.push_back({nullptr, const_cast<std::byte*>(user), length, true});
    bytes += round_up(length, kAlign);
    return true;
  };
  std::vector<const std::byte**> from;
  std::vector<std::byte**> into;
  for (Transfer& transfer : transfers) {
    const bool sends = transfer.kind != Transfer::Kind::kRecv;
    const bool receives = transfer.kind != Transfer::Kind::kSend;
    if (sends && place(messages_.in, transfer.from, transfer.bytes)) from.push_back(&transfer.from);
    if (receives && place(messages_.out, transfer.into, transfer.bytes))
      into.push_back(&transfer.into);
  }
  std::byte* next = bytes == 0 ? nullptr : arena_.messages(bytes, !pieces_.empty());
  for (size_t i = 0; i < from.size(); ++i) {
    *from[i] = messages_.in[i].staged = next;
    next += round_up(messages_.in[i].bytes, kAlign);
  }
  for (size_t i = 0; i < into.size(); ++i) {
    *into[i] = messages_.out[i].staged = next;
    next += round_up(messages_.out[i].bytes, kAlign);
  }
  work_.transfers = std::move(transfers);
}

void StagedWork::bring(Stage& stage) {
  const CUstream stream = streams_.front();
  auto step = std::make_unique<HostStep>();
  step->signal = stage.ready;
  for (const Copy& copy : stage.in) {
    if (copy.on_device) {
      driver_.cuMemcpyDtoHAsync(copy.staged, address_of(copy.user), copy.bytes, stream);
    } else {
      step->copies.push_back({copy.staged, copy.user, copy.bytes});
    }
  }
  enqueue(driver_, stream, std::move(step));
  stage.told = true;
}

void StagedWork::take_back(const Stage& stage) {
  const CUstream stream = streams_.front();
  arena_.wait_for_release(stream, stage.done.number);
  auto step = std::make_unique<HostStep>();
  for (const Copy& copy : stage.out) {
    if (copy.on_device) {
      driver_.cuMemcpyHtoDAsync(address_of(copy.user), copy.staged, copy.bytes, stream);
    } else {
      step->copies.push_back({copy.user, copy.staged, copy.bytes});
    }
  }
  if (!step->copies.empty()) enqueue(driver_, stream, std::move(step));
}

void StagedWork::begin() {
  const CurrentContext current(driver_, arena_.context());
  const CUstream stream = streams_.front();
  for (size_t i = 1; i < streams_.size(); ++i) arena_.join(stream, streams_[i]);
  arena_.wait_for_last(stream);
  const auto prepare = [&](Stage& stage) {
    stage.ready = std::make_shared<Completion>(1);
    stage.done = arena_.next_release();
  };
  for (Stage& piece : pieces_) {
    prepare(piece);
    work_.gates.push_back({piece.ready, piece.done.completion});
  }
  prepare(messages_);
  work_.completion = messages_.done.completion;
  work_.ready = work_.transfers.empty() ? pieces_.front().ready : messages_.ready;
  bool brought = false;
  try {
    if (!work_.transfers.empty()) bring(messages_);
    for (size_t i = 0; i < std::min(Arena::kSlots, pieces_.size()); ++i) bring(pieces_[i]);
    brought = true;
    communicator_->submit(std::move(work_));
  } catch (const std::exception& error) {
    if (!brought) fail_for_all_ranks(error);
    end_streams();
    throw;
  }
}

void StagedWork::end() {
  const CurrentContext current(driver_, arena_.context());
  try {
    for (size_t i = 0; i < pieces_.size(); ++i) {
      take_back(pieces_[i]);
      if (i + Arena::kSlots < pieces_.size()) bring(pieces_[i + Arena::kSlots]);
    }
    if (messages_.told) take_back(messages_);
    arena_.mark_end(streams_.front());
    for (size_t i = 1; i < streams_.size(); ++i) arena_.wait_for_last(streams_[i]);
  } catch (const std::exception& error) {
    give_up(error);
    // The engine may still use what was brought, until its last word, which it says in any case.
    try {
      arena_.wait_for_release(streams_.front(), messages_.done.number);
    } catch (const std::exception&) {
      arena_.spoil();
    }
    end_streams();
    throw;
  }
}

void StagedWork::run_in_call_order() {
  ArenaPool::Turn& turn = staging_->turn();
  const std::lock_guard lock(turn.mutex);
  const CurrentContext current(driver_, arena_.context());
  driver_.cuStreamWaitEvent(streams_.front(), turn.last, 0);
  begin();
  end();
  driver_.cuEventRecord(turn.last, streams_.front());
}

void StagedWork::run_in_order_of_arrival() {
  ArenaPool::Turn& turn = staging_->turn();
  const CurrentContext current(driver_, arena_.context());
  const CUstream stream = streams_.front();
  // A communicator's own calls keep their order, whatever streams they are on.
  for (size_t i = 1; i < streams_.size(); ++i) arena_.join(stream, streams_[i]);
  arena_.wait_for_last(stream);
  const Arena::Ticket ticket = arena_.next_ticket();
  enqueue_visit(driver_, stream, {turn, ticket, true});
  const auto leave = [&] { enqueue_visit(driver_, stream, {turn, ticket, false}); };
  try {
    driver_.cuStreamWaitValue32(stream, address_of(ticket.word), ticket.number,
                                CU_STREAM_WAIT_VALUE_GEQ);
    begin();
    end();
  } catch (const std::exception&) {
    leave();
    throw;
  }
  leave();
}

// After a refusal: what was enqueued may still use the arena.
void StagedWork::end_streams() {
  try {
    arena_.mark_end(streams_.front());
  } catch (const Error&) {
    arena_.spoil();
  }
}

// No stream will bring these pieces.
void StagedWork::give_up(const std::exception& error) noexcept {
  const auto* const ours = dynamic_cast<const Error*>(&error);
  const ncclResult_t code = ours != nullptr ? ours->code() : ncclSystemError;
  for (const Stage& piece : pieces_) {
    if (!piece.told) piece.ready->finish_part(code, error.what());
  }
  if (!messages_.told) messages_.ready->finish_part(code, error.what());
  Engine::instance().wake();
}

// The other ranks make this call. If this one only left it out, its next would meet their present
// one: the work fails where all hear of it.
void StagedWork::fail_for_all_ranks(const std::exception& error) noexcept {
  give_up(error);
  try {
    communicator_->submit(std::move(work_));
  } catch (const std::exception&) {  // the communicator has failed already
  }
}

}  // namespace slimccl::runtime
