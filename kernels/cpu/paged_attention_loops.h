// The body of attend_*: flash attention over blocks of tokens (Dao et al. 2022, algorithm 1), with
// the two products left to `Products`. Compiled once for each instruction set; everything has
// internal linkage.
#pragma once
#include "kernels/cpu/paged_attention_parts.h"

namespace aerie::cpu {
namespace {

template <typename Products, typename Softmax>
class AttentionTask {
 public:
  AttentionTask(const PagedChunk& chunk, const AttentionPart& part)
      : chunk_(chunk),
        head_(part.kv_head),
        first_(part.first),
        count_(part.count),
        padded_(padded_head(chunk.head_dim)),
        group_(chunk.heads / chunk.kv_heads),
        memory_(padded_, part.count) {}

  void run() {
    load_queries();
    Products::begin();
    if (chunk_.tree == nullptr) {
      view_ = {0, count_, row_of(0), chunk_.kv_len - chunk_.rows + row_of(0) + 1};
      blocks(0);
    } else {
      run_tree();
    }
    Products::end();
    store();
  }

 private:
  /// The queries that a pass over blocks serves, and what they see: the first row `visible` tokens,
  /// each further one a token more. Pages from `tail_page` on are copies in the tail.
  struct View {
    int64_t begin, end, first_row, visible;
    int64_t tail_page = INT64_MAX;
    const bf16 *k_tail = nullptr, *v_tail = nullptr;
  };

  int64_t row_of(int64_t query) const { return (first_ + query) / group_; }
  int64_t head_of(int64_t query) const { return head_ * group_ + (first_ + query) % group_; }
  int64_t visible(int64_t query) const {
    return view_.visible + memory_.row[query] - view_.first_row;
  }

  /// From token `start`, or where the view's window begins, to the last one that its queries see.
  void blocks(int64_t start) {
    const int64_t end = visible(view_.end - 1),
                  first = oldest(view_.begin) / kBlockTokens * kBlockTokens;
    for (start = start > first ? start : first; start < end; start += kBlockTokens)
      block(start, end);
  }

  /// Every row of a tree is computed as the chain of its ancestors would be: the keys and values
  /// that it sees among the new rows are laid together behind the context. So it gives the same
  /// bits as the same tokens decoded one by one, wherever the tree put them. Blocks of pure context
  /// are read once for all rows; the rest once for each run of rows that continue one another.
  void run_tree() {
    const int64_t base = chunk_.kv_len - chunk_.rows;
    // A window begins elsewhere for each row: then nothing is read for all at once.
    const int64_t shared = chunk_.window > 0 ? 0 : base / kBlockTokens * kBlockTokens;
    if (shared > 0) {
      view_ = {0, count_, 0, shared};
      for (int64_t start = 0; start < shared; start += kBlockTokens) block(start, shared);
    }
    for (int64_t first = 0, last = 0; first < chunk_.rows; first = last) {
      for (last = first + 1; last < chunk_.rows && continues(last);) ++last;
      const int64_t begin = first * group_ - first_, end = last * group_ - first_;
      view_ = {begin > 0 ? begin : 0, end < count_ ? end : count_, 0, 0};
      if (view_.begin >= view_.end) continue;
      lay_tail(base, first, last);
      blocks(shared);
    }
  }

  const bool* seen_by(int64_t row) const { return chunk_.tree + row * chunk_.tree_stride; }

  /// Whether the row sees itself, the row before it, and of the others just those that that one
  /// sees.
  bool continues(int64_t row) const {
    return seen_by(row)[row - 1] &&
           std::memcmp(seen_by(row), seen_by(row - 1), static_cast<size_t>(row - 1)) == 0;
  }

