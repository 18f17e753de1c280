// The process's side of UCX: context, worker, options, and the dispatch of active messages to the
// channels (communicators) they are for. Everything below is used with `mutex` held; callbacks run
// inside progress() and therefore hold it too.
#pragma once

#include <ucp/api/ucp.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/handle.h"
#include "transport/ucx/endpoint.h"

namespace slimccl::transport::ucx {

constexpr uint32_t kMagic = 0x5843'4c53;  // "SLCX"
constexpr unsigned kMessageId = 7;        // UCX's number for our kind of active message

enum class Kind : uint32_t {
  kData,
  kHello,   // "I have something with you": tag is the channel to answer to
  kLeft,    // nothing more will come from this sender
  kAborted  // the same, in anger: the payload says why
};

struct Header {
  uint32_t magic;
  uint32_t channel;  // the receiver's number for the communicator
  int32_t sender;
  Kind kind;
  uint64_t tag;
  uint64_t bytes;
};

// A message as UCX hands it over. `data` is a descriptor if `rendezvous`, and may be kept (kept:
// the channel releases it with ucp_am_data_release) if `can_keep`.
struct Arrival {
  Header header;
  void* data;
  uint64_t bytes;
  bool rendezvous;
  bool can_keep;
};

class Worker;

class Channel {
 public:
  // True: the channel keeps `data`.
  virtual bool arrive(const Arrival& arrival) noexcept = 0;
  // The connection that this channel uses for `rank` has failed.
  virtual void lost(int rank, ucs_status_t status) noexcept = 0;

 protected:
  ~Channel() = default;
};

// To one other worker, for all communicators that both processes are in: UCX pairs the endpoints of
// two workers by the order of their making, so that with one per communicator closing one could
// break another's. It stays until it fails or the worker ends.
struct Connection {
  struct User {
    Channel* channel;
    int rank;
  };
  Worker* owner;
  ucp_ep_h endpoint = nullptr;  // null once closed
  std::optional<ucs_status_t> broken;
  std::vector<User> users;
};

class Worker final : public UcxWorker {
 public:
  explicit Worker(const UcxOptions& options);
  ~Worker() override;

  [[nodiscard]] ucp_worker_h handle() const noexcept { return worker_.get(); }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] std::vector<std::byte> address() const;
  // Numbers are never used again: a late message of an old communicator cannot reach a new one.
  [[nodiscard]] uint32_t open_channel(Channel& channel);
  void close_channel(uint32_t number) noexcept;
  // Makes the connection or shares the one there is; null if that cannot even be begun.
  [[nodiscard]] std::shared_ptr<Connection> connect(const std::string& address,
                                                    Connection::User user, ucs_status_t& status);
  // Ends all requests on it, in later progress; its users are told.
  void break_connection(Connection& connection, ucs_status_t status) noexcept;
  // One ucp_worker_progress; also closes what has failed.
  unsigned progress() noexcept;

  std::mutex mutex;

 private:
  static ucs_status_t on_message(void* self, const void* header, size_t header_bytes, void* data,
                                 size_t bytes, const ucp_am_recv_param_t* param);
  static void on_error(void* connection, ucp_ep_h endpoint, ucs_status_t status);
  void close(Connection& connection) noexcept;
  void settle(bool flush) noexcept;
  void answer_left(const Header& hello, ucp_ep_h reply_to) noexcept;

  Handle<ucp_context_h, ucp_cleanup> context_;
  Handle<ucp_worker_h, ucp_worker_destroy> worker_;
  int fd_ = -1;
  uint32_t next_channel_ = 1;
  std::map<uint32_t, Channel*> channels_;
  std::map<std::string, std::shared_ptr<Connection>>
      connections_;                                  // by address; shared with their users
  std::vector<std::shared_ptr<Connection>> broken_;  // to be closed
  std::vector<ucs_status_ptr_t> closing_;
};

// Throws Error naming `what` unless `status` is UCS_OK.
void check_ucx(ucs_status_t status, const char* what);

}  // namespace slimccl::transport::ucx
