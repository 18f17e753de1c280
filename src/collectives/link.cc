#include "collectives/link.h"

#include <algorithm>
#include <span>
#include <utility>

namespace slimccl::collectives {
namespace {

struct Interval {
  int64_t begin, end;
};

// One address space (the caller's buffers, or scratch) cut at every slice boundary: a cell is
// touched wholly or not. Per cell: the last step that wrote it, and the steps that read it since.
class Space {
 public:
  void add(const Interval& interval) {
    cuts_.push_back(interval.begin);
    cuts_.push_back(interval.end);
  }

  void close() {
    std::ranges::sort(cuts_);
    cuts_.erase(std::ranges::unique(cuts_).begin(), cuts_.end());
    cells_.resize(cuts_.size());
  }

  void read(const Interval& interval, uint32_t step, std::vector<uint32_t>& after) {
    for (Cell& cell : touched(interval)) {
      if (cell.writer >= 0) after.push_back(static_cast<uint32_t>(cell.writer));
      cell.readers.push_back(step);
    }
  }

  void write(const Interval& interval, uint32_t step, std::vector<uint32_t>& after) {
    for (Cell& cell : touched(interval)) {
      if (cell.writer >= 0) after.push_back(static_cast<uint32_t>(cell.writer));
      after.insert(after.end(), cell.readers.begin(), cell.readers.end());
      cell.writer = step;
      cell.readers.clear();
    }
  }

 private:
  struct Cell {
    int64_t writer = -1;
    std::vector<uint32_t> readers;
  };

  std::span<Cell> touched(const Interval& interval) {
    const auto first = std::ranges::lower_bound(cuts_, interval.begin) - cuts_.begin();
    const auto last = std::ranges::lower_bound(cuts_, interval.end) - cuts_.begin();
    return std::span(cells_).subspan(static_cast<size_t>(first), static_cast<size_t>(last - first));
  }

  std::vector<int64_t> cuts_;
  std::vector<Cell> cells_;
};

// The spaces of one plan: Input and Output share one if they overlap.
class Spaces {
 public:
  Spaces(const Plan& plan, const Alias& alias) : alias_(alias) {
    for (const Step& step : plan.steps) {
      for (const Operand& source : step.from) space(source.slice).add(interval(source.slice));
      if (step.kind != Kind::kSend) space(step.to.slice).add(interval(step.to.slice));
    }
    for (Space& each : spaces_) each.close();
  }

  void read(const Slice& slice, uint32_t step, std::vector<uint32_t>& after) {
    space(slice).read(interval(slice), step, after);
  }
  void write(const Slice& slice, uint32_t step, std::vector<uint32_t>& after) {
    space(slice).write(interval(slice), step, after);
  }

 private:
  Space& space(const Slice& slice) {
    if (slice.region == Region::kOutput && alias_.kind != Alias::Kind::kAtOffset) return spaces_[1];
    return spaces_[slice.region == Region::kScratch ? 2 : 0];
  }
  [[nodiscard]] Interval interval(const Slice& slice) const {
    const int64_t shift = slice.region == Region::kOutput ? alias_.offset : 0;
    const int64_t begin = static_cast<int64_t>(slice.offset) + shift;
    return {begin, begin + static_cast<int64_t>(slice.bytes)};
  }

  Alias alias_;
  Space spaces_[3];  // the caller's buffers (Input, and Output where they overlap), Output, scratch
};

bool touches_buffers(const Step& step) {
  const auto is_buffer = [](const Operand& operand) {
    return operand.slice.region != Region::kScratch;
  };
  return std::ranges::any_of(step.from, is_buffer) ||
         (step.kind != Kind::kSend && is_buffer(step.to));
}

// Nothing is known of how Input and Output overlap: each step on them waits for those of the level
// before.
void order_by_level(const Plan& plan, Links& links) {
  std::vector<uint32_t> before, current;
  for (uint32_t i = 0; i < plan.steps.size(); ++i) {
    if (!touches_buffers(plan.steps[i])) continue;
    if (!current.empty() && plan.steps[current.front()].level != plan.steps[i].level) {
      before = std::exchange(current, {});
    }
    links.after[i].insert(links.after[i].end(), before.begin(), before.end());
    current.push_back(i);
  }
}

}  // namespace

Links link(const Plan& plan, const Alias& alias) {
  Spaces spaces(plan, alias);
  Links links;
  links.after.resize(plan.steps.size());
  if (alias.kind == Alias::Kind::kUnknown) order_by_level(plan, links);
  for (uint32_t i = 0; i < plan.steps.size(); ++i) {
    const Step& step = plan.steps[i];
    std::vector<uint32_t>& after = links.after[i];
    for (const Operand& source : step.from) spaces.read(source.slice, i, after);
    if (step.kind != Kind::kSend) spaces.write(step.to.slice, i, after);
    std::ranges::sort(after);
    after.erase(std::ranges::unique(after).begin(), after.end());
    std::erase(after, i);  // a fold that reads what it writes does not wait for itself
  }
  return links;
}

}  // namespace slimccl::collectives
