// The communicators of a run: they come, are split and shrunk, and go. Every rank keeps the same
// book of all of them, and the handles of those that it is in.
#pragma once

#include <string>
#include <vector>

#include "soak/process.h"
#include "soak/random.h"

namespace soak {

struct Team {
  int id = 0;
  std::vector<int> members;  // ranks of the world, in the communicator's order
  bool blocking = true;
  ncclComm_t comm = nullptr;  // null on ranks that are not in it

  // The place of `rank` in it; -1: none.
  [[nodiscard]] int place(int rank) const;
  [[nodiscard]] int size() const { return static_cast<int>(members.size()); }
  [[nodiscard]] std::string text() const;
};

class Teams {
 public:
  // Makes the first one: all ranks, blocking. It stays.
  explicit Teams(Context& context);

  [[nodiscard]] const std::vector<Team>& all() const { return teams_; }
  [[nodiscard]] const Team& world() const { return teams_.front(); }

  // Lets some go and makes others.
  void change(Random& random);
  void destroy_all();

 private:
  enum class End { kDestroy, kFinalize, kAbort };

  void make(Random& random);
  void init(Random& random, std::vector<int> members);
  void init_all(int process);
  void split(Random& random, size_t parent, bool twin);
  void shrink(Random& random, size_t parent);
  void end(Team& team, End how);
  void add(Team team);
  Team& as_new(Team& team);

  Context& context_;
  std::vector<Team> teams_;
  int next_id_ = 0;
};

}  // namespace soak
