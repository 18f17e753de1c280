#include "runtime/transfers.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "quant/codec.h"
#include "runtime/wire_tag.h"

namespace slimccl::runtime {
namespace {

using transport::Progress;

Bytes bytes_of(auto& note) { return std::as_writable_bytes(std::span(&note, 1)); }

}  // namespace

void TransferExecutor::start(const std::vector<Transfer>& transfers) {
  ensure(idle(), "transfers were started while others were under way");
  for (const Transfer& transfer : transfers) {
    if (transfer.kind == Transfer::Kind::kCopy) {
      if (transfer.bytes > 0) std::memmove(transfer.into, transfer.from, transfer.bytes);
      continue;
    }
    auto& numbers = transfer.kind == Transfer::Kind::kSend ? sends_to_ : recvs_from_;
    pending_.push_back(std::make_unique<Pending>(Pending{transfer,
                                                         numbers[transfer.peer]++,
                                                         checks_ || confirms_,
                                                         {transfer.bytes, transfer.type},
                                                         {},
                                                         {}}));
    post(*pending_.back());
  }
}

void TransferExecutor::post(Pending& pending) {
  const Transfer& transfer = pending.transfer;
  const uint64_t tag = transfer_tag(pending.number, false);
  const uint64_t note_tag = transfer_tag(pending.number, true);
  if (transfer.kind == Transfer::Kind::kRecv) {
    if (checks_) {  // the message itself is asked for once the note is found right
      pending.note_handle = router_.recv(transfer.peer, note_tag, bytes_of(pending.note));
    } else {
      pending.handle = router_.recv(transfer.peer, tag, {transfer.into, transfer.bytes});
      if (confirms_)
        pending.note_handle = router_.send(transfer.peer, note_tag, bytes_of(pending.note));
    }
    return;
  }
  const bool crosses = topology_.node_of(transfer.peer) != topology_.node_of(rank_);
  (crosses ? sent_.between_nodes : sent_.in_node) += transfer.bytes;
  if (checks_) pending.note_handle = router_.send(transfer.peer, note_tag, bytes_of(pending.note));
  if (confirms_)
    pending.note_handle = router_.recv(transfer.peer, note_tag, bytes_of(pending.note));
  pending.handle = router_.send(transfer.peer, tag, {transfer.from, transfer.bytes});
}

bool TransferExecutor::compare(Pending& pending) {
  const Transfer& transfer = pending.transfer;
  const auto describe = [](const Note& note) {
    const auto type = static_cast<ncclDataType_t>(note.type);
    return concat(note.bytes / quant::type_bytes(type), " x ", quant::type_name(type));
  };
  const Note mine{transfer.bytes, transfer.type};
  if (pending.note.bytes == mine.bytes && pending.note.type == mine.type) return true;
  mismatch_ = concat("message ", pending.number, " from rank ", transfer.peer, " to rank ", rank_,
                     ": rank ", transfer.peer, " sends ", describe(pending.note), ", rank ", rank_,
                     " receives ", describe(mine));
  return false;
}

bool TransferExecutor::step(Pending& pending, bool& moved) {
  const Transfer& transfer = pending.transfer;
  const auto failed = [&](const Router::Handle& handle) {
    failure_ = router_.failure_of(handle, transfer.peer);
    return false;
  };
  if (pending.noting) {
    const Progress note = router_.poll(pending.note_handle);
    if (note == Progress::kFailed) return failed(pending.note_handle);
    if (note == Progress::kPending) return false;
    pending.noting = false;
    moved = true;
    if (checks_ && transfer.kind == Transfer::Kind::kRecv) {
      if (!compare(pending)) return false;
      pending.handle = router_.recv(transfer.peer, transfer_tag(pending.number, false),
                                    {transfer.into, transfer.bytes});
    }
  }
  const Progress state = router_.poll(pending.handle);
  if (state == Progress::kFailed) return failed(pending.handle);
  return state == Progress::kDone;
}

bool TransferExecutor::progress() {
  bool moved = false;
  for (size_t i = 0; i < pending_.size() && !failure_ && mismatch_.empty();) {
    if (!step(*pending_[i], moved)) {
      ++i;
      continue;
    }
    moved = true;
    std::swap(pending_[i], pending_.back());
    pending_.pop_back();
  }
  return moved;
}

std::string TransferExecutor::waiting_for() const {
  std::string text;
  for (const auto& pending : pending_) {
    const Transfer& transfer = pending->transfer;
    const bool send = transfer.kind == Transfer::Kind::kSend;
    if (!text.empty()) text += ", ";
    if (text.size() > 400) return text + "...";
    text += concat(send ? "to send " : "to receive ", transfer.bytes, " bytes ",
                   send ? "to" : "from", " rank ", transfer.peer, " (message ", pending->number,
                   send ? " to it)" : " from it)");
  }
  return text.empty() ? "nothing" : text;
}

}  // namespace slimccl::runtime
