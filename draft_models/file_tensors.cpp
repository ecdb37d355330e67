#include "draft_models/file_tensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>

#include <optional>
#include <string_view>

#include "common/error.h"
#include "data/vocab_map.h"

namespace aerie {
namespace {

/// Projections of ours that files keep as two, the first half of the rows and the second.
struct Joined {
  std::string_view ours, first, second;
};
constexpr Joined kJoined[] = {{".kv_proj.", ".k_proj.", ".v_proj."},
                              {".gate_up_proj.", ".gate_proj.", ".up_proj."}};

/// The two names in a file of a tensor that is joined.
std::optional<std::pair<std::string, std::string>> split_name(const std::string& name) {
  for (const Joined& joined : kJoined) {
    const size_t at = name.find(joined.ours);
    if (at == std::string::npos) continue;
    const auto replaced = [&](std::string_view part) {
      std::string result = name;
      return result.replace(at, joined.ours.size(), part);
    };
    return std::pair(replaced(joined.first), replaced(joined.second));
  }
  return std::nullopt;
}

}  // namespace

void check_finite(const Tensor& tensor, const std::string& name, const std::string& where) {
  AERIE_CHECK(at::isfinite(tensor).all().item<bool>(),
              "{}: tensor \"{}\" holds NaN or infinity: the file is damaged or the training "
              "diverged; export an earlier checkpoint",
              where, name);
}

NamedTensors split_params(const DraftConfig& config, const DraftParams& params,
                          at::ScalarType dtype, const std::string& where) {
  NamedTensors tensors;
  for (const ParamShape& param : draft_param_shapes(config)) {
    const Tensor value = params.at(param.name).detach().to(at::kCPU, dtype).contiguous();
    AERIE_CHECK(value.sizes() == at::IntArrayRef(param.shape),
                "{}: tensor \"{}\" has shape [{}] where the config implies [{}]", where, param.name,
                fmt::join(value.sizes(), ","), fmt::join(param.shape, ","));
    check_finite(value, param.name, where);
    if (const auto joined = split_name(param.name)) {
      const auto halves = value.chunk(2, 0);
      tensors.emplace_back(joined->first, halves[0]);
      tensors.emplace_back(joined->second, halves[1]);
    } else {
      tensors.emplace_back(param.name, value);
    }
  }
  return tensors;
}

DraftParams join_params(const DraftConfig& config, const TakeTensor& take) {
  DraftParams params;
  for (const ParamShape& param : draft_param_shapes(config)) {
    Tensor value;
    if (const auto joined = split_name(param.name)) {
      const std::vector<int64_t> half{param.shape[0] / 2, param.shape[1]};
      value = at::cat({take(joined->first, half), take(joined->second, half)});
    } else {
      value = take(param.name, param.shape).clone();
    }
    params.tensors.emplace_back(param.name, value);
  }
  return params;
}

Tensor d2t_offsets(const VocabMap& vocab) {
  return vocab.draft_to_target - at::arange(vocab.draft_to_target.numel(), at::kLong);
}

void check_vocab_map(const DraftConfig& config, const VocabMap& vocab, const std::string& where) {
  AERIE_CHECK(vocab.draft_to_target.numel() == config.draft_vocab &&
                  vocab.target_to_draft.numel() == config.vocab,
              "{}: the vocabulary map has {} of {} ids, the draft's config {} of {}", where,
              vocab.draft_to_target.numel(), vocab.target_to_draft.numel(), config.draft_vocab,
              config.vocab);
}

void check_hash(const DraftConfig& config, const VocabMap& vocab, const std::string& where) {
  const std::string hash = vocabulary_hash(vocab.draft_to_target, config.vocab);
  AERIE_CHECK(config.vocabulary_hash.empty() || config.vocabulary_hash == hash,
              "{}: aerie: \"vocabulary\" is {}, and the map d2t beside it hashes to {}: keys and "
              "weights belong to different drafts; export again",
              where, config.vocabulary_hash, hash);
}

}  // namespace aerie
