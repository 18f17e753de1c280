#include "runtime/bootstrap_inquiry.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace slimccl::runtime {
namespace {

std::string ask_answerer(const Inquiry::Answerer& answerer) {
  std::string text;
  try {
    text = answerer();
  } catch (const std::exception& error) {
    text = error.what();
  } catch (...) {
    text = "unknown exception";
  }
  text.resize(std::min(text.size(), wire::kMaxAnswerBytes));
  return text;
}

}  // namespace

wire::Packet Inquiry::ask(int self) {
  answers_.clear();
  wire::Writer writer(wire::Type::kQuestion);
  return wire::packet(writer.put(int32_t{self}).put(++number_));
}

void Inquiry::question(ByteReader payload) {
  const int asker = payload.get<int32_t>();
  owed_[asker] = payload.get<uint32_t>();
}

void Inquiry::answer(ByteReader payload) {
  const int rank = payload.get<int32_t>();
  if (payload.get<uint32_t>() == number_) answers_[rank] = payload.rest_text();
}

std::vector<wire::Packet> Inquiry::pay() {
  std::vector<wire::Packet> packets;
  if (!answerer_ || owed_.empty()) return packets;
  const std::string text = ask_answerer(answerer_);
  for (const auto& [asker, number] : std::exchange(owed_, {})) {
    wire::Writer writer(wire::Type::kAnswer);
    packets.push_back(wire::packet(writer.put(int32_t{asker}).put(number).put_text(text)));
  }
  return packets;
}

std::vector<std::optional<std::string>> Inquiry::answers(int ranks) const {
  std::vector<std::optional<std::string>> result;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto found = answers_.find(rank);
    result.push_back(found == answers_.end() ? std::nullopt : std::optional(found->second));
  }
  return result;
}

}  // namespace slimccl::runtime
