// A draft's tensors as files of every dialect keep them: keys and values apart, gate and up apart,
// under EAGLE's names. Internal to the readers and writers of drafts.
#pragma once
#include <functional>

#include "draft_models/draft.h"

namespace aerie {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// Our tensors, checked (there, of their shape, finite), on the CPU in `dtype`, in the order of
/// draft_param_shapes. `where` stands in messages.
NamedTensors split_params(const DraftConfig& config, const DraftParams& params,
                          at::ScalarType dtype, const std::string& where);

/// The draft's parameters from a file's tensors: `take(name, shape)` gives one, and throws where it
/// is missing or has another shape. The result owns its memory.
using TakeTensor = std::function<Tensor(const std::string& name, at::IntArrayRef shape)>;
DraftParams join_params(const DraftConfig& config, const TakeTensor& take);

/// Throws Error if `tensor` holds NaN or infinity.
void check_finite(const Tensor& tensor, const std::string& name, const std::string& where);

/// d2t as files of Hugging Face's kind keep it: target id - draft id. [W] i64
Tensor d2t_offsets(const VocabMap& vocab);

/// Throws Error where `vocab` is not of the size that `config` says.
void check_vocab_map(const DraftConfig& config, const VocabMap& vocab, const std::string& where);

/// Throws Error where `vocab` is not the map whose hash `config` states.
void check_hash(const DraftConfig& config, const VocabMap& vocab, const std::string& where);

}  // namespace aerie
