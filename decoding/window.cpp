#include "decoding/window.h"

#include <algorithm>

namespace aerie {

std::vector<size_t> choose_masks(std::span<const int64_t> places, std::span<const float> entropies,
                                 const FillRule& rule) {
  std::vector<size_t> chosen;
  double least = 0;
  size_t surest = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    const double distance = static_cast<double>(places[i] - places[0]);
    const double doubt = entropies[i] + rule.position_penalty * distance;
    if (doubt < rule.entropy) chosen.push_back(i);
    if (i == 0 || doubt < least) {
      least = doubt;
      surest = i;
    }
  }
  if (chosen.empty() && !places.empty()) chosen.push_back(surest);
  return chosen;
}

int64_t Window::prefix() const {
  const auto mask = std::find_if(places_.begin(), places_.end(),
                                 [](const Place& place) { return !place.filled; });
  return mask - places_.begin();
}

void Window::drop(int64_t count) {
  places_.erase(places_.begin(), places_.begin() + std::min(count, size()));
}

std::vector<int64_t> Window::where(bool filled) const {
  std::vector<int64_t> found;
  for (int64_t place = 0; place < size(); ++place) {
    if (places_[place].filled == filled) found.push_back(place);
  }
  return found;
}

}  // namespace aerie
