#include "topology/discover.h"
#include "topology/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace slimccl::topology {
namespace {

std::vector<int> nodes_of(const Machine& machine, int local_ranks) {
  std::vector<int> nodes;
  for (int i = 0; i < local_ranks; ++i) nodes.push_back(machine.numa_node_for(i, local_ranks));
  return nodes;
}

using testing::Each;
using testing::ElementsAre;

TEST(MachineTest, CountsCoresAndNodes) {
  const Machine machine = Machine::synthetic("pack:2 [numa] core:4 pu:1");
  EXPECT_EQ(machine.cores_allowed(), 8);
  EXPECT_EQ(machine.numa_nodes(), 2);
  EXPECT_EQ(Machine::synthetic("[numa] core:4 pu:2").cores_allowed(), 4) << "not hyperthreads";
  EXPECT_EQ(Machine::synthetic("[numa] pu:3").cores_allowed(), 3) << "no cores known";
}

TEST(MachineTest, AffinityAndQuotaLimitTheCores) {
  const std::vector<int> two = {1, 6};
  EXPECT_EQ(Machine::synthetic("pack:2 [numa] core:4 pu:1", two).cores_allowed(), 2);
  EXPECT_EQ(Machine::synthetic("pack:2 [numa] core:4 pu:1", {}, 3).cores_allowed(), 3);
  EXPECT_EQ(Machine::synthetic("pack:2 [numa] core:4 pu:1", two, 3).cores_allowed(), 2);
}

TEST(MachineTest, SplitsLocalRanksEvenly) {
  const Machine machine = Machine::synthetic("pack:2 [numa] core:4 pu:1");
  EXPECT_THAT(nodes_of(machine, 4), ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(nodes_of(machine, 3), ElementsAre(0, 0, 1));
  EXPECT_THAT(nodes_of(machine, 1), ElementsAre(0));
  EXPECT_THAT(nodes_of(Machine::synthetic("pack:4 [numa] core:1 pu:1"), 2), ElementsAre(0, 2));
  EXPECT_EQ(machine.numa_node_for(4, 4), -1);
  EXPECT_EQ(machine.numa_node_for(-1, 4), -1);
}

TEST(MachineTest, OneNodeOrABoundProcessIsLeftAlone) {
  EXPECT_THAT(nodes_of(Machine::synthetic("[numa] core:4 pu:1"), 4), Each(-1));
  const std::vector<int> first_node = {0, 1, 2, 3};
  EXPECT_THAT(nodes_of(Machine::synthetic("pack:2 [numa] core:4 pu:1", first_node), 4), Each(-1));
  const std::vector<int> some_of_each = {0, 1, 4, 5};
  EXPECT_THAT(nodes_of(Machine::synthetic("pack:2 [numa] core:4 pu:1", some_of_each), 4), Each(-1));
}

TEST(MachineTest, BadDescriptionIsRefused) {
  EXPECT_THROW((void)Machine::synthetic("a pair of cores"), Error);
}

TEST(MachineTest, BindingIsNeverAnError) {
  for (const Machine& machine :
       {Machine::synthetic("pack:2 [numa] core:4 pu:1"), Machine::discover()}) {
    machine.bind_thread_near(1, 2);
  }
}

TEST(MachineTest, ThisMachineHasACoreAndANode) {
  const Machine machine = Machine::discover();
  EXPECT_GE(machine.cores_allowed(), 1);
  EXPECT_GE(machine.numa_nodes(), 1);
}

TEST(QuotaTest, RoundsUpAndKnowsNone) {
  EXPECT_EQ(quota_cores("200000 100000"), 2);
  EXPECT_EQ(quota_cores("250000 100000"), 3);
  EXPECT_EQ(quota_cores("1000 100000"), 1);
  for (const char* none : {"max 100000", "", "x", "100000", "100000 ", "100000 0", "-1 100000"}) {
    EXPECT_EQ(quota_cores(none), 0) << none;
  }
}

TEST(NodeIdentityTest, SettingWinsElseBootAndMemory) {
  Config config;
  const std::string standard = node_identity(config);
  EXPECT_EQ(node_identity(config), standard);
  EXPECT_THAT(standard, testing::MatchesRegex("[0-9a-f-]+/[0-9]+"));
  config.node_id = "left";
  EXPECT_EQ(node_identity(config), "left");
  config.node_id.clear();
  setenv("NCCL_HOSTID", "right", 1);
  EXPECT_EQ(node_identity(config), "right");
  setenv("NCCL_HOSTID", "", 1);
  EXPECT_EQ(node_identity(config), standard);
  unsetenv("NCCL_HOSTID");
}

// name, ip, up, loopback, v6, link-local
const std::vector<InterfaceAddress> kTypical = {
    {"lo", "127.0.0.1", true, true, false, false},
    {"docker0", "172.17.0.1", true, false, false, false},
    {"eth0", "10.0.0.9", false, false, false, false},
    {"ib0", "fe80::1", true, false, true, true},
    {"ib0", "fd00::7", true, false, true, false},
    {"eth1", "10.0.1.7", true, false, false, false},
    {"eth2", "10.0.2.7", true, false, false, false},
    {"lo", "::1", true, true, true, false},
};

TEST(AddressTest, TheFirstThatServes) {
  EXPECT_EQ(choose_address(kTypical, ""), "10.0.1.7");
  const std::span<const InterfaceAddress> all(kTypical);
  EXPECT_EQ(choose_address(all.first(5), ""), "fd00::7") << "global IPv6 before a virtual bridge";
  EXPECT_EQ(choose_address(all.first(4), ""), "172.17.0.1") << "a bridge before nothing";
  EXPECT_EQ(choose_address(all.first(1), ""), "");
}

TEST(AddressTest, AnInterfaceByName) {
  EXPECT_EQ(choose_address(kTypical, "eth2"), "10.0.2.7");
  EXPECT_EQ(choose_address(kTypical, "ib0"), "fd00::7");
  EXPECT_EQ(choose_address(kTypical, "docker0"), "172.17.0.1");
  EXPECT_EQ(choose_address(kTypical, "lo"), "127.0.0.1");
  EXPECT_EQ(choose_address(kTypical, "eth0"), "") << "down";
  EXPECT_EQ(choose_address(kTypical, "eth"), "");
}

TEST(AddressTest, TheSettingMayBeAnAddress) {
  Config config;
  EXPECT_NE(reachable_address(config), "");
  for (const char* ip : {"192.0.2.7", "fd00::7", "127.0.0.1"}) {
    config.address = ip;
    EXPECT_EQ(reachable_address(config), ip);
  }
  config.address = "lo";
  EXPECT_EQ(reachable_address(config), "127.0.0.1");
  config.address = "eth99";
  try {
    (void)reachable_address(config);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ncclInvalidUsage);
    EXPECT_THAT(error.what(), testing::HasSubstr("SLIMCCL_ADDRESS=\"eth99\""));
    EXPECT_THAT(error.what(), testing::HasSubstr("lo"));
  }
}

}  // namespace
}  // namespace slimccl::topology
