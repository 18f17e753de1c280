// Messages of our own, and flushes. UCX's request for one owns all that it needs, so that the
// channel it was for may go first: its connections are other channels' too, and only breaking one
// would end a request that a slow peer holds up. Used with the worker's mutex held, as all of it.
#pragma once

#include <memory>
#include <string>

#include "transport/ucx/worker.h"

namespace slimccl::transport::ucx {

// Parameters that name host memory and what the callback is given.
[[nodiscard]] ucp_request_param_t request_param(void* user_data);

class Controls {
 public:
  // Over connections that are not broken. A hello can be answered by a peer that has left.
  void send(Connection& connection, const Header& header, const std::string& text);
  // Until it ends, something handed to this connection before it, by whomever, is still here.
  void flush(Connection& connection);
  [[nodiscard]] int under_way() const noexcept { return *under_way_; }

 private:
  struct Request;
  std::shared_ptr<int> under_way_ = std::make_shared<int>(0);
};

}  // namespace slimccl::transport::ucx