  /// The context's last, incomplete page and the rows that row `last` - 1 sees, one behind another.
  void lay_tail(int64_t base, int64_t first, int64_t last) {
    view_.first_row = first;
    view_.visible = base + 1;
    if (first == 0) return;  // they lie so already
    const int64_t page_size = kPageTokens * padded_, offset = base % kPageTokens;
    const int64_t pages = (offset + last + kPageTokens - 1) / kPageTokens;
    bf16* keys = static_cast<bf16*>(
        scratch(Scratch::kAttentionTail, (2 * pages * page_size + padded_) * sizeof(bf16)));
    bf16 *values = keys + pages * page_size, *held = values + pages * page_size;
    // What pads a key to the tile's width has to be zero.
    std::memset(keys, 0, 2 * pages * page_size * sizeof(bf16));
    if (offset > 0) {
      std::memcpy(keys, page(chunk_.k, base / kPageTokens), page_size * sizeof(bf16));
      std::memcpy(values, page(chunk_.v, base / kPageTokens), page_size * sizeof(bf16));
    }
    int64_t to = offset, before = 0;
    for (int64_t row = 0; row < last; ++row) {
      if (!seen_by(last - 1)[row]) continue;
      const int64_t from = base + row, index = from / kPageTokens, at = from % kPageTokens;
      read_key(held, page(chunk_.k, index), at, chunk_.head_dim);
      write_key(keys + to / kPageTokens * page_size, to % kPageTokens, held, chunk_.head_dim);
      read_value(held, page(chunk_.v, index), at, chunk_.head_dim);
      write_value(values + to / kPageTokens * page_size, to % kPageTokens, held, chunk_.head_dim);
      ++to;
      if (row <= first) ++before;
    }
    view_.visible = base + before;
    view_.tail_page = base / kPageTokens;
    view_.k_tail = keys;
    view_.v_tail = values;
  }

  /// First token in the query's window.
  int64_t oldest(int64_t query) const {
    const int64_t tokens = visible(query);
    return chunk_.window > 0 && tokens > chunk_.window ? tokens - chunk_.window : 0;
  }

  void load_queries() {
    for (int64_t i = 0; i < count_; ++i) {
      std::memcpy(memory_.q + i * padded_,
                  chunk_.q + row_of(i) * chunk_.q_stride + head_of(i) * chunk_.head_dim,
                  chunk_.head_dim * sizeof(bf16));
      memory_.row[i] = row_of(i);
      memory_.highest[i] = kLowest;
      memory_.denominator[i] = 0;
    }
  }

  /// Pages lie anywhere, so the hardware does not guess the next block's.
  void fetch_page(int64_t index, int64_t end) const {
    if (index * kPageTokens >= end) return;
    const bf16 *key = key_page(index), *value = value_page(index);
    for (int64_t line = 0; line < kPageTokens * padded_; line += 32) {
      __builtin_prefetch(key + line);
      __builtin_prefetch(value + line);
    }
  }

  const bf16* page(const bf16* pool, int64_t index) const {
    return pool + (static_cast<int64_t>(chunk_.pages[index]) * chunk_.kv_heads + head_) *
                      kPageTokens * padded_;
  }
  const bf16* key_page(int64_t index) const {
    return index < view_.tail_page
               ? page(chunk_.k, index)
               : view_.k_tail + (index - view_.tail_page) * kPageTokens * padded_;
  }
  const bf16* value_page(int64_t index) const {
    return index < view_.tail_page
               ? page(chunk_.v, index)
               : view_.v_tail + (index - view_.tail_page) * kPageTokens * padded_;
  }

  /// Queries that share a tile, and how many tokens of the block any of them sees.
  struct Tile {
    int64_t query, rows, tokens;
    int64_t pairs_of_pages() const { return (tokens + 2 * kPageTokens - 1) / (2 * kPageTokens); }
  };

  Tile tile_at(int64_t query, int64_t start) const {
    const int64_t rows = view_.end - query < kTileRows ? view_.end - query : kTileRows,
                  seen = visible(query + rows - 1) - start;
    return {query, rows, seen < kBlockTokens ? seen : kBlockTokens};
  }

  void block(int64_t start, int64_t end) {
    const bf16* keys[kPagesOfBlock];
    lay_block(keys, start, end);
    Tile tile = tile_at(view_.begin, start);
    while (tile.tokens <= 0) tile = tile_at(tile.query + kTileRows, start);
    scores(tile, keys);
    for (bool more = true; more;) {
      const Tile done = tile;
      softmax(done, start);
      const int64_t next = done.query + kTileRows;
      more = next < view_.end && oldest(next) < start + kBlockTokens;
      // In between, because a tile that is loaded right after its stores waits for them.
      if (more) scores(tile = tile_at(next, start), keys);
      Products::values(memory_.o + done.query * padded_, memory_.p, memory_.v,
                       done.pairs_of_pages(), done.rows, padded_);
    }
  }

