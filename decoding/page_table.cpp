#include "decoding/page_table.h"

#include <algorithm>

#include "common/error.h"
#include "kernels/ragged.h"

namespace aerie {

namespace {

PrefixCache::PageTokens page_tokens(const Sequence& sequence, int64_t page) {
  return PrefixCache::PageTokens(sequence.tokens.data() + page * KvPool::kPageSize,
                                 KvPool::kPageSize);
}

/// The placeholders of two pictures are the same tokens.
bool known_by_tokens(const Sequence& sequence) { return sequence.request.media.empty(); }

}  // namespace

PageTable::PageTable(int64_t pages) : holders_(pages), cache_(pages) {
  AERIE_CHECK(pages > 0, "a KV pool needs at least one page, not {}", pages);
  free_.reserve(pages);
  for (int64_t page = pages; page-- > 0;) free_.push_back(static_cast<int32_t>(page));
  next_.assign(pages + 1, static_cast<int32_t>(pages));
  previous_ = next_;
}

int64_t PageTable::pages_for(int64_t tokens) {
  return (tokens + KvPool::kPageSize - 1) / KvPool::kPageSize;
}

int64_t PageTable::slot(const Sequence& sequence, int64_t index) {
  return sequence.pages[index / KvPool::kPageSize] * KvPool::kPageSize + index % KvPool::kPageSize;
}

int64_t PageTable::room(const Sequence& sequence) {
  return static_cast<int64_t>(sequence.pages.size()) * KvPool::kPageSize - sequence.committed;
}

bool PageTable::reserve(Sequence& sequence, int64_t tokens) {
  const int64_t missing = pages_for(tokens) - static_cast<int64_t>(sequence.pages.size());
  if (missing > free()) return false;
  for (int64_t i = 0; i < missing; ++i) {
    const int32_t page = take_page();
    AERIE_CHECK(holders_[page] == 0, "page {} was free while {} sequences held it", page,
                holders_[page]);
    holders_[page] = 1;
    sequence.pages.push_back(page);
  }
  return true;
}

int32_t PageTable::take_page() {
  if (free_.empty()) {
    const int32_t page = next_[total()];
    unlink_idle(page);
    cache_.erase(page);
    return page;
  }
  const int32_t page = free_.back();
  free_.pop_back();
  return page;
}

std::vector<SlotMove> PageTable::commit(Sequence& sequence, std::span<const int32_t> keep) {
  std::vector<SlotMove> moves;
  const int64_t base = sequence.committed;
  int64_t previous = -1;
  for (const int32_t row : keep) {
    AERIE_CHECK(row > previous && base + row < sequence.written,
                "sequence {}: kept row {} is out of order or was never written", sequence.id, row);
    previous = row;
    if (base + row != sequence.committed) {
      moves.emplace_back(slot(sequence, base + row), slot(sequence, sequence.committed));
    }
    ++sequence.committed;
  }
  sequence.written = sequence.committed;
  shrink(sequence, pages_for(sequence.committed));
  return moves;
}

void PageTable::release(Sequence& sequence) {
  shrink(sequence, 0);
  sequence.written = sequence.committed = 0;
  sequence.published = 0;
  sequence.prefix = PrefixCache::kRoot;
}

// The last pages go first: what is reused first is the end of a text, not its beginning.
void PageTable::shrink(Sequence& sequence, int64_t pages) {
  while (static_cast<int64_t>(sequence.pages.size()) > pages) {
    const int32_t page = sequence.pages.back();
    AERIE_CHECK(holders_[page] > 0, "sequence {} gives back page {}: it is free already",
                sequence.id, page);
    let_go(page);
    sequence.pages.pop_back();
  }
}

void PageTable::hold(int32_t page) {
  if (holders_[page] == 0) unlink_idle(page);
  ++holders_[page];
}

void PageTable::let_go(int32_t page) {
  if (--holders_[page] > 0) return;
  if (cache_.contains(page)) {
    link_idle(page);
  } else {
    free_.push_back(page);
  }
}

void PageTable::link_idle(int32_t page) {
  const int32_t ring = static_cast<int32_t>(total()), last = previous_[ring];
  next_[last] = page;
  previous_[page] = last;
  next_[page] = ring;
  previous_[ring] = page;
  ++idle_;
}

void PageTable::unlink_idle(int32_t page) {
  next_[previous_[page]] = next_[page];
  previous_[next_[page]] = previous_[page];
  --idle_;
}

int64_t PageTable::matching_pages(const Sequence& sequence) const {
  if (!known_by_tokens(sequence)) return 0;
  int64_t pages = 0;
  for (int64_t parent = PrefixCache::kRoot; (pages + 1) * KvPool::kPageSize <= sequence.known();
       ++pages) {
    const PrefixCache::Entry* entry = cache_.find(parent, page_tokens(sequence, pages));
    if (entry == nullptr) break;
    parent = entry->id;
  }
  return pages;
}

void PageTable::adopt(Sequence& sequence, int64_t pages) {
  AERIE_CHECK(sequence.pages.empty(), "sequence {} holds {} pages: nothing can come before them",
              sequence.id, sequence.pages.size());
  for (int64_t i = 0; i < pages; ++i) {
    const PrefixCache::Entry* entry = cache_.find(sequence.prefix, page_tokens(sequence, i));
    if (entry == nullptr) break;
    hold(entry->page);
    sequence.pages.push_back(entry->page);
    sequence.prefix = entry->id;
    ++sequence.published;
  }
  sequence.committed = sequence.written = sequence.published * KvPool::kPageSize;
}

void PageTable::publish(Sequence& sequence, int64_t rows) {
  if (!known_by_tokens(sequence)) return;
  const int64_t complete = std::min(rows, sequence.committed) / KvPool::kPageSize;
  while (sequence.published < complete) {
    const PrefixCache::PageTokens tokens = page_tokens(sequence, sequence.published);
    const PrefixCache::Entry* entry = cache_.find(sequence.prefix, tokens);
    // Somebody else's page with the same text: ours stays our own, the text goes on behind theirs.
    if (entry == nullptr) {
      entry = cache_.insert(sequence.prefix, tokens, sequence.pages[sequence.published]);
    }
    sequence.prefix = entry->id;
    ++sequence.published;
  }
}

void PageTable::check(std::span<const Sequence* const> sequences) const {
  std::vector<int32_t> holders(holders_.size());
  for (const Sequence* sequence : sequences) {
    for (const int32_t page : sequence->pages) ++holders[page];
  }
  std::vector<uint8_t> seen(holders_.size());
  for (const int32_t page : free_) ++seen[page];
  int64_t idle = 0;
  for (int32_t page = next_[total()]; page != total(); page = next_[page], ++idle) ++seen[page];
  AERIE_CHECK(idle == idle_, "{} published pages without holder are listed, {} counted", idle,
              idle_);
  for (size_t page = 0; page < holders.size(); ++page) {
    AERIE_CHECK(holders[page] == holders_[page],
                "page {} is held {} times and recorded {} times: pages leak", page, holders[page],
                holders_[page]);
    AERIE_CHECK(seen[page] == (holders[page] == 0 ? 1 : 0),
                "page {} is held {} times and free {} times", page, holders[page], seen[page]);
  }
}

}  // namespace aerie
