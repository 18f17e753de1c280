#include "table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "elements.h"

namespace slimccl::perf {
namespace {

double algbw(const Row& row, const Placement& placement) {
  return placement.time_us > 0
             ? static_cast<double>(row.test.size_bytes()) / placement.time_us / 1000
             : 0;
}

void print_side(const Row& row, const Placement& placement) {
  if (!placement.ran) {
    std::printf("  %9s %7s %7s %6s", "N/A", "N/A", "N/A", "N/A");
    return;
  }
  const double bandwidth = algbw(row, placement);
  std::printf("  %9.2f %7.2f %7.2f", placement.time_us, bandwidth,
              bandwidth * row.test.bus_factor());
  if (row.checked) {
    std::printf(" %6llu", static_cast<unsigned long long>(placement.wrong));
  } else {
    std::printf(" %6s", "N/A");
  }
}

double ratio(const Row& row) {
  return row.bytes_between_nodes > 0 ? row.exact_bytes / row.bytes_between_nodes : 1;
}

nlohmann::json side(const Row& row, const Placement& placement) {
  if (!placement.ran) return nullptr;
  return {{"time_us", placement.time_us},
          {"algbw", algbw(row, placement)},
          {"busbw", algbw(row, placement) * row.test.bus_factor()},
          {"wrong", placement.wrong},
          {"why", placement.why}};
}

}  // namespace

void print_header(const Options& options, const std::vector<int>& node_of) {
  const std::set<int> nodes(node_of.begin(), node_of.end());
  std::printf(
      "# SlimCCL %s, %s: %zu ranks on %zu nodes, %d iterations after %d to warm up, %d checked\n",
      slimcclVersion(), options.collective->name, node_of.size(), nodes.size(), options.iterations,
      options.warmup, options.checks);
  std::printf("#%12s %13s %9s %7s %5s  %32s  %32s\n", "", "", "", "", "", "out-of-place",
              "in-place");
  std::printf("#%12s %13s %9s %7s %5s  %9s %7s %7s %6s  %9s %7s %7s %6s  %7s %12s %6s %7s %6s\n",
              "size", "count", "type", "redop", "root", "time", "algbw", "busbw", "#wrong", "time",
              "algbw", "busbw", "#wrong", "codec", "internode", "ratio", "SQNR", "error");
  std::printf("#%12s %13s %9s %7s %5s  %9s %7s %7s %6s  %9s %7s %7s %6s  %7s %12s %6s %7s %6s\n",
              "(B)", "(elements)", "", "", "", "(us)", "(GB/s)", "(GB/s)", "", "(us)", "(GB/s)",
              "(GB/s)", "", "", "(B)", "", "(dB)", "/bound");
}

void print_row(const Row& row) {
  std::printf(" %12llu %13llu %9s %7s %5d", static_cast<unsigned long long>(row.test.size_bytes()),
              static_cast<unsigned long long>(row.test.count), element_name(row.test.type),
              name(row.test.reduction), row.test.root);
  print_side(row, row.out_of_place);
  print_side(row, row.in_place);
  std::printf("  %7s %12.0f %6.2f", row.codec.c_str(), row.bytes_between_nodes, ratio(row));
  if (row.compressed && row.accuracy.elems > 0) {
    std::printf(" %7.2f %6.2f\n", row.accuracy.sqnr_db, row.accuracy.worst);
  } else {
    std::printf(" %7s %6s\n", "-", "-");
  }
  for (const Placement* each : {&row.out_of_place, &row.in_place}) {
    if (!each->why.empty()) std::printf("# WRONG, %s\n", each->why.c_str());
  }
  std::fflush(stdout);
}

void print_footer(const std::vector<Row>& rows) {
  double sum = 0;
  size_t failed = 0;
  size_t placements = 0;
  for (const Row& row : rows) {
    for (const Placement* each : {&row.out_of_place, &row.in_place}) {
      if (!each->ran) continue;
      ++placements;
      failed += each->wrong > 0 ? 1 : 0;
      sum += algbw(row, *each) * row.test.bus_factor();
    }
  }
  std::printf("# Out of bounds values : %zu %s\n", failed, failed == 0 ? "OK" : "FAILED");
  std::printf("# Avg bus bandwidth    : %g\n",
              sum / static_cast<double>(std::max<size_t>(1, placements)));
}

void write_json(const std::string& path, const std::vector<Row>& rows) {
  nlohmann::json all = nlohmann::json::array();
  for (const Row& row : rows) {
    nlohmann::json one = {{"collective", row.test.collective->name},
                          {"size", row.test.size_bytes()},
                          {"count", row.test.count},
                          {"type", element_name(row.test.type)},
                          {"redop", name(row.test.reduction)},
                          {"root", row.test.root},
                          {"out_of_place", side(row, row.out_of_place)},
                          {"in_place", side(row, row.in_place)},
                          {"compressed", row.compressed},
                          {"codec", row.codec},
                          {"bytes_between_nodes", row.bytes_between_nodes},
                          {"exact_bytes", row.exact_bytes},
                          {"wire_bytes", row.wire_bytes},
                          {"gain", row.accuracy.gain},
                          {"error_over_bound", row.accuracy.worst}};
    one["sqnr_db"] = std::isfinite(row.accuracy.sqnr_db) ? nlohmann::json(row.accuracy.sqnr_db)
                                                         : nlohmann::json();
    all.push_back(one);
  }
  std::ofstream file(path);
  file << all.dump(1) << "\n";
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace slimccl::perf
