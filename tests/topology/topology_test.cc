#include "topology/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"

namespace slimccl::topology {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string error_of(std::string_view text) {
  try {
    (void)parse(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ncclInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(TopologyTest, NumbersNodesByLowestRankAndLocalsByAscendingRank) {
  const Topology topology(std::vector<int>{7, -3, 7, 5, -3});
  EXPECT_EQ(topology.ranks(), 5);
  EXPECT_EQ(topology.nodes(), 3);
  EXPECT_THAT(topology.members(0), ElementsAre(0, 2));
  EXPECT_THAT(topology.members(1), ElementsAre(1, 4));
  EXPECT_THAT(topology.members(2), ElementsAre(3));
  EXPECT_EQ(topology.node_of(4), 1);
  EXPECT_EQ(topology.local_of(4), 1);
  EXPECT_EQ(topology.local_of(3), 0);
}

TEST(TopologyTest, EqualWhateverTheLabels) {
  EXPECT_EQ(Topology(std::vector<int>{9, 9, 4}), Topology(std::vector<int>{0, 0, 1}));
  EXPECT_NE(Topology(std::vector<int>{0, 1, 1}), Topology(std::vector<int>{0, 0, 1}));
}

TEST(TopologyTest, RefusesNoRanks) { EXPECT_THROW(Topology(std::vector<int>{}), Error); }

TEST(TopologyTest, TeamsAreEqualContiguousAndWithinANode) {
  for (const auto& [text, size] : {std::pair{"1x1", 1},
                                   {"2x4", 4},
                                   {"1x6", 6},
                                   {"4+2", 2},
                                   {"3+1", 1},
                                   {"2+4+2", 2},
                                   {"0,1,0,1", 1},
                                   {"0,0,1,1,0,0", 2}}) {
    EXPECT_EQ(parse(text).team_size(), size) << text;
  }
}

TEST(TopologyTest, CarrierOfUnevenNodesWrapsRound) {
  const Topology topology = parse("3+1");
  EXPECT_EQ(topology.carrier(1, 0), 3);
  EXPECT_EQ(topology.carrier(1, 2), 3);
  EXPECT_EQ(topology.carrier(0, 3), 0);
}

TEST(TopologyTest, CarrierIsOfTheNodeAndForOwnRanksTheRankItself) {
  for (const char* text : {"1x1", "2x4", "3+1", "1+4+2", "0,1,0,1", "0,1,1,2,0,2,2"}) {
    const Topology topology = parse(text);
    for (int node = 0; node < topology.nodes(); ++node) {
      for (int remote = 0; remote < topology.ranks(); ++remote) {
        const int carrier = topology.carrier(node, remote);
        EXPECT_EQ(topology.node_of(carrier), node) << text;
        if (topology.node_of(remote) == node) {
          EXPECT_EQ(carrier, remote) << text;
        } else {
          EXPECT_EQ(topology.local_of(carrier),
                    topology.local_of(remote) % static_cast<int>(topology.members(node).size()));
        }
      }
    }
  }
}

TEST(TopologyTest, EqualNodesShareTheWorkEvenly) {
  const Topology topology = parse("3x4");
  std::set<int> carriers;
  for (const int remote : topology.members(2)) carriers.insert(topology.carrier(0, remote));
  EXPECT_EQ(carriers.size(), 4u);
}

TEST(ParseTest, Forms) {
  EXPECT_EQ(parse("2x3"), Topology(std::vector<int>{0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(parse("2+2+1"), Topology(std::vector<int>{0, 0, 1, 1, 2}));
  EXPECT_EQ(parse("0,1,0,1"), Topology(std::vector<int>{0, 1, 0, 1}));
  EXPECT_EQ(parse("5,3,5"), Topology(std::vector<int>{0, 1, 0}));
}

TEST(ParseTest, ToTextIsTheShortestFormAndParsesBack) {
  const std::pair<const char*, const char*> cases[] = {
      {"1x1", "1x1"},         {"2x4", "2x4"},     {"4+4", "2x4"},     {"0,0", "1x2"},
      {"3,2,1", "3x1"},       {"3+1", "3+1"},     {"9,9,9,1", "3+1"}, {"5,3,5", "0,1,0"},
      {"0,1,0,1", "0,1,0,1"}, {"2+2+1", "2+2+1"}, {"1+12", "1+12"},   {"16x8", "16x8"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(to_text(parse(text)), expected);
    EXPECT_EQ(parse(to_text(parse(text))), parse(text));
  }
}

TEST(ParseTest, EveryLabellingOfUpToSixRanksComesBack) {
  for (int ranks = 1; ranks <= 6; ++ranks) {
    int count = 1;
    for (int i = 0; i < ranks; ++i) count *= ranks;
    for (int code = 0; code < count; ++code) {
      std::vector<int> labels;
      for (int rest = code, i = 0; i < ranks; ++i, rest /= ranks) labels.push_back(rest % ranks);
      const Topology topology(labels);
      ASSERT_EQ(parse(to_text(topology)), topology) << to_text(topology);
    }
  }
}

TEST(ParseTest, ErrorsSayWhatIsWrong) {
  EXPECT_THAT(error_of(""), HasSubstr("neither of x, + and ,"));
  EXPECT_THAT(error_of("4"), HasSubstr("neither of x, + and ,"));
  EXPECT_THAT(error_of("2x"), HasSubstr("\"\" is not a number"));
  EXPECT_THAT(error_of("2x4x1"), HasSubstr("more than one x"));
  EXPECT_THAT(error_of("0x4"), HasSubstr("no nodes"));
  EXPECT_THAT(error_of("4x0"), HasSubstr("without ranks"));
  EXPECT_THAT(error_of("3+0"), HasSubstr("without ranks"));
  EXPECT_THAT(error_of("3+-1"), HasSubstr("\"-1\" is not a number"));
  EXPECT_THAT(error_of("0,1,"), HasSubstr("\"\" is not a number"));
  EXPECT_THAT(error_of("0,1 ,2"), HasSubstr("\"1 \" is not a number"));
  EXPECT_THAT(error_of("3+1,2"), HasSubstr("\"3+1\" is not a number"));
  EXPECT_THAT(error_of("99999999999x1"), HasSubstr("is not a number"));
  EXPECT_THAT(error_of("100000x100000"), HasSubstr("more than 1048576 ranks"));
  EXPECT_THAT(error_of("2147483647+2147483647"), HasSubstr("more than 1048576 ranks"));
  EXPECT_THAT(error_of("2y4"), HasSubstr("topology \"2y4\""));
}

}  // namespace
}  // namespace slimccl::topology
