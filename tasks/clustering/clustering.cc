// SPDX-License-Identifier: Apache-2.0
//
// Grouping what stands far apart: the clustering questions of Loong (Wang et
// al., "Leave No Document Behind", arXiv 2406.17419) without the language. Each
// record is a category and an item; records of all categories stand in random
// order among blanks. Asked for, category by category, are its members, or,
// with answer = totals, how many there are:
//
//   token   A i3 _ B i7 A i9 _ | = B ?1 B ?2 A ?1 A ?2      members, m = 2
//   target                           i7   no   i3   i9
//
//   token   A i3 _ B i7 A i9 _ | = B ?1 A ?1                totals
//   target                           1    2
//
// Each of C categories has 1 ... m records, each number equally likely, of
// items that are all different and drawn anew for each example. Members have m
// slots; what is left of them wants "no". For training, slots want members in
// ascending order of their ids. Categories are asked for in random order.
//
// The answer to a category is a set, and right if it is the whole set: the
// score is the fraction of categories that are right, where the order of the
// slots, repetitions and "no" do not count. Details are F1, the mean over
// categories, and whether all categories are right. Loong has a model judge
// answers in natural language, and calls the fraction that is faultless the
// perfect rate; its documents have no sizes that a profile could name.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "tasks/answer_slots.h"
#include "tasks/scatter.h"
#include "tasks/set_score.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {
namespace {

double Choose(int64_t n, int64_t k) {
  double ways = 1;
  for (int64_t i = 1; i <= k; ++i) {
    ways *= static_cast<double>(n - k + i) / static_cast<double>(i);
  }
  return ways;
}

class Clustering : public Task {
 public:
  static absl::StatusOr<std::unique_ptr<Task>> Make(const Options& options) {
    const Clustering task(options);
    const int64_t records = task.categories_ * task.most_;
    if (task.items_ < records) {
      return absl::InvalidArgumentError(absl::StrCat(
          "clustering: categories=", task.categories_,
          " of up to most=", task.most_, " members need items >= ", records,
          ", not ", task.items_));
    }
    const int64_t least = 2 * records + task.question_length();
    if (task.length_ < least) {
      return absl::InvalidArgumentError(absl::StrCat(
          "clustering: categories=", task.categories_,
          " of up to most=", task.most_, " members need length >= ", least,
          " (two tokens a record, ", task.question_length(),
          " for the question), not ", task.length_));
    }
    return std::unique_ptr<Task>(new Clustering(options));
  }

  int64_t vocabulary() const override { return first_item() + items_; }
  int64_t length() const override { return length_; }

  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override;

  double Score(const Example& example,
               absl::Span<const int32_t> predictions) const override {
    double right = 0;
    for (const SetScore& score : ScoreCategories(example, predictions)) {
      right += score.exact;
    }
    return right / categories_;
  }
  std::vector<std::string> DetailNames() const override {
    return {"f1", "exact"};
  }
  std::vector<double> Details(
      const Example& example,
      absl::Span<const int32_t> predictions) const override {
    double f1 = 0;
    bool exact = true;
    for (const SetScore& score : ScoreCategories(example, predictions)) {
      f1 += score.f1;
      exact = exact && score.exact;
    }
    return {f1 / categories_, exact ? 1.0 : 0.0};
  }

  // Of filling each slot with any item or "no": the m slots must hold the k
  // members, each at least once, and "no" (inclusion and exclusion).
  double ChanceScore() const override {
    if (totals_) return 1.0 / most_;
    const double sequences = std::pow(items_ + 1.0, most_);
    double sum = 0;
    for (int64_t k = 1; k <= most_; ++k) {
      for (int64_t j = 0; j <= k; ++j) {
        const double ways = Choose(k, j) * std::pow(k + 1.0 - j, most_);
        sum += (j % 2 == 0 ? ways : -ways) / sequences;
      }
    }
    return sum / most_;
  }

  // Of knowing all items of the context and how many of them are members, but
  // not which: any such set is as good as another.
  double ContextGuessScore() const override {
    if (totals_) return 1.0 / most_;
    // The number of members of all other categories.
    std::vector<double> others = {1};
    for (int64_t c = 1; c < categories_; ++c) {
      std::vector<double> sum(others.size() + most_);
      for (size_t i = 0; i < others.size(); ++i) {
        for (int64_t k = 1; k <= most_; ++k) sum[i + k] += others[i] / most_;
      }
      others = std::move(sum);
    }
    double score = 0;
    for (int64_t k = 1; k <= most_; ++k) {
      for (size_t n = 0; n < others.size(); ++n) {
        score += others[n] / Choose(static_cast<int64_t>(n) + k, k) / most_;
      }
    }
    return score;
  }

  LeakFloors Floors() const override {
    // Who knows nothing does best to name one item, in a category of one.
    // A bag knows the totals, but nothing of members beyond their number.
    if (totals_) return {ChanceScore(), /*bag=*/1, ChanceScore()};
    const double one = 1.0 / (most_ * items_);
    return {one, ContextGuessScore(), one};
  }

  std::string TokenText(int32_t token) const override {
    if (token < first_answer()) return SlotTaskTokenText(token, slots_, "");
    if (token < first_category()) {
      return totals_ ? absl::StrCat(token - first_answer() + 1) : "no";
    }
    if (token < first_item()) {
      return absl::StrCat("C", token - first_category() + 1);
    }
    return absl::StrCat("i", token - first_item() + 1);
  }

 private:
  explicit Clustering(const Options& options)
      : length_(options.Int("length")),
        categories_(options.Int("categories")),
        most_(options.Int("most")),
        items_(options.Int("items")),
        totals_(options.Choice("answer") == "totals"),
        slots_(totals_ ? 1 : most_),
        random_("clustering") {}

