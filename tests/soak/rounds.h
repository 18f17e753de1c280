// What is done with the communicators in a round: sequences, groups, threads at the same time,
// chains of calls that need each other's results.
#pragma once

#include <string>
#include <vector>

#include "soak/operation.h"
#include "soak/teams.h"

namespace soak {

class Rounds {
 public:
  Rounds(Context& context, Teams& teams);
  ~Rounds();
  Rounds(const Rounds&) = delete;
  Rounds& operator=(const Rounds&) = delete;

  void play(Random& random, uint64_t round);

 private:
  // One call of a batch, on one team; what this rank has of it.
  struct Step {
    const Team* team;
    Spec spec;
    cudaStream_t stream;
    std::unique_ptr<Part> part;  // null: not in the team
    std::string text;
  };

  [[nodiscard]] const Team& pick(Random& random) const;
  [[nodiscard]] cudaStream_t pick_stream(Random& random) const;
  [[nodiscard]] Step plan(Random& random, const Team& team, cudaStream_t stream,
                          const std::string& where);
  void call_alone(Context& context, Step& step);
  void verify(Context& context, const std::vector<Step>& steps);
  void synchronize(Context& context, cudaStream_t stream);

  void sequence(Random& random, const std::string& where);
  void group(Random& random, const std::string& where);
  void parallel(Random& random, const std::string& where);

  Context& context_;
  Teams& teams_;
  std::vector<cudaStream_t> streams_;
};

}  // namespace soak
