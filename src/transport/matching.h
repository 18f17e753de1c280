// Where messages and receives wait for each other: a map by (peer, tag). A transport keeps two, one
// of posted receives and one of early messages; whichever comes second takes the first out.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

namespace slimccl::transport {

struct Route {
  int peer;
  uint64_t tag;
  bool operator==(const Route&) const = default;
};

template <class Waiting>
class RouteMap {
 public:
  // False, and nothing changes, if one waits there already: the peers broke the rule that a tag in
  // use is not reused.
  [[nodiscard]] bool put(const Route& route, Waiting waiting) {
    return map_.try_emplace(route, std::move(waiting)).second;
  }

  [[nodiscard]] std::optional<Waiting> take(const Route& route) noexcept {
    const auto found = map_.find(route);
    if (found == map_.end()) return std::nullopt;
    std::optional<Waiting> waiting(std::move(found->second));
    map_.erase(found);
    return waiting;
  }

  // Takes out all that wait for `peer` and hands each to `visit`.
  template <class F>
  void take_all(int peer, F&& visit) {
    for (auto at = map_.begin(); at != map_.end();) {
      if (at->first.peer == peer) {
        visit(at->second);
        at = map_.erase(at);
      } else {
        ++at;
      }
    }
  }

  [[nodiscard]] bool any_of(int peer) const noexcept {
    for (const auto& [route, waiting] : map_) {
      if (route.peer == peer) return true;
    }
    return false;
  }

  // Takes out everything.
  template <class F>
  void drain(F&& visit) {
    for (auto& [route, waiting] : map_) visit(route, waiting);
    map_.clear();
  }

 private:
  struct Hash {
    size_t operator()(const Route& route) const noexcept {
      uint64_t mixed = route.tag * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(route.peer);
      mixed ^= mixed >> 32;
      return mixed * 0xd6e8feb86659fd93u;
    }
  };
  std::unordered_map<Route, Waiting, Hash> map_;
};

}  // namespace slimccl::transport
