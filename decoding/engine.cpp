#include "decoding/engine.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <numeric>

#include "common/error.h"
#include "decoding/clock.h"
#include "decoding/logprobs.h"
#include "decoding/sampler.h"

namespace aerie {

namespace {

// Before anything is committed.
StepShape shape_of(std::span<Sequence* const> sequences, std::span<const Chunk> chunks) {
  StepShape shape;
  for (size_t s = 0; s < chunks.size(); ++s) {
    const int64_t rows = chunks[s].rows(), past = sequences[s]->committed;
    shape.rows += rows;
    shape.logit_rows += static_cast<int64_t>(chunks[s].logit_rows.size());
    shape.cache_rows += past;
    shape.pairs += rows * past;
  }
  return shape;
}

}  // namespace

Engine::Engine(const TargetModel& target, Decoder& decoder, EngineOptions options)
    : target_(target),
      decoder_(decoder),
      table_(options.pages),
      scheduler_(options.limits, table_, [this](const Sequence& lost) { decoder_.forget(lost); }),
      capture_layers_(decoder.capture_layers()),
      cost_(std::move(options.cost)),
      learn_cost_(options.learn_cost) {
  const ModelConfig& config = target.config();
  pool_ = ops::make_kv_pool(config.layers, options.pages, config.kv_heads, config.head_dim,
                            target.dtype(), target.device());
  AERIE_CHECK(options.limits.inter_token_seconds <= 0 || cost_,
              "a target for the time between tokens needs the costs of forwards "
              "(measure_step_cost)");
  const SchedulerLimits& limits = options.limits;
  AERIE_CHECK(std::min(limits.row_budget, limits.logit_rows) >= decoder.least_rows(),
              "a step may have {} rows, {} of them with logits, and this way of decoding needs {} "
              "for a sequence: raise these budgets, or narrow its window",
              limits.row_budget, limits.logit_rows, decoder.least_rows());
  decoder_.attach(options.pages, options.limits.share_prefixes);
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
  sequence->pages.reserve(need);  // steps do not allocate
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
  write(step);
  last_step_ = shape_of(step.sequences, step.chunks);
  Batch batch =
      build_batch(step.sequences, step.chunks, target_.device(), target_.config().rope.axes());
  const double built = seconds_now();
  const ForwardOutput output = forward(batch);
  const double answered = seconds_now();
  const std::vector<Verdict> verdicts =
      decoder_.accept(step.sequences, step.chunks, {output, batch});
  note_logprobs(step.sequences, step.chunks, verdicts, {output, batch});
  const double judged = seconds_now();
  const double observing = decoder_.draft_seconds() - draft_before - drafting;
  count(step, verdicts);
  if (cost_ && learn_cost_) cost_->observe(last_step_, answered - built);
  move_kept_rows(step, verdicts);
  for (size_t s = 0; s < step.chunks.size(); ++s) {
    commit(*step.sequences[s], verdicts[s], on_tokens);
  }
  times_.draft += drafting + observing;
  times_.target += answered - built;
  times_.verify += judged - answered - observing;
  times_.schedule += (proposed - start - drafting) + (built - proposed) + (seconds_now() - judged);
  return true;
}

// Where nothing can run for want of pages, the newest sequence gives up its own.
Engine::Step Engine::plan() {
  Step step = plan_once();
  while (step.chunks.empty() && !scheduler_.running().empty() && scheduler_.make_room()) {
    step = plan_once();
  }
  AERIE_CHECK(!step.chunks.empty() || scheduler_.idle(),
              "{} sequences run, {} wait, and none of them can go on with {} free pages of {}",
              running(), waiting(), table_.free(), table_.total());
  return step;
}

Engine::Step Engine::plan_once() {
  // The last row of a shared page would hold, in a draft's cache, the token after it, which may be
  // another one here.
  scheduler_.admit(capture_layers_.empty() ? 0 : 1);
  Step step;
  step.sequences = scheduler_.pick_decodes(cost(), decoder_.least_rows());
  int64_t rows = 0, logit_rows = 0;
  if (!step.sequences.empty()) {
    scheduler_.reserve_ahead(decoder_.lookahead());
    RowBudget budget = scheduler_.decode_budget();
    budget.cost = cost();
    step.chunks = decoder_.propose(step.sequences, budget);
    for (const Chunk& chunk : step.chunks) {
      rows += chunk.rows();
      logit_rows += static_cast<int64_t>(chunk.logit_rows.size());
    }
    AERIE_CHECK(rows <= budget.rows, "the decoder proposed {} rows more than it was granted",
                rows - budget.rows);
  }
  for (const PromptCut& cut : scheduler_.cut_prompts(rows, logit_rows)) {
    encode_media(*cut.sequence, target_);
    step.sequences.push_back(cut.sequence);
    step.chunks.push_back(known_chunk(*cut.sequence, cut.sequence->committed, cut.rows));
    step.chunks.back().prompt = true;
  }
  return step;
}

void Engine::write(const Step& step) {
  for (size_t s = 0; s < step.chunks.size(); ++s) {
    Sequence& sequence = *step.sequences[s];
    sequence.written = sequence.committed + step.chunks[s].rows();
    AERIE_CHECK(
        PageTable::pages_for(sequence.written) <= static_cast<int64_t>(sequence.pages.size()),
        "sequence {} has {} pages for {} rows", sequence.id, sequence.pages.size(),
        sequence.written);
  }
}

ForwardOutput Engine::forward(Batch& batch) {
  batch.input.kv = &pool_;
  batch.input.capture_layers = capture_layers_;
  return target_.forward(batch.input);
}

// Commits what is kept; the rows of kept paths of trees are moved together, all at once.
void Engine::move_kept_rows(const Step& step, std::span<const Verdict> verdicts) {
  std::vector<int64_t> from, to;
  for (size_t s = 0; s < verdicts.size(); ++s) {
    for (const SlotMove& move : table_.commit(*step.sequences[s], verdicts[s].keep)) {
      from.push_back(move.first);
      to.push_back(move.second);
    }
  }
  if (from.empty()) return;
  ops::kv_move_(pool_, to_tensor(from, at::kLong).to(target_.device()),
                to_tensor(to, at::kLong).to(target_.device()));
}

void Engine::commit(Sequence& sequence, const Verdict& verdict, const OnTokens& on_tokens) {
  sequence.tokens.insert(sequence.tokens.end(), verdict.emit.begin(), verdict.emit.end());
  sequence.finish = verdict.finish;
  if (scheduler_.limits().share_prefixes) {
    table_.publish(sequence, decoder_.cached_rows(sequence));
  }
  std::unique_ptr<Sequence> finished;
  if (verdict.finish != FinishReason::kRunning) {
    decoder_.forget(sequence);
    table_.release(sequence);
    finished = scheduler_.remove(sequence.id);
  }
  if (on_tokens && !verdict.emit.empty()) on_tokens(sequence, verdict.emit);
}

void Engine::count(const Step& step, std::span<const Verdict> verdicts) {
  ++counts_.forwards;
  counts_.rows += last_step_.rows;
  counts_.logit_rows += last_step_.logit_rows;
  counts_.evictions = scheduler_.evictions();
  for (size_t s = 0; s < step.chunks.size(); ++s) {
    const Chunk& chunk = step.chunks[s];
    const Sequence& sequence = *step.sequences[s];
    counts_.rejected_rows += chunk.rows() - static_cast<int64_t>(verdicts[s].keep.size());
    if (!chunk.prompt) continue;
    counts_.prompt_rows += chunk.rows();
    if (sequence.committed == sequence.shared_rows) counts_.shared_rows += sequence.shared_rows;
  }
}

bool Engine::abort(int64_t id) {
  const std::unique_ptr<Sequence> sequence = scheduler_.remove(id);
  if (!sequence) return false;
  sequence->finish = FinishReason::kAborted;
  decoder_.forget(*sequence);
  table_.release(*sequence);
  return true;
}

void Engine::check_invariants() const {
  std::vector<Sequence*> running;
  for (const auto& sequence : scheduler_.running()) running.push_back(sequence.get());
  AERIE_CHECK(static_cast<int64_t>(running.size()) <= scheduler_.limits().max_sequences,
              "{} sequences run, {} may", running.size(), scheduler_.limits().max_sequences);
  for (const Sequence* sequence : running) {
    const int64_t pages = static_cast<int64_t>(sequence->pages.size());
    AERIE_CHECK(sequence->written == sequence->committed &&
                    sequence->committed + decoder_.pending() <= sequence->known(),
                "sequence {}: committed {}, written {}, known {}", sequence->id,
                sequence->committed, sequence->written, sequence->known());
    AERIE_CHECK(pages == PageTable::pages_for(sequence->committed),
                "sequence {} holds {} pages for {} rows", sequence->id, pages, sequence->committed);
  }
}

// While no stop token may come, another must be left.
static void check_stops(const Request& request, int64_t vocab) {
  if (request.sampling.min_tokens == 0) return;
  std::vector<bool> stops(vocab);
  for (const int64_t token : request.stop_tokens) {
    if (token >= 0 && token < vocab) stops[token] = true;
  }
  AERIE_CHECK(
      std::find(stops.begin(), stops.end(), false) != stops.end(),
      "min_tokens forbids the stop tokens for a while, and they are the whole vocabulary of "
      "{}: name fewer, or leave min_tokens out",
      vocab);
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
  check_stops(request, config.vocab);
  for (const int32_t token : request.prompt) {
    AERIE_CHECK(token >= 0 && token < config.input_vocab(),
                "prompt token {} is outside the model's vocabulary of {}: was it made with another "
                "tokenizer?",
                token, config.input_vocab());
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
