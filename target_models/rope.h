// Rotary frequencies of a configuration.
#pragma once
#include <string>

#include "kernels/ops.h"
#include "target_models/config.h"

namespace aerie {

class HfJson;

/// Reads rope_parameters (transformers 5) or rope_theta and rope_scaling (transformers 4) of a
/// config.json; where there is a section for each kind of layer, that of "full_attention". Throws
/// Error naming file and key for a type that is not supported.
RopeConfig read_rope_config(const HfJson& config);
/// One such section by itself; `theta` is used where it states none.
RopeConfig read_rope_section(const HfJson& section, const HfJson& config, double theta);

/// Inverse frequencies [D/2] f32 of one head, as transformers computes them.
/// - llama3 (Llama 3.1's reference code): wavelengths above original_max_position / low_freq_factor
///   are stretched by `factor`, those below original_max_position / high_freq_factor are kept, the
///   band between is interpolated.
/// - yarn (arXiv 2309.00071, 3.2): the same idea with a linear ramp over dimensions.
/// - dynamic: with `alpha`, theta * alpha^(D/(D-2)); without it plain, because it only differs
///   beyond the model's maximum length, where no position is accepted.
Tensor inverse_frequencies(const RopeConfig& rope, int64_t head_dim);

/// What multiplies cos and sin: yarn's attention factor (arXiv 2309.00071, 3.4), else 1.
double attention_scaling(const RopeConfig& rope);

/// [D/2] i64: the axis whose position turns each pair of a head. In blocks of `sections`, or
/// interleaved: axis a > 0 has every third pair, from pair a on, as many as its section; axis 0 the
/// rest. Where axes follow dimensions: those of the first (`half` 0) or second half of a head's, as
/// transformers' HunYuanVLRotaryEmbedding has it. Throws Error where the sections do not fill a
/// head.
Tensor rope_axes(const RopeConfig& rope, int64_t head_dim, int64_t half = 0);

/// Angles for all positions of a model.
ops::RopeTable make_rope_table(const RopeConfig& rope, int64_t head_dim, int64_t max_position,
                               at::Device device);

}  // namespace aerie
