// What a rank learns of the others' doings, and when it learns nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "bootstrap_support.h"

namespace slimccl::runtime::testing_support {
namespace {

using testing::AnyOf;
using testing::ElementsAre;

constexpr const char* kNone = "(none)";

std::vector<std::string> texts(const Bootstrap& bootstrap) {
  std::vector<std::string> result;
  for (const auto& answer : bootstrap.answers()) result.push_back(answer.value_or(kNone));
  return result;
}

// Everybody looks, in turn, for so long.
void look(const Ranks& ranks, double seconds) {
  const auto start = Clock::now();
  while (seconds_since(start) < seconds) {
    for (const auto& one : ranks) {
      if (one) (void)one->check();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// Until `asker` has so many answers, five seconds at most; returns its texts.
std::vector<std::string> answers_of(const Ranks& ranks, size_t asker, ptrdiff_t wanted) {
  const auto start = Clock::now();
  while (true) {
    look(ranks, 0.002);
    auto said = texts(*ranks[asker]);
    const ptrdiff_t have = std::ssize(said) - std::count(said.begin(), said.end(), kNone);
    if (have >= wanted || seconds_since(start) > 5) return said;
  }
}

Ranks talkative(int count) {
  Ranks ranks = join_all(make_unique_id(local_config()), count);
  for (size_t i = 0; i < ranks.size(); ++i) {
    ranks[i]->on_question([i] { return concat("rank ", i, " idles"); });
  }
  return ranks;
}

void leave_all(const Ranks& ranks) {
  for (const auto& one : ranks) one->leave();
}

TEST(InquiryTest, AllOthersAnswerWhoAsked) {
  const Ranks ranks = talkative(3);
  EXPECT_THAT(texts(*ranks[1]), ElementsAre(kNone, kNone, kNone));
  ranks[1]->ask();
  EXPECT_THAT(answers_of(ranks, 1, 2), ElementsAre("rank 0 idles", kNone, "rank 2 idles"));
  EXPECT_THAT(texts(*ranks[0]), ElementsAre(kNone, kNone, kNone)) << "it did not ask";
  leave_all(ranks);
  EXPECT_THAT(texts(*ranks[1]), ElementsAre("rank 0 idles", kNone, "rank 2 idles"));
}

TEST(InquiryTest, OneLookIsAnAnswer) {
  const Ranks ranks = talkative(2);
  ranks[0]->ask();
  pollfd entry{ranks[1]->wait_fd(), POLLIN, 0};
  ASSERT_EQ(poll(&entry, 1, 5000), 1);
  (void)ranks[1]->check();
  entry.fd = ranks[0]->wait_fd();
  ASSERT_EQ(poll(&entry, 1, 5000), 1);
  (void)ranks[0]->check();
  EXPECT_THAT(texts(*ranks[0]), ElementsAre(kNone, "rank 1 idles"));
  leave_all(ranks);
}

TEST(InquiryTest, RanksAsProcessesAreWokenByAQuestion) {
  const ncclUniqueId id = make_unique_id(local_config());
  Process other([&](const Process::Say& say) {
    const auto bootstrap = Bootstrap::join(id, 2, 1, 10);
    bool answered = false;
    bootstrap->on_question([&] {
      answered = true;
      return std::string("forked");
    });
    while (true) {
      (void)bootstrap->check();
      if (answered) break;
      pollfd entry{bootstrap->wait_fd(), POLLIN, 0};
      if (poll(&entry, 1, 5000) == 0) return;
    }
    say("+");
    bootstrap->leave();
  });
  Ranks self;
  self.push_back(Bootstrap::join(id, 2, 0, 10));
  self[0]->ask();
  EXPECT_THAT(answers_of(self, 0, 1), ElementsAre(kNone, "forked"));
  EXPECT_EQ(other.hear(1), "+");
}

TEST(InquiryTest, EachOfSeveralAskersGetsItsOwnAnswers) {
  const Ranks ranks = talkative(3);
  int asked = 0;
  ranks[2]->on_question([&] { return concat("time ", ++asked); });
  ranks[0]->ask();
  EXPECT_THAT(answers_of(ranks, 0, 2), ElementsAre(kNone, "rank 1 idles", "time 1"));
  ranks[1]->ask();
  EXPECT_THAT(answers_of(ranks, 1, 2), ElementsAre("rank 0 idles", kNone, "time 2"));
  EXPECT_THAT(texts(*ranks[0]), ElementsAre(kNone, "rank 1 idles", "time 1"));
  for (const auto& one : ranks) one->ask();
  EXPECT_THAT(answers_of(ranks, 2, 2), ElementsAre("rank 0 idles", "rank 1 idles", kNone));
  EXPECT_THAT(answers_of(ranks, 1, 2)[0], "rank 0 idles");
  EXPECT_THAT(answers_of(ranks, 0, 2)[1], "rank 1 idles");
  leave_all(ranks);
}

TEST(InquiryTest, AskingAgainStartsAfresh) {
  const Ranks ranks = talkative(2);
  int asked = 0;
  ranks[1]->on_question([&] { return concat("time ", ++asked); });
  ranks[0]->ask();
  (void)failure_within(*ranks[1], 0.1);  // its answer is on the way, and stays unread
  EXPECT_EQ(asked, 1);
  ranks[0]->ask();
  EXPECT_THAT(texts(*ranks[0]), ElementsAre(kNone, kNone)) << "an answer to the question before";
  EXPECT_THAT(answers_of(ranks, 0, 1), ElementsAre(kNone, "time 2"));
  ranks[0]->ask();
  EXPECT_THAT(texts(*ranks[0]), ElementsAre(kNone, kNone));
  ranks[0]->ask();
  // Two questions that came together get one answer, others one each.
  EXPECT_THAT(answers_of(ranks, 0, 1), ElementsAre(kNone, AnyOf("time 3", "time 4")));
  leave_all(ranks);
}

TEST(InquiryTest, TextsAreCut) {
  const Ranks ranks = talkative(2);
  ranks[1]->on_question([] { return std::string(5000, 'x') + "y"; });
  ranks[0]->ask();
  EXPECT_THAT(answers_of(ranks, 0, 1), ElementsAre(kNone, std::string(1000, 'x')));
  ranks[1]->on_question([] { return std::string(); });
  ranks[0]->ask();
  EXPECT_THAT(answers_of(ranks, 0, 1), ElementsAre(kNone, ""));
  leave_all(ranks);
}

TEST(InquiryTest, AnAnswererThatThrowsAnswersWithItsError) {
  const Ranks ranks = talkative(3);
  ranks[1]->on_question([]() -> std::string { throw Error(ncclInternalError, "who knows"); });
  ranks[2]->on_question([]() -> std::string { throw 7; });
  ranks[0]->ask();
  EXPECT_THAT(answers_of(ranks, 0, 2), ElementsAre(kNone, "who knows", "unknown exception"));
  EXPECT_EQ(to_text(ranks[1]->check()), "nothing");
  leave_all(ranks);
}

TEST(InquiryTest, AQuestionBeforeTheAnswererIsAnsweredLater) {
  const Ranks ranks = join_all(make_unique_id(local_config()), 2);
  ranks[0]->ask();
  look(ranks, 0.05);
  EXPECT_THAT(texts(*ranks[0]), ElementsAre(kNone, kNone));
  ranks[1]->on_question([] { return std::string("at last"); });
  EXPECT_THAT(answers_of(ranks, 0, 1), ElementsAre(kNone, "at last"));
  leave_all(ranks);
}

TEST(InquiryTest, AQuestionDuringAnExchangeIsAnsweredAfterIt) {
  const Ranks ranks = talkative(2);
  ranks[0]->ask();
  std::thread other([&] { (void)ranks[1]->all_gather(bytes_of("x"), 5); });
  EXPECT_EQ(ranks[0]->all_gather(bytes_of("y"), 5).size(), 2);
  other.join();
  EXPECT_THAT(answers_of(ranks, 0, 1), ElementsAre(kNone, "rank 1 idles"));
  leave_all(ranks);
}

TEST(InquiryTest, WhoLeftOrDiedDoesNotAnswer) {
  Ranks ranks = talkative(4);
  ranks[1]->leave();
  ranks[0]->ask();
  EXPECT_THAT(answers_of(ranks, 0, 2), ElementsAre(kNone, kNone, "rank 2 idles", "rank 3 idles"));
  ranks[3].reset();
  EXPECT_EQ(to_text(failure_within(*ranks[0], 1)).substr(0, 3), "3: ");
  ranks[0]->ask();  // after a failure, too
  EXPECT_THAT(answers_of(ranks, 0, 1), ElementsAre(kNone, kNone, "rank 2 idles", kNone));
  ranks[1]->ask();
  look(ranks, 0.02);
  EXPECT_THAT(texts(*ranks[1]), ElementsAre(kNone, kNone, kNone, kNone));
}

TEST(InquiryTest, AnswersToOneWhoLeftMeanwhileDisturbNobody) {
  const Ranks ranks = talkative(3);
  ranks[0]->ask();
  ranks[0]->leave();
  look(ranks, 0.05);
  ranks[1]->ask();
  EXPECT_THAT(answers_of(ranks, 1, 1), ElementsAre(kNone, kNone, "rank 2 idles"));
  for (const auto& one : ranks) EXPECT_EQ(to_text(one->check()), "nothing");
  leave_all(ranks);
}

TEST(InquiryTest, WithoutAServerNobodyAnswers) {
  Process server([](const Process::Say& say) {
    say(id_text(make_unique_id(local_config())));
    pause();
  });
  const Ranks ranks = join_all(server.hear_id(), 2);
  ranks[1]->on_question([] { return std::string("unheard"); });
  server.kill();
  server.wait();
  for (int i = 0; i < 3; ++i) {
    ranks[0]->ask();
    look(ranks, 0.02);
  }
  EXPECT_THAT(texts(*ranks[0]), ElementsAre(kNone, kNone));
  EXPECT_EQ(to_text(ranks[0]->check()), "nothing");
}

}  // namespace
}  // namespace slimccl::runtime::testing_support
