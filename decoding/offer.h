// Tokens against time: how many guesses a step should verify.
#pragma once
#include <cstddef>
#include <span>

namespace aerie {

/// A step with so many guesses.
struct Offer {
  double tokens = 0;        ///< that it is likely to give
  double seconds = 0;       ///< that it takes when it has no prompts beside
  double with_prompts = 0;  ///< that it takes with the prompts which it has
};

/// The index of the offer to take; offers[0] is the step without guesses, and `least_gain` times as
/// good as it must be what replaces it. Without prompts it is the one with the most tokens a
/// second. Prompts make a step long whatever is guessed, and to divide by its length would make
/// every guess look cheap: there a token is worth the time that it takes without them.
inline size_t best_offer(std::span<const Offer> offers, double least_gain) {
  const auto rate = [&](size_t i) { return offers[i].tokens / offers[i].seconds; };
  size_t best = 0;
  double most = least_gain * rate(0);
  for (size_t i = 1; i < offers.size(); ++i) {
    if (rate(i) <= most) continue;
    most = rate(i);
    best = i;
  }
  const bool prompts = offers[0].with_prompts > offers[0].seconds;
  if (!prompts) return best;
  const double token_seconds = 1 / rate(best);
  double gain = 0;
  best = 0;
  for (size_t i = 1; i < offers.size(); ++i) {
    const double now = token_seconds * (offers[i].tokens - offers[0].tokens) -
                       least_gain * (offers[i].with_prompts - offers[0].with_prompts);
    if (now <= gain) continue;
    gain = now;
    best = i;
  }
  return best;
}

}  // namespace aerie
