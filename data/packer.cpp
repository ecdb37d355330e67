#include "data/packer.h"

#include <ATen/ops/empty.h>

#include <charconv>
#include <numeric>

#include "common/error.h"
#include "common/files.h"
#include "data/draws.h"

namespace aerie {
namespace {

class Draws {
 public:
  explicit Draws(uint64_t seed) : state_(seed) {}
  /// Uniform in [0, bound); the bias of the multiplication is below 2^-32 for any real data set.
  uint64_t below(uint64_t bound) {
    const uint64_t bits = split_mix(state_);
    state_ += 0x9e3779b97f4a7c15ull;
    return static_cast<uint64_t>((static_cast<__uint128_t>(bits) * bound) >> 64);
  }

 private:
  uint64_t state_;
};

template <typename T>
void shuffle(std::span<T> items, Draws& draws) {
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[draws.below(i)]);
}

/// Longest first, each into the first pack that still has room.
std::vector<Pack> first_fit(std::vector<std::pair<int64_t, int64_t>> sized, int64_t budget,
                            int64_t epoch) {
  std::stable_sort(sized.begin(), sized.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<Pack> packs;
  std::vector<int64_t> room;
  for (const auto& [size, document] : sized) {
    const auto fits =
        std::find_if(room.begin(), room.end(), [&, size = size](int64_t r) { return r >= size; });
    const auto at = static_cast<size_t>(fits - room.begin());
    if (fits == room.end()) {
      packs.push_back({{}, epoch});
      room.push_back(budget);
    }
    packs[at].documents.push_back(document);
    room[at] -= size;
  }
  return packs;
}

/// In order: a pack is closed by the first document that does not fit.
std::vector<Pack> next_fit(const std::vector<std::pair<int64_t, int64_t>>& sized, int64_t budget,
                           int64_t epoch) {
  std::vector<Pack> packs;
  int64_t room = 0;
  for (const auto& [size, document] : sized) {
    if (size > room) {
      packs.push_back({{}, epoch});
      room = budget;
    }
    packs.back().documents.push_back(document);
    room -= size;
  }
  return packs;
}

int64_t parse_number(std::string_view text, std::string_view cursor) {
  int64_t number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  AERIE_CHECK(error == std::errc() && end == text.data() + text.size() && number >= 0,
              "\"{}\" is not a data cursor (epoch:pack:key)", cursor);
  return number;
}

}  // namespace

Packer::Packer(const TokenShards& shards, PackOptions options)
    : shards_(shards), options_(options) {
  AERIE_CHECK(options_.budget > 0, "train.pack_tokens is {}: give at least 1", options_.budget);
  if (options_.round == 0) options_.round = options_.ranks;
  AERIE_CHECK(options_.window > 0 && options_.ranks > 0 && options_.rank >= 0 &&
                  options_.rank < options_.ranks && options_.round > 0,
              "pack window {}, rank {} of {}, rounds of {}: not possible", options_.window,
              options_.rank, options_.ranks, options_.round);
  for (int64_t i = 0; i < shards_.size(); ++i) truncated_ += shards_[i].size() > options_.budget;
}

std::vector<Pack> Packer::make_epoch(int64_t number) const {
  std::vector<int64_t> order(static_cast<size_t>(shards_.size()));
  std::iota(order.begin(), order.end(), 0);
  Draws draws(hash_bytes(fmt::format("{} {}", options_.seed, number)));
  if (options_.shuffle) shuffle(std::span(order), draws);
  std::vector<Pack> packs;
  const auto window = static_cast<size_t>(options_.window);
  for (size_t begin = 0; begin < order.size(); begin += window) {
    std::vector<std::pair<int64_t, int64_t>> sized;
    for (size_t i = begin; i < std::min(order.size(), begin + window); ++i)
      sized.emplace_back(truncated_size(shards_[order[i]].assistant, options_.budget), order[i]);
    std::vector<Pack> made = options_.shuffle ? first_fit(sized, options_.budget, number)
                                              : next_fit(sized, options_.budget, number);
    if (options_.shuffle) shuffle(std::span(made), draws);
    packs.insert(packs.end(), std::make_move_iterator(made.begin()),
                 std::make_move_iterator(made.end()));
  }
  return packs;
}

const std::vector<Pack>& Packer::epoch(int64_t number) {
  epochs_.erase(epochs_.begin(), epochs_.lower_bound(std::min(number, next_.epoch)));
  const auto at = epochs_.find(number);
  return at != epochs_.end() ? at->second : epochs_[number] = make_epoch(number);
}

int64_t Packer::packs_in_epoch(int64_t number) const {
  const auto at = epochs_.find(number);
  return static_cast<int64_t>(at != epochs_.end() ? at->second.size() : make_epoch(number).size());
}

void Packer::advance(Place& place, int64_t packs) {
  place.pack += packs;
  for (;;) {
    const auto count = static_cast<int64_t>(epoch(place.epoch).size());
    if (place.pack < count) return;
    place.pack -= count;
    ++place.epoch;
  }
}

Pack Packer::peek() {
  Place mine = next_;
  advance(mine, options_.rank + taken_ * options_.ranks);
  return epoch(mine.epoch)[static_cast<size_t>(mine.pack)];
}

Pack Packer::next() {
  Pack pack = peek();
  ++taken_;
  if (options_.rank + taken_ * options_.ranks >= options_.round) {
    advance(next_, options_.round);
    taken_ = 0;
  }
  return pack;
}

PackedTokens Packer::gather(const Pack& pack) const {
  std::vector<int32_t> starts{0};
  PackedTokens out;
  for (const int64_t document : pack.documents) {
    const int64_t size = truncated_size(shards_[document].assistant, options_.budget);
    out.max_len = std::max(out.max_len, size);
    starts.push_back(starts.back() + static_cast<int32_t>(size));
  }
  out.q_start = at::empty({static_cast<int64_t>(starts.size())}, at::kInt);
  std::copy(starts.begin(), starts.end(), out.q_start.mutable_data_ptr<int32_t>());
  out.tokens = at::empty({starts.back()}, at::kLong);
  out.positions = at::empty({starts.back()}, at::kLong);
  out.loss_mask = at::empty({starts.back()}, at::kBool);
  for (size_t d = 0; d < pack.documents.size(); ++d) {
    const Document document = shards_[pack.documents[d]];
    const auto size = static_cast<size_t>(starts[d + 1] - starts[d]);
    std::copy_n(document.ids.begin(), size, out.tokens.mutable_data_ptr<int64_t>() + starts[d]);
    std::copy_n(document.assistant.begin(), size,
                out.loss_mask.mutable_data_ptr<bool>() + starts[d]);
    int64_t* positions = out.positions.mutable_data_ptr<int64_t>() + starts[d];
    std::iota(positions, positions + size, 0);
    for (MediaSpan& span :
         media_before(parse_media_text(document.media), starts[d + 1] - starts[d])) {
      span.begin += starts[d];
      out.media.push_back(std::move(span));
    }
  }
  return out;
}

PackedTokens pack_document(std::span<const int32_t> ids, std::vector<MediaSpan> media) {
  const auto size = static_cast<int64_t>(ids.size());
  PackedTokens out;
  out.tokens = at::empty({size}, at::kLong);
  std::copy(ids.begin(), ids.end(), out.tokens.mutable_data_ptr<int64_t>());
  out.positions = at::arange(size, at::kLong);
  out.q_start = at::tensor({int32_t{0}, static_cast<int32_t>(size)}, at::kInt);
  out.loss_mask = at::zeros({size}, at::kBool);
  out.max_len = size;
  out.media = std::move(media);
  return out;
}

std::string Packer::key() const {
  return hash_hex(fmt::format("{} {} {} {} {}", shards_.key(), options_.budget, options_.window,
                              options_.seed, options_.shuffle));
}

std::string Packer::cursor() const {
  return fmt::format("{}:{}:{}", next_.epoch, next_.pack, key());
}

void Packer::seek(std::string_view cursor) {
  const size_t first = cursor.find(':'), second = cursor.find(':', first + 1);
  AERIE_CHECK(second != std::string_view::npos, "\"{}\" is not a data cursor (epoch:pack:key)",
              cursor);
  const Place place{parse_number(cursor.substr(0, first), cursor),
                    parse_number(cursor.substr(first + 1, second - first - 1), cursor)};
  AERIE_CHECK(cursor.substr(second + 1) == key(),
              "the data cursor {} is of other data, or of another train.pack_tokens or train.seed: "
              "resume with what the checkpoint was made with, or start anew",
              cursor);
  next_ = place;
  taken_ = 0;
  const int64_t packs = static_cast<int64_t>(epoch(place.epoch).size());
  AERIE_CHECK(place.pack < packs, "the data cursor {} is beyond the {} packs of its epoch", cursor,
              packs);
}

}  // namespace aerie
