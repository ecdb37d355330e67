// Every variant of the draft guesses in the engine what training computes: the same prompt goes
// through the drafter's paged cache and through the attention of the training-time test.
#include <gtest/gtest.h>

#include <set>

#include "decoding/page_table.h"
#include "decoding/text_target.h"
#include "tests/decoding/test_drafts.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using testing::random_draft;
using testing::TestDraft;
using Tokens = std::vector<int32_t>;

constexpr int64_t kDepths = 4;
const std::vector<int64_t> kTwoLayers{0, 1};

struct Variant {
  const char* name;
  void (*apply)(DraftConfig&);
};

/// A draft of the variant, its matrices large enough that every part matters.
TestDraft draft_of(const TargetModel& target, const Variant& variant) {
  TestDraft draft = random_draft(target, kTwoLayers, 2, 5);
  variant.apply(draft.config);
  draft.params = init_draft(draft.config, start_from_head(target, draft.vocab), 5);
  for (auto& [name, tensor] : draft.params.tensors) {
    if (tensor.dim() == 2 && name != "lm_head.weight") tensor.mul_(12);
    if (tensor.dim() == 1) tensor.add_(at::arange(tensor.numel()).sin() * 0.3);
  }
  return draft;
}

/// The chain that training's form of the draft says, behind the last row of the prompt.
Tokens training_chain(const TestDraft& draft, const TargetModel& target, const Tensor& captured,
                      const Tensor& next_tokens, const Tensor& next_embeds = {}) {
  const Eagle3Draft model = draft.make(target);
  const int64_t n = captured.size(0);
  const auto layers = static_cast<size_t>(draft.config.layers);
  const double scale = 1 / std::sqrt(static_cast<double>(draft.config.head_dim));
  const Tensor start = at::tensor({0, static_cast<int>(n)}, at::kInt);
  std::vector<std::vector<Tensor>> keys(layers), values(layers);
  Tensor hidden = model.fuse(captured), tokens = next_tokens, positions = at::arange(n);
  Tokens chain;
  for (int64_t k = 0; k < kDepths; ++k) {
    size_t layer = 0;
    const Attend attend = [&](const Tensor& q, const Tensor& key, const Tensor& value) {
      std::vector<Tensor>&k_all = keys[layer], &v_all = values[layer];
      ++layer;
      k_all.push_back(key);
      v_all.push_back(value);
      const Tensor rows = k == 0 ? at::arange(n) : at::full({1}, n - 1, at::kLong);
      const int64_t window = draft.config.window > 0 ? draft.config.window - k : 0;
      return ops::ttt_attention(q, rows, k_all[0], v_all[0], start,
                                {k_all.begin() + 1, k_all.end()}, {v_all.begin() + 1, v_all.end()},
                                scale, window);
    };
    const InputEmbeds embeds{k == 0 ? next_embeds : Tensor(), {}};
    const DraftStep step = model.step(tokens, hidden, positions, {}, attend, embeds);
    const int64_t row = step.normed.size(0) - 1;
    const int64_t id = model.logits(step.normed.narrow(0, row, 1)).argmax().item<int64_t>();
    chain.push_back(static_cast<int32_t>(draft.vocab.draft_to_target[id].item<int64_t>()));
    hidden = step.hidden.narrow(0, row, 1);
    tokens = at::full({1}, chain.back(), at::kLong);
    positions = at::full({1}, n + k, at::kLong);
  }
  return chain;
}

/// The chain that the drafter guesses for the same prompt, observed in pieces of `piece` rows.
Tokens drafted_chain(const TestDraft& draft, const TargetModel& target, const Tensor& captured,
                     const Tokens& text, int64_t piece, const EncodedSample& encoded = {}) {
  Eagle3Drafter drafter(draft.make(target), draft.vocab, target.dtype(), target.device());
  PageTable pages(16);
  Sequence sequence;
  sequence.id = 3;
  sequence.tokens = text;
  sequence.request.encoded = encoded;
  drafter.attach(pages.total(), false);
  EXPECT_TRUE(pages.reserve(sequence, static_cast<int64_t>(text.size()) + kDepths));
  const int64_t n = captured.size(0);
  for (int64_t at = 0; at < n; at += piece) {
    const int64_t count = std::min(piece, n - at);
    const Observation seen{&sequence, at, captured.narrow(0, at, count),
                           Tokens(text.begin() + at + 1, text.begin() + at + 1 + count),
                           at + count == n};
    drafter.observe({&seen, 1});
  }
  Sequence* const one = &sequence;
  const GuessShape shape{kDepths, 1, kDepths};
  return drafter.guess({&one, 1}, {&shape, 1})[0].tokens;
}

