// Reading a draft's GGUF back, with every check that llama.cpp's loader does not make.
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>

#include <set>

#include "common/error.h"
#include "common/files.h"
#include "draft_models/file_tensors.h"
#include "draft_models/gguf_draft.h"
#include "draft_models/gguf_layout.h"

namespace aerie {
namespace {

using namespace gguf_layout;

constexpr const char* kEmbedding = "token_embd.weight";

/// One file's tensors; finish() refuses what nobody asked for.
class Tensors {
 public:
  explicit Tensors(const GgufFile& file) : file_(file) {}

  bool has(const std::string& name) const { return file_.has_tensor(name); }
  Tensor take(const std::string& name, at::IntArrayRef shape) {
    const Tensor tensor = file_.tensor(name);
    AERIE_CHECK(tensor.sizes() == shape,
                "{}: tensor \"{}\" has shape [{}] where its keys imply [{}]: write it again",
                file_.path().string(), name, fmt::join(tensor.sizes(), ","), fmt::join(shape, ","));
    if (tensor.is_floating_point()) check_finite(tensor, name, file_.path().string());
    taken_.insert(name);
    return tensor;
  }
  void finish() const {
    for (const std::string& name : file_.tensor_names()) {
      AERIE_CHECK(taken_.count(name) == 1,
                  "{}: tensor \"{}\" does not belong to an EAGLE-3 draft of one layer: it was made "
                  "for another kind of draft",
                  file_.path().string(), name);
    }
  }