  void lay_block(const bf16** keys, int64_t start, int64_t end) {
    const int64_t tokens = end - start < kBlockTokens ? end - start : kBlockTokens;
    const int64_t count = (tokens + kPageTokens - 1) / kPageTokens,
                  first_page = start / kPageTokens;
    for (int64_t i = 0; i < count; ++i) keys[i] = key_page(first_page + i);
    for (int64_t i = 0; i < (count + 1) / 2 * 2; ++i) {
      fetch_page(first_page + kPagesOfBlock + i, end);
      load_values(i, i < count ? tokens - i * kPageTokens : 0, first_page);
    }
  }

  void scores(const Tile& tile, const bf16* const* keys) const {
    Products::scores(memory_.s, memory_.q + tile.query * padded_, keys,
                     (tile.tokens + kPageTokens - 1) / kPageTokens, tile.rows, padded_);
  }

  /// Half a tile group from page `index` of the block; tokens from `valid` on are zero, because a
  /// token that nobody wrote may hold anything, and 0 * NaN is not 0.
  void load_values(int64_t index, int64_t valid, int64_t first_page) {
    bf16* group = memory_.v + index / 2 * 32 * padded_ + index % 2 * 8 * 32;
    const bf16* from = valid > 0 ? value_page(first_page + index) : nullptr;
    for (int64_t column = 0; column < padded_; column += 16) {
      bf16* tile = group + column * 32;
      if (valid >= kPageTokens) {
        for (int64_t pair = 0; pair < 8; ++pair)
          std::memcpy(tile + pair * 32, from + (pair * padded_ + column) * 2, 64);
        continue;
      }
      for (int64_t pair = 0; pair < 8; ++pair) {
        if (2 * pair >= valid) {
          std::memset(tile + pair * 32, 0, 64);
          continue;
        }
        std::memcpy(tile + pair * 32, from + (pair * padded_ + column) * 2, 64);
        if (2 * pair + 1 < valid) continue;
        for (int64_t i = 0; i < 16; ++i) tile[pair * 32 + 2 * i + 1] = 0;
      }
    }
  }

  /// Masks the scores of this block's tokens that have left the query's window.
  void mask_window(float* s, int64_t query, int64_t start, int64_t width) const {
    const int64_t gone = oldest(query) - start;
    for (int64_t t = 0; t < gone && t < width; ++t) s[t] = kMasked;
  }

  void softmax(const Tile& tile, int64_t start) {
    const int64_t width = tile.pairs_of_pages() * 2 * kPageTokens;
    int64_t seen[kTileRows];
    for (int64_t r = 0; r < tile.rows; ++r) {
      seen[r] = visible(tile.query + r) - start;
      if (chunk_.window > 0)
        mask_window(memory_.s + r * kBlockTokens, tile.query + r, start, width);
    }
    float shrink[kTileRows];
    const bool shrunk =
        Softmax::tile({memory_.s, memory_.p, seen, tile.rows, width, chunk_.scale,
                       memory_.highest + tile.query, memory_.denominator + tile.query, shrink});
    for (int64_t r = 0; shrunk && r < tile.rows; ++r) {
      float* o = memory_.o + (tile.query + r) * padded_;
      for (int64_t c = 0; shrink[r] != 1 && c < padded_; ++c) o[c] *= shrink[r];
    }
    if (view_.end < count_ && tile.rows < kTileRows) {  // the tile reaches into another run's sums
      std::memset(memory_.p + tile.rows * kBlockTokens, 0,
                  (kTileRows - tile.rows) * kBlockTokens * sizeof(bf16));
    }
  }

  void store() const {
    for (int64_t i = 0; i < count_; ++i) {
      bf16* out = chunk_.out + (row_of(i) * chunk_.heads + head_of(i)) * chunk_.head_dim;
      const float* o = memory_.o + i * padded_;
      for (int64_t c = 0; c < chunk_.head_dim; ++c)
        out[c] = narrow<bf16>(o[c] / memory_.denominator[i]);
    }
  }

  const PagedChunk& chunk_;
  View view_;
  const int64_t head_, first_, count_, padded_, group_;
  AttentionScratch memory_;
};

}  // namespace
}  // namespace aerie::cpu