TEST(DraftVariants, GuessWhatTrainingComputes) {
  const Variant variants[] = {
      {"plain", [](DraftConfig&) {}},
      {"eagle31", [](DraftConfig& c) { c.fc_norm = c.norm_output = true; }},
      {"norm_output", [](DraftConfig& c) { c.norm_output = true; }},
      {"qwen3", [](DraftConfig& c) { c.qk_norm = true; }},
      {"residual", [](DraftConfig& c) { c.norm_before_residual = true; }},
      {"deep", [](DraftConfig& c) { c.layers = 3; }},
      {"window", [](DraftConfig& c) { c.window = 6; }},
      {"narrow", [](DraftConfig& c) { c.window = kDepths; }},
      {"all",
       [](DraftConfig& c) {
         c.layers = 2;
         c.window = 9;
         c.qk_norm = c.fc_norm = c.norm_output = c.norm_before_residual = true;
       }},
  };
  const auto target = load_target(testing::golden_dir() / "models/llama", at::kCPU, at::kFloat);
  Tokens text;
  for (int32_t i = 0; i < 38; ++i) text.push_back(3 + i * 29 % 90);
  const auto n = static_cast<int64_t>(text.size()) - 1;
  const Tensor ids = at::tensor(text, at::kInt).to(at::kLong);
  ForwardInput input;
  input.tokens = ids.narrow(0, 0, n);
  input.positions = at::arange(n);
  input.layout.q_start = at::tensor({0, static_cast<int>(n)}, at::kInt);
  input.layout.max_q = input.layout.max_kv = n;
  input.capture_layers = kTwoLayers;
  const Tensor captured = target->forward(input).captured;

  std::set<Tokens> chains;
  for (const Variant& variant : variants) {
    SCOPED_TRACE(variant.name);
    const TestDraft draft = draft_of(*target, variant);
    const Tokens expected = training_chain(draft, *target, captured, ids.narrow(0, 1, n));
    EXPECT_EQ(drafted_chain(draft, *target, captured, text, n), expected);
    EXPECT_EQ(drafted_chain(draft, *target, captured, text, 10), expected);
    chains.insert(expected);
  }
  EXPECT_GE(chains.size(), 7u) << "the variants hardly matter: the test shows nothing";
}

/// With draft.use_input_embeds the draft reads the features of a prompt's audio, wherever the
/// prompt is cut; without, the placeholders.
TEST(DraftVariants, ReadTheFeaturesThatThePromptsAudioHas) {
  const TextTarget target(testing::golden_dir() / "models/qwen2_audio", "cpu", "float32");
  const MediaTokens prompt =
      target.encode_prompt(parse_conversation(R"({"messages": [{"role": "user", "content": [
        {"type": "audio", "audio": "speech.flac"}, {"type": "text", "text": "What is it?"}]}]})",
                                              testing::golden_dir() / "audio"));
  const auto n = static_cast<int64_t>(prompt.ids.size());
  const PackedTokens packed = pack_document(prompt.ids, prompt.media);
  const EncodedSample encoded = target.model->encode(packed);
  ForwardInput input;
  input.tokens = packed.tokens;
  input.positions = encoded.positions;
  input.embeds = encoded.embeds;
  input.embed_rows = encoded.embed_rows;
  input.layout.q_start = packed.q_start;
  input.layout.max_q = input.layout.max_kv = n;
  input.capture_layers = kTwoLayers;
  const Tensor captured = target.model->forward(input).captured;
  Tokens text = prompt.ids;
  text.push_back(5);
  const Tensor next_ids = at::tensor(text, at::kInt).to(at::kLong).narrow(0, 1, n);
  // Row i reads what stands at i + 1.
  const Tensor next_embeds = target.model->embed_weight()
                                 .index_select(0, next_ids)
                                 .index_copy(0, encoded.embed_rows - 1, encoded.embeds);

  const Variant variant{"features", [](DraftConfig& c) { c.use_input_embeds = true; }};
  TestDraft draft = draft_of(*target.model, variant);
  const Tokens expected = training_chain(draft, *target.model, captured, next_ids, next_embeds);
  for (const int64_t piece : {n, int64_t{7}, int64_t{40}})
    EXPECT_EQ(drafted_chain(draft, *target.model, captured, text, piece, encoded), expected);

  draft.config.use_input_embeds = false;
  const Tokens blind = training_chain(draft, *target.model, captured, next_ids);
  EXPECT_EQ(drafted_chain(draft, *target.model, captured, text, n, encoded), blind);
  EXPECT_NE(blind, expected) << "the features hardly matter: the test shows nothing";
}

}  // namespace
}  // namespace aerie
