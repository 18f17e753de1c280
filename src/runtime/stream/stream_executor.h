// StreamExecutor: runs collectives on CUDA streams, over somebody else's point-to-point messages.
//
// A call's plan (collectives/plan.h) is enqueued level by level: folds become kernel launches, and
// all sends and receives of a level one group of messages. The host never waits, and nothing is
// allocated in a call: partial results live in the team's arena, and a call whose scratch would not
// fit goes in segments (the same range of every rank's slice).
//
// All ranks of a communicator must enqueue the same calls in the same order, coalesced alike.
#pragma once

#include <span>

#include "collectives/select.h"
#include "runtime/stream/stream_team.h"

namespace slimccl::runtime {

// One call, ready to be enqueued. Buffers are device memory, at any address, and stay valid until
// the stream has passed the call.
struct StreamCall {
  StreamTeam* team;
  collectives::Shape shape;  // the whole call: begin 0
  const collectives::Row* row;
  collectives::Codecs codecs;
  const std::byte* input;
  std::byte* output;
  bool in_place;
  device::CUstream stream;
  float scale = 1;                     // of the operands that the plan scales
  const void* device_scale = nullptr;  // if set, read on the stream in the scale's place: one
                                       // element of the shape's type, in device memory
};

// Enqueues all calls, those of one team in the order given. Teams on one device follow each other
// in the order in which they appear; teams on different devices go together, level by level, for
// one thread may serve them all. Calls of one team are coalesced: they share its messages' groups
// and its arena.
//
// No two threads may enqueue on one team at once: hold team.mutex() of every team, in the order of
// their addresses. Throws Error if CUDA or the messages refuse: part of the calls may then be
// enqueued already, and the teams are of no more use.
void enqueue(std::span<const StreamCall> calls);

}  // namespace slimccl::runtime
