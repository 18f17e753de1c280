// nccl-tests' table, its columns in its order and ours to the right of them; and the same as JSON.
#pragma once

#include <string>
#include <vector>

#include "runner.h"

namespace slimccl::perf {

void print_header(const Options& options, const std::vector<int>& node_of);
void print_row(const Row& row);
void print_footer(const std::vector<Row>& rows);
// Throws std::runtime_error when `path` cannot be written.
void write_json(const std::string& path, const std::vector<Row>& rows);

}  // namespace slimccl::perf
