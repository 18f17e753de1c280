// One rank's part in "what are you doing?": whom it owes an answer, and what was answered to it. No
// I/O: packets in and out, carried by the Bootstrap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/wire.h"

namespace slimccl::runtime {

class Inquiry {
 public:
  using Answerer = std::function<std::string()>;

  void answer_by(Answerer answerer) { answerer_ = std::move(answerer); }
  // The question of rank `self` to all others. Answers to its earlier ones no longer count.
  [[nodiscard]] wire::Packet ask(int self);
  // A frame of type question or answer has come.
  void question(ByteReader payload);
  void answer(ByteReader payload);
  // To all who asked since the last call, what the answerer says now. Without an answerer nothing:
  // they are owed it.
  [[nodiscard]] std::vector<wire::Packet> pay();
  [[nodiscard]] std::vector<std::optional<std::string>> answers(int ranks) const;

 private:
  Answerer answerer_;
  std::map<int, uint32_t> owed_;        // by asker, the number of its latest question
  uint32_t number_ = 0;                 // of our latest question
  std::map<int, std::string> answers_;  // to it, by rank
};

}  // namespace slimccl::runtime
