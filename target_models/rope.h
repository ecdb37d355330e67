// Rotary frequencies of a configuration.
#pragma once
#include <string>

#include "kernels/ops.h"
#include "target_models/config.h"

namespace aerie {

class HfJson;

/// Reads rope_parameters (transformers 5) or rope_theta and rope_scaling (transformers 4) of a
/// config.json. Throws Error naming file and key for a type that is not supported.
RopeConfig read_rope_config(const HfJson& config);

/// Inverse frequencies [D/2] f32 of one head. `llama3` as in Llama 3.1's reference code:
/// wavelengths above original_max_position / low_freq_factor are stretched by `factor`, those below
/// original_max_position / high_freq_factor are kept, the band between is interpolated.
Tensor inverse_frequencies(const RopeConfig& rope, int64_t head_dim);

/// [D/2] i64: the axis whose position turns each pair of a head. In blocks of `sections`, or
/// interleaved: axis a > 0 has every third pair, from pair a on, as many as its section; axis 0 the
/// rest. Throws Error where the sections do not fill a head.
Tensor rope_axes(const RopeConfig& rope, int64_t head_dim);

/// Angles for all positions of a model.
ops::RopeTable make_rope_table(const RopeConfig& rope, int64_t head_dim, int64_t max_position,
                               at::Device device);

}  // namespace aerie
