// SPDX-License-Identifier: Apache-2.0

#include "tasks/mad/pair_recall.h"

#include <algorithm>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "attention/tensor/random.h"
#include "tasks/mad/mad.h"

namespace mneme {

absl::StatusOr<std::unique_ptr<Task>> PairRecall::Make(
    const Settings& settings) {
  if (settings.length % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(settings.name, ": length=", settings.length,
                     " is odd; pairs are two tokens wide"));
  }
  if (settings.vocabulary < settings.noise_vocabulary + 4) {
    return absl::InvalidArgumentError(absl::StrCat(
        settings.name, ": noise_vocab=", settings.noise_vocabulary,
        " needs vocab >= ", settings.noise_vocabulary + 4,
        " (two keys and two values besides), not ", settings.vocabulary));
  }
  return std::unique_ptr<Task>(new PairRecall(settings));
}

PairRecall::PairRecall(const Settings& settings)
    : settings_(settings),
      keys_((settings.vocabulary - settings.noise_vocabulary) / 2),
      values_(settings.vocabulary - settings.noise_vocabulary - keys_),
      random_(settings.name) {}

void PairRecall::Generate(Split split, uint64_t seed, uint64_t index,
                          Example* example) const {
  Random random = random_.ForExample(split, seed, index);
  const int64_t length = settings_.length;
  example->tokens.resize(length);
  example->targets.assign(length, kUnscored);
  example->roles.assign(length, TokenRole::kContext);
  example->origins.assign(length, kNowhere);
  example->notes.clear();

  std::vector<int32_t> said_at(keys_, kNowhere);  // where its value is
  std::vector<int32_t> seen;                      // keys
  const int64_t last = length - 2;
  const int64_t never_noise = 2 * random.Below(last / 2);
  for (int64_t t = 0; t < length; t += 2) {
    if (settings_.noise > 0 && t != last && t != never_noise &&
        random.Uniform() < settings_.noise) {
      for (const int64_t u : {t, t + 1}) {
        example->tokens[u] =
            keys_ + values_ + random.Below(settings_.noise_vocabulary);
        example->roles[u] = TokenRole::kFiller;
      }
      continue;
    }
    const int32_t key =
        t == last ? seen[random.Below(seen.size())] : random.Below(keys_);
    example->tokens[t] = key;
    if (said_at[key] == kNowhere) {
      seen.push_back(key);
      example->tokens[t + 1] = keys_ + random.Below(values_);
    } else {
      example->tokens[t + 1] = example->tokens[said_at[key]];
      example->targets[t] = example->tokens[t + 1];
      example->roles[t] = TokenRole::kQuery;
      example->origins[t] = said_at[key];
    }
    said_at[key] = t + 1;
  }
  if (split == Split::kTrain && settings_.train_on_all) {
    std::copy(example->tokens.begin() + 1, example->tokens.end(),
              example->targets.begin());
    std::fill(example->roles.begin(), example->roles.end() - 1,
              TokenRole::kQuery);
  }
}

PairRecall::Guesses PairRecall::EstimateGuesses() const {
  const int64_t examples =
      std::clamp<int64_t>((1 << 18) / settings_.length, 4, 2000);
  Guesses sum;
  Example example;
  for (int64_t index = 0; index < examples; ++index) {
    Generate(Split::kValidation, /*seed=*/0, index, &example);
    std::vector<int32_t> keys_with(values_, 0);  // this value
    int32_t seen = 0, most = 0, asked = 0;
    Guesses of_example;
    std::vector<bool> known(keys_, false);
    for (int64_t t = 0; t < settings_.length; t += 2) {
      const int32_t key = example.tokens[t];
      if (key >= keys_) continue;  // noise
      const int32_t value = example.tokens[t + 1] - keys_;
      if (!known[key]) {
        known[key] = true;
        ++seen;
        most = std::max(most, ++keys_with[value]);
        continue;
      }
      ++asked;
      of_example.any += static_cast<double>(keys_with[value]) / seen;
      of_example.best += static_cast<double>(most) / seen;
      of_example.previous += example.tokens[t - 2] == key ? 1 : ChanceScore();
    }
    sum.any += of_example.any / asked;
    sum.best += of_example.best / asked;
    sum.previous += of_example.previous / asked;
  }
  return {sum.any / examples, sum.best / examples, sum.previous / examples};
}

double PairRecall::ContextGuessScore() const {
  return std::max(EstimateGuesses().any, ChanceScore());
}

LeakFloors PairRecall::Floors() const {
  const Guesses guesses = EstimateGuesses();
  return {ChanceScore(), guesses.best, guesses.previous};
}

std::string PairRecall::TokenText(int32_t token) const {
  if (token < keys_) return LetterText(token, 'A', "K");
  if (token < keys_ + values_) return LetterText(token - keys_, 'a', "v");
  return absl::StrCat("~", token - keys_ - values_);
}

}  // namespace mneme
