#include "decoding/engine.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <numeric>

#include "common/error.h"
#include "decoding/clock.h"
#include "decoding/logprobs.h"
#include "decoding/sampler.h"

namespace aerie {

Engine::Engine(const TargetModel& target, Decoder& decoder, EngineOptions options)
    : target_(target),
      decoder_(decoder),
      table_(options.pages),
      scheduler_(options.limits, options.pages),
      capture_layers_(decoder.capture_layers()) {
  const ModelConfig& config = target.config();
  pool_ = ops::make_kv_pool(config.layers, options.pages, config.kv_heads, config.head_dim,
                            target.dtype(), target.device());
  decoder_.attach(options.pages);
}

int64_t Engine::submit(Request request) {
  const ModelConfig& config = target_.config();
  check_request(request, config);
  const int64_t length = static_cast<int64_t>(request.prompt.size());
  request.max_new_tokens = std::min(request.max_new_tokens, config.max_position - length);
  const int64_t need = PageTable::pages_for(length + request.max_new_tokens);
  AERIE_CHECK(need <= table_.total(),
              "a prompt of {} tokens with up to {} new ones needs {} pages of the KV cache, which "
              "has {}: shorten the prompt or lower max_new_tokens",
              length, request.max_new_tokens, need, table_.total());
  auto sequence = std::make_unique<Sequence>();
  sequence->id = next_id_++;
  sequence->tokens = request.prompt;
  sequence->request = std::move(request);
  const int64_t id = sequence->id;
  scheduler_.submit(std::move(sequence));
  return id;
}

bool Engine::step(const OnTokens& on_tokens) {
  const c10::InferenceMode inference;
  const double start = seconds_now();
  const double draft_before = decoder_.draft_seconds();
  const Step step = plan();
  if (step.chunks.empty()) return false;
  const double proposed = seconds_now();
  const double drafting = decoder_.draft_seconds() - draft_before;
  reserve(step);
  Batch batch = build_batch(step.sequences, step.chunks, target_.device());
  const double built = seconds_now();
  const ForwardOutput output = forward(batch);
  const double answered = seconds_now();
  const std::vector<Verdict> verdicts =
      decoder_.accept(step.sequences, step.chunks, {output, batch});
  note_logprobs(step.sequences, step.chunks, verdicts, {output, batch});
  const double judged = seconds_now();
  const double observing = decoder_.draft_seconds() - draft_before - drafting;
  count(step, batch);
  for (size_t s = 0; s < step.chunks.size(); ++s) {
    commit(*step.sequences[s], step.chunks[s], verdicts[s], on_tokens);
  }
  times_.draft += drafting + observing;
  times_.target += answered - built;
  times_.verify += judged - answered - observing;
  times_.schedule += (proposed - start - drafting) + (built - proposed) + (seconds_now() - judged);
  return true;
}

Engine::Step Engine::plan() {
  scheduler_.admit();
  Step step;
  step.sequences = scheduler_.pick_decodes();
  for (Sequence* sequence : step.sequences) {
    const int64_t rows = sequence->known() + decoder_.lookahead();
    AERIE_CHECK(table_.reserve(*sequence, std::min(rows, sequence->max_tokens())),
                "sequence {} was promised pages that are not there", sequence->id);
  }
  const int64_t decodes = static_cast<int64_t>(step.sequences.size());
  if (decodes > 0) {
    step.chunks = decoder_.propose(step.sequences, scheduler_.decode_budget(decodes));
  }
  int64_t left = scheduler_.limits().row_budget;
  for (const Chunk& chunk : step.chunks) left -= chunk.rows();
  AERIE_CHECK(left >= 0, "the decoder proposed {} rows more than it was granted", -left);
  for (const PromptCut& cut : scheduler_.cut_prompts(left)) {
    step.sequences.push_back(cut.sequence);
    step.chunks.push_back(known_chunk(*cut.sequence, cut.sequence->committed, cut.rows));
    step.chunks.back().prompt = true;
  }
  return step;
}

void Engine::reserve(const Step& step) {
  for (size_t s = 0; s < step.chunks.size(); ++s) {
    Sequence& sequence = *step.sequences[s];
    const int64_t rows = sequence.committed + step.chunks[s].rows();
    AERIE_CHECK(table_.reserve(sequence, rows), "sequence {} was promised pages that are not there",
                sequence.id);
    sequence.written = rows;
  }
}

ForwardOutput Engine::forward(Batch& batch) {
  batch.input.kv = &pool_;
  batch.input.capture_layers = capture_layers_;
  return target_.forward(batch.input);
}

void Engine::commit(Sequence& sequence, const Chunk& chunk, const Verdict& verdict,
                    const OnTokens& on_tokens) {
  counts_.rejected_rows += chunk.rows() - static_cast<int64_t>(verdict.keep.size());
  const std::vector<SlotMove> moves = table_.commit(sequence, verdict.keep);
  if (!moves.empty()) {
    std::vector<int64_t> from, to;
    for (const SlotMove& move : moves) {
      from.push_back(move.first);
      to.push_back(move.second);
    }
    ops::kv_move_(pool_, to_tensor(from, at::kLong).to(target_.device()),
                  to_tensor(to, at::kLong).to(target_.device()));
  }
  sequence.tokens.insert(sequence.tokens.end(), verdict.emit.begin(), verdict.emit.end());
  sequence.finish = verdict.finish;
  std::unique_ptr<Sequence> finished;
  if (verdict.finish != FinishReason::kRunning) {
    decoder_.forget(sequence);
    table_.release(sequence);
    finished = scheduler_.remove(sequence.id);
  }
  if (on_tokens && !verdict.emit.empty()) on_tokens(sequence, verdict.emit);
}

void Engine::count(const Step& step, const Batch& batch) {
  ++counts_.forwards;
  counts_.rows += batch.row_start.back();
  counts_.logit_rows += batch.logit_start.back();
  for (const Chunk& chunk : step.chunks) counts_.prompt_rows += chunk.prompt ? chunk.rows() : 0;
}

bool Engine::abort(int64_t id) {
  const std::unique_ptr<Sequence> sequence = scheduler_.remove(id);
  if (!sequence) return false;
  decoder_.forget(*sequence);
  table_.release(*sequence);
  return true;
}

void Engine::check_invariants() const {
  const std::vector<Sequence*> running = scheduler_.running();
  table_.check(std::vector<const Sequence*>(running.begin(), running.end()));
  AERIE_CHECK(static_cast<int64_t>(running.size()) <= scheduler_.limits().max_sequences,
              "{} sequences run, {} may", running.size(), scheduler_.limits().max_sequences);
  for (const Sequence* sequence : running) {
    const int64_t pages = static_cast<int64_t>(sequence->pages.size());
    AERIE_CHECK(sequence->written == sequence->committed && sequence->committed < sequence->known(),
                "sequence {}: committed {}, written {}, known {}", sequence->id,
                sequence->committed, sequence->written, sequence->known());
    AERIE_CHECK(pages == PageTable::pages_for(sequence->committed),
                "sequence {} holds {} pages for {} rows", sequence->id, pages, sequence->committed);
  }
}

void check_request(const Request& request, const ModelConfig& config) {
  const int64_t length = static_cast<int64_t>(request.prompt.size());
  AERIE_CHECK(length > 0, "the prompt is empty: at least one token is needed to decode from");
  AERIE_CHECK(
      length < config.max_position,
      "the prompt has {} tokens and the model's context holds {} (max_position_embeddings), "
      "output included: shorten the prompt",
      length, config.max_position);
  AERIE_CHECK(request.max_new_tokens > 0, "max_new_tokens must be at least 1, not {}",
              request.max_new_tokens);
  check_sampling(request.sampling, config.vocab);
  for (const int32_t token : request.prompt) {
    AERIE_CHECK(token >= 0 && token < config.vocab,
                "prompt token {} is outside the model's vocabulary of {}: was it made with another "
                "tokenizer?",
                token, config.vocab);
  }
}

int64_t pages_for_requests(std::span<const Request> requests, int64_t concurrency) {
  std::vector<int64_t> needs;
  for (const Request& request : requests) {
    needs.push_back(
        PageTable::pages_for(static_cast<int64_t>(request.prompt.size()) + request.max_new_tokens));
  }
  std::sort(needs.rbegin(), needs.rend());
  needs.resize(std::min<size_t>(needs.size(), concurrency));
  return std::max<int64_t>(1, std::accumulate(needs.begin(), needs.end(), int64_t{0}));
}

std::vector<Completion> run_requests(
    Engine& engine, std::span<const Request> requests,
    const std::function<void(size_t index, const Completion&)>& on_finish) {
  std::unordered_map<int64_t, size_t> index_of;
  std::vector<Completion> completions(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) index_of[engine.submit(requests[i])] = i;
  const Engine::OnTokens collect = [&](const Sequence& sequence, std::span<const int32_t> tokens) {
    const size_t index = index_of.at(sequence.id);
    Completion& completion = completions[index];
    completion.tokens.insert(completion.tokens.end(), tokens.begin(), tokens.end());
    completion.finish = sequence.finish;
    if (sequence.finish == FinishReason::kRunning) return;
    completion.stats = sequence.stats;
    if (on_finish) on_finish(index, completion);
  };
  while (engine.step(collect)) {
  }
  return completions;
}

}  // namespace aerie