 private:
  const GgufFile& file_;
  std::set<std::string> taken_;
};

void refuse_other_kinds(const GgufFile& file) {
  const std::string where = file.path().string();
  const std::string architecture = file.text("general.architecture");
  AERIE_CHECK(architecture == "eagle3",
              "{}: \"general.architecture\" is \"{}\"; an EAGLE-3 draft is \"eagle3\"", where,
              architecture);
  const int64_t blocks = file.integer("eagle3.block_count");
  AERIE_CHECK(blocks == 1, "{}: \"eagle3.block_count\" is {}; a draft has 1", where, blocks);
  const char* flag = "eagle3.norm_before_fc";
  AERIE_CHECK(!file.has(flag) || !file.boolean(flag),
              "{}: \"{}\" is true, and this variant of EAGLE-3 is not supported", where, flag);
  const char* window = "eagle3.attention.sliding_window";
  AERIE_CHECK(!file.has(window), "{}: \"{}\" is there, and llama.cpp's EAGLE-3 has no windows",
              where, window);
}

RopeConfig read_rope(const GgufFile& file, Tensors& tensors, int64_t head_dim) {
  const std::string where = file.path().string();
  RopeConfig rope;
  rope.theta = file.number("eagle3.rope.freq_base");
  const int64_t rotated = file.integer("eagle3.rope.dimension_count");
  AERIE_CHECK(rotated == head_dim,
              "{}: \"eagle3.rope.dimension_count\" is {} and \"eagle3.attention.key_length\" {}: "
              "partial rotation is not supported",
              where, rotated, head_dim);
  if (file.has("eagle3.rope.scaling.type")) {
    rope.type = file.text("eagle3.rope.scaling.type");
    AERIE_CHECK(rope.type == "linear", "{}: \"eagle3.rope.scaling.type\" \"{}\" is not supported",
                where, rope.type);
    rope.factor = file.number("eagle3.rope.scaling.factor");
  }
  if (!tensors.has(kRopeFactors)) return rope;
  AERIE_CHECK(file.has("aerie.rope.factor"),
              "{}: tensor \"{}\" comes without the keys \"aerie.rope.*\", so that its scaling "
              "cannot be checked: export the draft from its directory with aerie",
              where, kRopeFactors);
  rope.type = "llama3";
  rope.factor = file.number("aerie.rope.factor");
  rope.low_freq_factor = file.number("aerie.rope.low_freq_factor");
  rope.high_freq_factor = file.number("aerie.rope.high_freq_factor");
  rope.original_max_position = file.integer("aerie.rope.original_max_position");
  AERIE_CHECK(at::allclose(tensors.take(kRopeFactors, {head_dim / 2}),
                           frequency_factors(rope, head_dim), 1e-4),
              "{}: tensor \"{}\" does not follow from the keys \"aerie.rope.*\": write it again",
              where, kRopeFactors);
  return rope;
}

/// The captured layers in our counting, checked.
std::vector<int64_t> read_layers(const GgufFile& file, int64_t target_layers) {
  const std::string where = file.path().string();
  const std::vector<int64_t> streams = file.integers("eagle3.target_layers");
  AERIE_CHECK(streams.size() == 3, "{}: \"eagle3.target_layers\" has {} ids; llama.cpp wants 3",
              where, streams.size());
  std::vector<int64_t> layers;
  for (const int64_t id : streams) {
    AERIE_CHECK(id >= 1 && (layers.empty() || id - 1 > layers.back()) &&
                    (target_layers == 0 || id < target_layers),
                "{}: \"eagle3.target_layers\" is [{}]; the ids must ascend from at least 1 to less "
                "than the target's {} layers",
                where, fmt::join(streams, ","),
                target_layers > 0 ? std::to_string(target_layers) : "number of");
    layers.push_back(id - 1);
  }
  if (file.has("aerie.capture_layers")) {
    const std::vector<int64_t> ours = file.integers("aerie.capture_layers");
    AERIE_CHECK(ours == layers,
                "{}: \"eagle3.target_layers\" means the outputs of layers [{}], but "
                "\"aerie.capture_layers\" says [{}]: export the draft again",
                where, fmt::join(layers, ","), fmt::join(ours, ","));
  }
  return layers;
}

int64_t size_of(const GgufFile& file, const std::string& key) {
  const int64_t value = file.integer(key);
  AERIE_CHECK(value >= 1, "{}: \"{}\" is {} and must be at least 1", file.path().string(), key,
              value);
  return value;
}

DraftConfig read_config(const GgufFile& file, Tensors& tensors) {
  const auto size = [&](const char* key) { return size_of(file, std::string("eagle3.") + key); };
  DraftConfig config;
  config.hidden = size("embedding_length");
  config.intermediate = size("feed_forward_length");
  config.heads = size("attention.head_count");
  config.kv_heads = size("attention.head_count_kv");
  config.head_dim = size("attention.key_length");
  config.target_hidden = size("target_hidden_size");
  config.vocab = size("vocab_size");
  config.max_position = size("context_length");
  config.rms_norm_eps = file.number("eagle3.attention.layer_norm_rms_epsilon");
  config.target_layers = file.has("aerie.target_layers") ? file.integer("aerie.target_layers") : 0;
  AERIE_CHECK(config.heads % config.kv_heads == 0 && config.head_dim % 2 == 0 &&
                  size("attention.value_length") == config.head_dim,
              "{}: {} heads, {} of keys, of size {} (values {}) cannot be: write it again",
              file.path().string(), config.heads, config.kv_heads, config.head_dim,
              size("attention.value_length"));
  const char* flag = "eagle3.norm_before_residual";
  config.norm_before_residual = file.has(flag) && file.boolean(flag);
  if (file.has("aerie.vocabulary")) config.vocabulary_hash = file.text("aerie.vocabulary");
  config.capture_layers = read_layers(file, config.target_layers);
  config.rope = read_rope(file, tensors, config.head_dim);
  config.draft_vocab = tensors.has(kMap) ? file.tensor(kMap).size(0) : config.vocab;
  return config;
}

VocabMap read_map(const GgufFile& file, Tensors& tensors, const DraftConfig& config) {
  if (!tensors.has(kMap)) return make_vocab_map(at::arange(config.vocab, at::kLong), config.vocab);
  const Tensor ids = tensors.take(kMap, {config.draft_vocab});
  AERIE_CHECK(ids.scalar_type() == at::kLong,
              "{}: tensor \"{}\" is {} and must be Long: write it again", file.path().string(),
              kMap, c10::toString(ids.scalar_type()));
  try {
    return make_vocab_map(ids, config.vocab);
  } catch (const Error& error) {
    fail("{}: tensor \"{}\": {}; it must hold target ids (not offsets): export it again",
         file.path().string(), kMap, error.what());
  }
}

void check_tokenizer(const GgufFile& file, const DraftConfig& config) {
  const char* tokens = "tokenizer.ggml.tokens";
  AERIE_CHECK(file.has(tokens),
              "{}: the key \"{}\" is missing: export the draft with its target's "
              "tokenizer (--target or --target-gguf)",
              file.path().string(), tokens);
  AERIE_CHECK(file.array_size(tokens) == config.vocab,
              "{}: \"{}\" has {} tokens and \"eagle3.vocab_size\" is {}: export it again",
              file.path().string(), tokens, file.array_size(tokens), config.vocab);
}

}  // namespace

LoadedDraft load_gguf_draft(const fs::path& path) {
  const GgufFile file(path);
  refuse_other_kinds(file);
  Tensors tensors(file);
  LoadedDraft draft;
  draft.config = read_config(file, tensors);
  check_tokenizer(file, draft.config);
  draft.params = join_params(draft.config, [&](const std::string& name, at::IntArrayRef shape) {
    const Tensor value = tensors.take(theirs(name), shape);
    const int64_t heads = rotated_heads(name, draft.config);
    return heads > 0 ? from_pairs(value, heads) : value;
  });
  draft.vocab = read_map(file, tensors, draft.config);
  check_hash(draft.config, draft.vocab, path.string());
  if (tensors.has(kEmbedding)) {
    draft.embed = tensors.take(kEmbedding, {draft.config.vocab, draft.config.hidden});
  }
  tensors.finish();
  return draft;
}

}  // namespace aerie
