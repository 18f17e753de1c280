// Streams of host memory: ordered queues that calls are put on. A stream does no work itself: it
// remembers what was put on it, and later calls wait for that. Any thread.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/completion.h"
#include "slimccl/nccl.h"

namespace slimccl::api {

[[nodiscard]] cudaStream_t add_stream();
// Waits until all that was on the stream is done; throws the first error since the last wait.
void wait_for_stream(cudaStream_t stream);
// True if all is done; throws as above.
[[nodiscard]] bool stream_is_idle(cudaStream_t stream);
void remove_stream(cudaStream_t stream);
// Whether it is a living stream of host memory.
[[nodiscard]] bool is_host_stream(cudaStream_t stream);
// Throws Error unless it is null or a living stream.
void check_stream(cudaStream_t stream);

// Puts `next`, which has a part on each of these communicators, at the end of all these streams at
// once. Returns what each part must wait for beyond what its communicator has ahead of it anyway.
using Communicators = std::vector<std::weak_ptr<const void>>;
[[nodiscard]] std::vector<std::vector<std::shared_ptr<runtime::Completion>>> append_to_streams(
    std::span<const cudaStream_t> streams, const std::shared_ptr<runtime::Completion>& next,
    const Communicators& communicators);

}  // namespace slimccl::api
