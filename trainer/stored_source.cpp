#include "trainer/stored_source.h"

#include "common/error.h"
#include "trainer/online_source.h"

namespace aerie {
namespace {

/// The store's rows carry their tokens: other data cannot pass unnoticed.
void check_tokens(const HiddenRows& rows, const PackedTokens& packed, const HiddenStore& store) {
  const int32_t* stored = rows.tokens.const_data_ptr<int32_t>();
  const int64_t* wanted = packed.tokens.const_data_ptr<int64_t>();
  AERIE_CHECK(std::equal(wanted, wanted + packed.tokens.numel(), stored),
              "{} holds other tokens than the prepared data: dump again into a new directory",
              store.directory().string());
}

/// The wide tensors into page-locked memory, which a GPU fetches without holding up the trainer.
HiddenRows pinned(HiddenRows rows) {
  for (Tensor* wide : {&rows.aux, &rows.last, &rows.embeds}) {
    if (wide->defined()) *wide = wide->pin_memory();
  }
  return rows;
}

}  // namespace

StoredSource::StoredSource(HiddenStore& store, const TokenShards& shards,
                           const PackOptions& packing, int64_t epochs, at::Device device,
                           std::optional<OnMiss> on_miss)
    : store_(store),
      packs_(shards, packing, epochs),
      begin_(packs_.cursor()),
      longest_(packing.budget),
      device_(device),
      on_miss_(std::move(on_miss)) {
  if (!on_miss_) check_complete(store, trained_rows(shards, packing.budget), shards);
}

std::optional<TrainBatch> StoredSource::next() {
  if (!ahead_) look_ahead();
  reader_.wait();
  if (!ahead_->pack) return std::nullopt;
  const Ahead now = std::move(*ahead_);
  TrainBatch batch = now.stored ? from_store(now) : from_target(now);
  batch.documents = packs_.names(*now.pack);
  batch.domains = packs_.domains(*now.pack);
  batch.epoch = now.pack->epoch;
  look_ahead();
  return batch;
}

void StoredSource::look_ahead() {
  Ahead& next = ahead_.emplace();
  next.cursor = packs_.cursor();
  next.pack = packs_.next();
  if (!next.pack) {
    if (on_miss_) on_miss_->writer.publish();
    return;
  }
  next.tokens = packs_.gather(*next.pack);
  next.documents = document_rows(*next.pack, next.tokens);
  next.stored = readable(next.documents);
  if (!next.stored) return;
  reader_.submit([this, &next] {
    HiddenRows rows = store_.read(next.documents);
    next.rows = device_.is_cuda() ? pinned(std::move(rows)) : std::move(rows);
  });
}

bool StoredSource::readable(const std::vector<DocumentRows>& documents) {
  const auto stored = [this](const DocumentRows& document) { return store_.has(document); };
  if (std::all_of(documents.begin(), documents.end(), stored)) return true;
  if (!on_miss_) return false;
  const auto written = [this](const DocumentRows& d) { return on_miss_->writer.has(d); };
  if (!std::all_of(documents.begin(), documents.end(), written)) return false;
  on_miss_->writer.publish();  // an epoch has ended: what it wrote is read from now on
  return true;
}

TrainBatch StoredSource::from_store(const Ahead& ahead) const {
  const PackedTokens& packed = ahead.tokens;
  check_tokens(*ahead.rows, packed, store_);
  const auto moved = [this](const Tensor& rows) { return rows.to(device_, /*non_blocking=*/true); };
  TrainBatch batch{
      packed.tokens,
      packed.media.empty() ? packed.positions : ahead.rows->positions.to(at::kLong).t(),
      packed.q_start,
      packed.loss_mask,
      moved(ahead.rows->aux),
      moved(ahead.rows->last),
      packed.max_len,
      {},
      0};
  if (ahead.rows->embeds.defined()) batch.embeds = moved(ahead.rows->embeds);
  return batch;
}

TrainBatch StoredSource::from_target(const Ahead& ahead) {
  TrainBatch batch =
      run_target(on_miss_->target, on_miss_->capture_layers, ahead.tokens, store_.format().embeds);
  on_miss_->writer.add_missing(ahead.documents, to_hidden_rows(batch));
  return batch;
}

std::string StoredSource::cursor() const { return ahead_ ? ahead_->cursor : packs_.cursor(); }

void StoredSource::seek(const std::string& cursor) {
  reader_.wait();
  ahead_.reset();
  if (on_miss_) catch_up(cursor);
  packs_.seek(cursor);
}

// Documents on their way to the disk die with their process. Made again at once, and not when a
// later epoch comes to them, they keep their place: the store's bytes are those of a run that was
// left alone. More than a kill can lose was never stored, and is made when its turn comes.
void StoredSource::catch_up(const std::string& cursor) {
  const int64_t most = on_miss_->writer.most_lost_rows(longest_);
  std::vector<Ahead> lost;
  int64_t rows = 0;
  packs_.seek(begin_);
  while (packs_.cursor() != cursor && rows <= most) {
    const std::optional<Pack> pack = packs_.next();
    if (!pack || pack->epoch > 0) break;
    Ahead packed;
    packed.tokens = packs_.gather(*pack);
    packed.documents = document_rows(*pack, packed.tokens);
    const int64_t before = rows;
    for (const DocumentRows& document : packed.documents) {
      rows += on_miss_->writer.has(document) ? 0 : document.rows;
    }
    if (rows > before) lost.push_back(std::move(packed));
  }
  if (rows > most) return;
  for (const Ahead& pack : lost) from_target(pack);
}

std::vector<DocumentRows> document_rows(const Pack& pack, const PackedTokens& packed) {
  std::vector<DocumentRows> rows;
  const int32_t* start = packed.q_start.const_data_ptr<int32_t>();
  for (size_t d = 0; d < pack.documents.size(); ++d) {
    rows.push_back({pack.documents[d], start[d + 1] - start[d]});
  }
  return rows;
}

std::vector<DocumentRows> trained_rows(const TokenShards& shards, int64_t pack_tokens) {
  std::vector<DocumentRows> rows;
  for (int64_t d = 0; d < shards.size(); ++d) {
    rows.push_back({d, truncated_size(shards[d].assistant, pack_tokens)});
  }
  return rows;
}

int64_t sum_rows(const std::vector<DocumentRows>& documents) {
  int64_t rows = 0;
  for (const DocumentRows& document : documents) rows += document.rows;
  return rows;
}

int64_t missing_rows(const HiddenStore& store, const std::vector<DocumentRows>& wanted) {
  int64_t rows = 0;
  for (const DocumentRows& document : wanted) rows += store.has(document) ? 0 : document.rows;
  return rows;
}

void check_complete(const HiddenStore& store, const std::vector<DocumentRows>& wanted,
                    const TokenShards& shards) {
  const auto missing = [&](const DocumentRows& document) { return !store.has(document); };
  const auto count = std::count_if(wanted.begin(), wanted.end(), missing);
  if (count == 0) return;
  const DocumentRows first = *std::find_if(wanted.begin(), wanted.end(), missing);
  fail(
      "{} lacks {} of {} documents (the first: {}, of which it has {} rows and {} are wanted): run "
      "aerie dump with this configuration, or set hidden_states.mode to hybrid",
      store.directory().string(), count, wanted.size(), shards[first.document].name,
      store.rows(first.document), first.rows);
}

HiddenRows to_hidden_rows(const TrainBatch& batch) {
  const Tensor positions = batch.positions.to(at::kInt);
  return {batch.tokens.to(at::kInt),
          batch.loss_mask.to(at::kByte),
          positions.dim() == 1 ? positions : positions.t(),
          batch.captured.cpu(),
          batch.last_hidden.cpu(),
          batch.embeds.defined() ? batch.embeds.cpu() : batch.embeds};
}

}  // namespace aerie
