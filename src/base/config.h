// The settings: one table gives each its type, variable, default and help; parsing,
// `docs/settings.md`, the start-up log and the tests derive from it. A Config is a value, read from
// the environment once per process and handed down.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace slimccl {

// X(type, field, "VARIABLE", default, "help")
#define SLIMCCL_SETTINGS(X)                                                                        \
  X(std::string, profile, "SLIMCCL_PROFILE", "exact",                                              \
    "what is compressed between nodes: exact (nothing) or zeropp (all-gathers as weights in "      \
    "q8, reduce-scatters and all-reduces as gradients in q4s). Over NCCL (LD_PRELOAD) also "       \
    "auto (only what all ranks have seen to be weights or gradients) and audit (nothing, but "     \
    "the report says what zeropp would have saved); elsewhere these two are exact. Must agree"     \
    " on all ranks, else the communicator is exact")                                               \
  X(std::string, rules, "SLIMCCL_RULES", "",                                                       \
    "over NCCL: what calls carry, in your own words: \"tp*=exact; "                                \
    "dp*:reduce_scatter=gradients\", or the path of a TOML file (docs/policy.md). Must agree "     \
    "on all ranks")                                                                                \
  X(uint64_t, floor_elems, "SLIMCCL_FLOOR", 65536,                                                 \
    "calls with fewer elements per rank than this stay exact")                                     \
  X(uint64_t, segment_elems, "SLIMCCL_SEGMENT", 65536,                                             \
    "elements of each rank's slice in one pipeline segment (rounded up to 2048); rank 0's value "  \
    "is used")                                                                                     \
  X(uint64_t, window, "SLIMCCL_WINDOW", 6,                                                         \
    "pipeline segments under way at once; rank 0's value is used")                                 \
  X(std::string, algo, "SLIMCCL_ALGO", "",                                                         \
    "forces catalogue rows, e.g. reduce_scatter=exact,all_gather=two_hop; rank 0's value is "      \
    "used; over NCCL it must be equal on all ranks, else the communicator is exact")               \
  X(double, net_gbits, "SLIMCCL_NET_GBITS", 10.0,                                                  \
    "Gbit/s between two nodes that the cost model assumes; rank 0's value is used; over NCCL it "  \
    "must be equal on all ranks, else the communicator is exact")                                  \
  X(uint64_t, staging_mb, "SLIMCCL_STAGING_MB", 64,                                                \
    "MiB of pinned memory that each communicator with a CUDA device moves device memory through: " \
    "longer calls go in pieces, larger groups of messages get more; rank 0's value is used")       \
  X(double, timeout_s, "SLIMCCL_TIMEOUT_S", 600.0,                                                 \
    "seconds without progress after which an operation fails and the communicator with it")        \
  X(double, setup_timeout_s, "SLIMCCL_SETUP_TIMEOUT_S", 120.0,                                     \
    "seconds that ncclCommInitRank waits for the other ranks")                                     \
  X(std::string, node_id, "SLIMCCL_NODE_ID", "",                                                   \
    "overrides node identity: ranks with equal values are on one node (NCCL_HOSTID does the "      \
    "same)")                                                                                       \
  X(std::string, address, "SLIMCCL_ADDRESS", "",                                                   \
    "IP address or interface that other nodes reach this process by; empty: the first interface "  \
    "that is up")                                                                                  \
  X(std::string, log_level, "SLIMCCL_LOG", "notice", "none, warn, notice, info or debug")          \
  X(std::string, log_file, "SLIMCCL_LOG_FILE", "",                                                 \
    "file for the log instead of stderr; %h host name, %p process id")                             \
  X(bool, check, "SLIMCCL_CHECK", false,                                                           \
    "compare every call's arguments between ranks before anything is sent, and say who differs: "  \
    "for finding a program's error, slow; rank 0's value is used")                                 \
  X(bool, overlay, "SLIMCCL_OVERLAY", true,                                                        \
    "over NCCL: off leaves every call to the real NCCL, as if nothing were preloaded")             \
  X(std::string, nccl, "SLIMCCL_NCCL", "",                                                         \
    "over NCCL: the real NCCL's file; empty: the one that the program has loaded")                 \
  X(bool, id_tag, "SLIMCCL_ID_TAG", true,                                                          \
    "over NCCL: ncclGetUniqueId writes into the unused end of NCCL's id where the ranks agree "    \
    "whether to compress; off: every communicator is exact")                                       \
  X(double, agree_s, "SLIMCCL_AGREE_S", 10.0,                                                      \
    "over NCCL: seconds that ncclCommInitRank waits, once NCCL has made the communicator, for "    \
    "the other ranks to agree; one that is silent makes the communicator exact")                   \
  X(uint64_t, arena_mb, "SLIMCCL_ARENA_MB", 256,                                                   \
    "over NCCL: MiB of GPU memory that each communicator which may compress takes for messages: "  \
    "longer calls go in segments; the least of all ranks is used")                                 \
  X(std::string, report, "SLIMCCL_REPORT", "",                                                     \
    "over NCCL: file for a report in JSON on every communicator; %h host name, %p process id")     \
  X(std::string, trace, "SLIMCCL_TRACE", "",                                                       \
    "over NCCL: file for a line of JSON on every call that carries data, for finding out what a "  \
    "program calls, slow; %h host name, %p process id")                                            \
  X(bool, explain, "SLIMCCL_EXPLAIN", false,                                                       \
    "log how each new kind of call is carried, and why; over NCCL it does nothing")

struct Config {
#define SLIMCCL_FIELD(type, field, variable, standard, help) type field = standard;
  SLIMCCL_SETTINGS(SLIMCCL_FIELD)
#undef SLIMCCL_FIELD
};

// One row of the table as text, for documents and the log.
struct SettingInfo {
  std::string_view variable, type, standard, help;
};
[[nodiscard]] std::vector<SettingInfo> all_settings();

using Environment = std::function<const char*(const char* variable)>;
// Throws Error naming the variable, the value and what would be right. `warnings` receives a line
// for each variable among `names` that starts with SLIMCCL_ and is not in the table (with the
// nearest name).
[[nodiscard]] Config parse_config(const Environment& environment);
[[nodiscard]] std::vector<std::string> unknown_settings(const std::vector<std::string>& names);

// The process's environment, read at the first call; throws at every call if it was bad.
[[nodiscard]] const Config& config();
// Names of the variables of this process's environment that may be this variant's settings, without
// its prefix.
[[nodiscard]] std::vector<std::string> environment_names();
// Any other environment variable (NCCL_HOSTID); null if unset. The only getenv in the tree is
// behind this.
[[nodiscard]] const char* environment_variable(const char* name) noexcept;
// Sets such a variable unless it is set. Only where no other thread may be reading the environment.
void set_environment_variable(const char* name, const char* value) noexcept;
// `pattern` with %h as the host's name and %p as the process id: for files that processes do not
// share.
[[nodiscard]] std::string expand_path(std::string_view pattern);
[[nodiscard]] std::string host_name();  // "?" if the system does not say

}  // namespace slimccl
