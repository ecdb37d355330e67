// The tokens that diffusion decides together: the places behind the last known token, each a mask
// or filled. Filled ones are fed before the masks, so that under a causal mask every mask sees all
// of them (WeDLM, arXiv 2512.22737).
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace aerie {

/// Which masks a step fills.
struct FillRule {
  double entropy = 0.4;            ///< nats: surer ones are filled; 0: the surest alone
  double position_penalty = 0.02;  ///< nats added for every place behind the leftmost mask
};

/// Indices, ascending, of the masks to fill: those whose entropy plus penalty is below the rule's,
/// or the one with the least, the first of equals. `places` ascending, `entropies` [size] nats.
std::vector<size_t> choose_masks(std::span<const int64_t> places, std::span<const float> entropies,
                                 const FillRule& rule);

class Window {
 public:
  int64_t size() const { return static_cast<int64_t>(places_.size()); }
  /// Filled places before the first mask.
  int64_t prefix() const;
  /// Places of the filled tokens, and of the masks, from left to right.
  std::vector<int64_t> filled() const { return where(true); }
  std::vector<int64_t> masks() const { return where(false); }
  int32_t token(int64_t place) const { return places_[place].token; }

  /// Adds masks at the end, or takes places from it.
  void resize(int64_t size) { places_.resize(size); }
  void fill(int64_t place, int32_t token) { places_[place] = {token, true}; }
  /// All places are masks again.
  void clear() { places_.assign(places_.size(), {}); }
  /// The first `count` places are decided, or all where there are fewer.
  void drop(int64_t count);

 private:
  struct Place {
    int32_t token = 0;
    bool filled = false;
  };
  std::vector<int64_t> where(bool filled) const;
  std::vector<Place> places_;
};

}  // namespace aerie
