#include "decoding/page_table.h"

#include "common/error.h"
#include "kernels/ragged.h"

namespace aerie {

PageTable::PageTable(int64_t pages) : owner_(pages, kFree) {
  AERIE_CHECK(pages > 0, "a KV pool needs at least one page, not {}", pages);
  free_.reserve(pages);
  for (int64_t page = pages; page-- > 0;) free_.push_back(static_cast<int32_t>(page));
}

int64_t PageTable::pages_for(int64_t tokens) {
  return (tokens + KvPool::kPageSize - 1) / KvPool::kPageSize;
}

int64_t PageTable::slot(const Sequence& sequence, int64_t index) {
  return sequence.pages[index / KvPool::kPageSize] * KvPool::kPageSize + index % KvPool::kPageSize;
}

bool PageTable::reserve(Sequence& sequence, int64_t tokens) {
  const int64_t missing = pages_for(tokens) - static_cast<int64_t>(sequence.pages.size());
  if (missing > free()) return false;
  for (int64_t i = 0; i < missing; ++i) {
    const int32_t page = free_.back();
    free_.pop_back();
    AERIE_CHECK(owner_[page] == kFree, "page {} was on the free list while sequence {} owned it",
                page, owner_[page]);
    owner_[page] = sequence.id;
    sequence.pages.push_back(page);
  }
  return true;
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
}

void PageTable::shrink(Sequence& sequence, int64_t pages) {
  while (static_cast<int64_t>(sequence.pages.size()) > pages) {
    const int32_t page = sequence.pages.back();
    AERIE_CHECK(owner_[page] == sequence.id,
                "sequence {} gives back page {}, which belongs to {} (-1: it is free already)",
                sequence.id, page, owner_[page]);
    owner_[page] = kFree;
    free_.push_back(page);
    sequence.pages.pop_back();
  }
}

void PageTable::check(std::span<const Sequence* const> sequences) const {
  int64_t owned = 0;
  for (const Sequence* sequence : sequences) {
    for (const int32_t page : sequence->pages) {
      AERIE_CHECK(owner_[page] == sequence->id, "page {} of sequence {} is recorded for {}", page,
                  sequence->id, owner_[page]);
    }
    owned += static_cast<int64_t>(sequence->pages.size());
  }
  AERIE_CHECK(owned + free() == total(), "{} pages owned and {} free do not make {}: pages leak",
              owned, free(), total());
  for (const int32_t page : free_) {
    AERIE_CHECK(owner_[page] == kFree, "page {} is free and owned by {}", page, owner_[page]);
  }
}

}  // namespace aerie
