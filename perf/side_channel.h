// How the members of a perf run (processes, or threads of them) find each other without the library
// under test: torchrun's variables and a star of TCP connections to rank 0. Carries the unique id,
// hashes and timings; never the data. Every wait is bounded. One thread for each.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace slimccl::perf {

struct Place {
  int rank = 0, world = 1, local_rank = 0;
  std::string address = "127.0.0.1";
  int port = 0;
};

// RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; none set: a world of one.
// Throws std::runtime_error naming the variable that is missing or wrong.
[[nodiscard]] Place place_from_environment();

// A TCP port of 127.0.0.1 that nobody listens at.
[[nodiscard]] int free_port();

class SideChannel {
 public:
  // Collective. Throws std::runtime_error naming the address when a peer does not come in time.
  SideChannel(const Place& place, int timeout_s);
  ~SideChannel();
  SideChannel(const SideChannel&) = delete;
  SideChannel& operator=(const SideChannel&) = delete;

  // Collective: `bytes` of every rank, concatenated in rank order.
  [[nodiscard]] std::vector<std::byte> gather_bytes(const void* mine, size_t bytes);
  void barrier();

  template <class T>
  [[nodiscard]] std::vector<T> gather(const T& mine) {
    return gather_list(std::vector<T>{mine});
  }
  // Lists of equal length, concatenated.
  template <class T>
  [[nodiscard]] std::vector<T> gather_list(const std::vector<T>& mine) {
    const auto bytes = gather_bytes(mine.data(), mine.size() * sizeof(T));
    std::vector<T> all(bytes.size() / sizeof(T));
    if (!all.empty()) __builtin_memcpy(all.data(), bytes.data(), bytes.size());
    return all;
  }
  template <class T>
  [[nodiscard]] T from_root(const T& mine) {
    return gather(mine).front();
  }

 private:
  void serve(int timeout_s);
  void join(int timeout_s);

  Place place_;
  std::vector<int> sockets_;  // rank 0: by rank, own -1; others: one, to rank 0
};

}  // namespace slimccl::perf