  // Answers that are no items: "no", or the totals.
  int32_t first_answer() const { return FirstFreeToken(slots_); }
  int64_t first_category() const {
    return first_answer() + (totals_ ? most_ : 1);
  }
  int64_t first_item() const { return first_category() + categories_; }
  int64_t question_length() const {
    return kQuestionMarks + 2 * categories_ * slots_;
  }

  // In the order of the questions.
  std::vector<SetScore> ScoreCategories(
      const Example& example, absl::Span<const int32_t> predictions) const;

  const int64_t length_;
  const int64_t categories_;
  const int64_t most_;
  const int64_t items_;
  const bool totals_;
  const int64_t slots_;  // of a category
  const TaskRandom random_;
};

std::vector<SetScore> Clustering::ScoreCategories(
    const Example& example, absl::Span<const int32_t> predictions) const {
  const std::vector<int32_t> wanted = WantedTokens(example);
  const auto set = [&](absl::Span<const int32_t> answers, int64_t category) {
    std::vector<int32_t> members;
    for (const int32_t token : answers.subspan(category * slots_, slots_)) {
      if (totals_ || token != first_answer()) members.push_back(token);
    }
    return members;
  };
  std::vector<SetScore> scores(categories_);
  for (int64_t c = 0; c < categories_; ++c) {
    scores[c] = ScoreSet(set(predictions, c), set(wanted, c));
  }
  return scores;
}

void Clustering::Generate(Split split, uint64_t seed, uint64_t index,
                          Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  example->tokens.assign(length_, kBlankToken);
  example->targets.assign(length_, kUnscored);
  example->roles.assign(length_, TokenRole::kFiller);
  example->origins.assign(length_, kNowhere);
  example->notes.clear();

  struct Record {
    int64_t category;
    int32_t item;
    int32_t place;
  };
  std::vector<Record> records;
  for (int64_t c = 0; c < categories_; ++c) {
    records.resize(records.size() + 1 + random.Below(most_), {c, 0, 0});
  }
  std::vector<uint64_t> items(records.size());
  DrawDistinct(items_, absl::MakeSpan(items), &random);
  Shuffle(absl::MakeSpan(records), &random);
  const int64_t places = length_ - question_length();
  const std::vector<int64_t> starts = ScatterRuns(
      static_cast<int64_t>(records.size()), /*width=*/2, places, &random);
  for (size_t i = 0; i < records.size(); ++i) {
    Record& record = records[i];
    const int64_t t = starts[i];
    record.item = static_cast<int32_t>(first_item() + items[i]);
    record.place = static_cast<int32_t>(t + 1);
    example->tokens[t] =
        static_cast<int32_t>(first_category() + record.category);
    example->tokens[t + 1] = record.item;
    example->roles[t] = example->roles[t + 1] = TokenRole::kContext;
  }

  std::vector<std::vector<Record>> members(categories_);
  for (const Record& record : records) {
    members[record.category].push_back(record);
  }
  Shuffle(absl::MakeSpan(members), &random);
  example->tokens[places] = kEndToken;
  example->tokens[places + 1] = kQuestionToken;
  example->roles[places] = example->roles[places + 1] = TokenRole::kContext;
  int64_t t = places + kQuestionMarks;
  for (std::vector<Record>& cluster : members) {
    std::sort(cluster.begin(), cluster.end(),
              [](const Record& a, const Record& b) { return a.item < b.item; });
    const int64_t size = static_cast<int64_t>(cluster.size());
    for (int64_t slot = 0; slot < slots_; ++slot, t += 2) {
      example->tokens[t] =
          static_cast<int32_t>(first_category() + cluster[0].category);
      example->roles[t] = TokenRole::kContext;
      const int64_t query = t + 1;
      example->tokens[query] = static_cast<int32_t>(kFirstSlotToken + slot);
      example->roles[query] = TokenRole::kQuery;
      if (totals_) {
        example->targets[query] =
            static_cast<int32_t>(first_answer() + size - 1);
      } else if (slot < size) {
        example->targets[query] = cluster[slot].item;
        example->origins[query] = cluster[slot].place;
      } else {
        example->targets[query] = first_answer();
      }
    }
  }
}

TaskDescriptor Descriptor() {
  TaskDescriptor descriptor;
  descriptor.name = "clustering";
  descriptor.group = "summarization proxies";
  descriptor.summary = "the members, or their number, of each category";
  descriptor.paper = "arXiv 2406.17419";
  descriptor.options = {
      OptionSpec::Int("length", 64, 8, 1 << 20, "tokens in a sequence"),
      OptionSpec::Int("categories", 3, 2, 64, "categories, all asked for"),
      OptionSpec::Int("most", 3, 1, 16,
                      "members of a category at most; at least one"),
      OptionSpec::Int("items", 32, 2, 1 << 20,
                      "items that can be members, each of one category"),
      OptionSpec::Choice("answer", "members", {"members", "totals"},
                         "what is asked of a category"),
  };
  descriptor.profiles = {
      {"quick",
       {{"length", "64"},
        {"categories", "3"},
        {"most", "3"},
        {"items", "32"},
        {"answer", "members"}}},
      {"smoke",
       {{"length", "24"}, {"categories", "2"}, {"most", "2"}, {"items", "16"}}},
      {"totals",
       {{"length", "64"},
        {"categories", "4"},
        {"most", "6"},
        {"items", "32"},
        {"answer", "totals"}},
       {},
       {{"steps", "800"}}},
  };
  return descriptor;
}

const bool kRegistered = RegisterTask({Descriptor(), Clustering::Make});

}  // namespace
}  // namespace mneme
