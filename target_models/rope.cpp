#include "target_models/rope.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/where.h>

#include <numbers>
#include <numeric>

#include "target_models/hf_json.h"

namespace aerie {
namespace {

constexpr std::string_view kSupported = "supported types: default, linear, llama3";

/// The object that holds the type, "rope_type" or, in older files, "type".
std::string rope_type(const HfJson& section) {
  const auto type = section.find<std::string>("rope_type");
  const std::string name = type ? *type : section.find<std::string>("type").value_or("default");
  return name == "mrope" ? "default" : name;  // its sections tell
}

void read_scaling(const HfJson& section, const HfJson& config, RopeConfig& rope) {
  rope.type = rope_type(section);
  AERIE_CHECK(rope.type == "default" || rope.type == "linear" || rope.type == "llama3",
              "{}: rope_type \"{}\" is not supported ({}). Use a model with one of these",
              section.where(), rope.type, kSupported);
  if (rope.type == "default") return;
  rope.factor = section.require<double>("factor");
  AERIE_CHECK(rope.factor >= 1.0, "{}: \"factor\" is {} and must be at least 1", section.where(),
              rope.factor);
  if (rope.type != "llama3") return;
  rope.low_freq_factor = section.require<double>("low_freq_factor");
  rope.high_freq_factor = section.require<double>("high_freq_factor");
  AERIE_CHECK(0 < rope.low_freq_factor && rope.low_freq_factor < rope.high_freq_factor,
              "{}: \"low_freq_factor\" {} must be above 0 and below \"high_freq_factor\" {}",
              section.where(), rope.low_freq_factor, rope.high_freq_factor);
  // Hugging Face takes max_position_embeddings where the pre-training length is not given.
  rope.original_max_position = section.has("original_max_position_embeddings")
                                   ? section.require_size("original_max_position_embeddings")
                                   : config.require_size("max_position_embeddings");
}

void read_axes(const HfJson& section, RopeConfig& rope) {
  rope.sections =
      section.find<std::vector<int64_t>>("mrope_section").value_or(std::vector<int64_t>{});
  rope.interleaved = section.find<bool>("mrope_interleaved").value_or(false);
  AERIE_CHECK(rope.sections.empty() || rope.sections.size() == 3,
              "{}: \"mrope_section\" must name three sections: time, height, width",
              section.where());
}

void refuse_partial_rotation(const HfJson& section) {
  const double share = section.find<double>("partial_rotary_factor").value_or(1.0);
  AERIE_CHECK(share == 1.0,
              "{}: \"partial_rotary_factor\" is {}, and only full rotation (1.0) is supported",
              section.where(), share);
}

}  // namespace

RopeConfig read_rope_config(const HfJson& config) {
  RopeConfig rope;
  refuse_partial_rotation(config);
  // Hugging Face's default of these families is 10000; early Llama files do not state it.
  rope.theta = config.find<double>("rope_theta").value_or(10000.0);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (!config.has(key)) continue;
    const HfJson section = config.section(key);
    refuse_partial_rotation(section);
    rope.theta = section.find<double>("rope_theta").value_or(rope.theta);
    read_scaling(section, config, rope);
    read_axes(section, rope);
    break;
  }
  AERIE_CHECK(rope.theta > 0, "{}: \"rope_theta\" is {} and must be above 0", config.where(),
              rope.theta);
  return rope;
}

Tensor rope_axes(const RopeConfig& rope, int64_t head_dim) {
  const int64_t pairs = head_dim / 2, axes = rope.axes();
  Tensor axis_of = at::zeros({pairs}, at::kLong);
  if (axes == 1) return axis_of;
  const int64_t sum = std::accumulate(rope.sections.begin(), rope.sections.end(), int64_t{0});
  AERIE_CHECK(sum == pairs, "mrope_section [{}] must add up to {}, half of head_dim {}",
              fmt::join(rope.sections, ","), pairs, head_dim);
  int64_t* axis = axis_of.mutable_data_ptr<int64_t>();
  int64_t begin = 0;
  for (int64_t a = 0; a < axes; ++a) {
    const int64_t size = rope.sections[static_cast<size_t>(a)];
    if (!rope.interleaved) {
      std::fill_n(axis + begin, size, a);
    } else {
      for (int64_t i = 0; a > 0 && i < size && i * axes + a < pairs; ++i) axis[i * axes + a] = a;
    }
    begin += size;
  }
  return axis_of;
}

Tensor inverse_frequencies(const RopeConfig& rope, int64_t head_dim) {
  const Tensor exponent = at::arange(0, head_dim, 2, at::kLong).to(at::kFloat) / head_dim;
  const Tensor plain = at::pow(rope.theta, exponent).reciprocal();
  if (rope.type == "default") return plain;
  if (rope.type == "linear") return plain / rope.factor;
  AERIE_CHECK(rope.type == "llama3", "rope type \"{}\" has no frequencies here ({})", rope.type,
              kSupported);
  const double length = static_cast<double>(rope.original_max_position);
  const Tensor wavelength = 2 * std::numbers::pi / plain;
  const Tensor smooth = ((length / wavelength - rope.low_freq_factor) /
                         (rope.high_freq_factor - rope.low_freq_factor))
                            .clamp(0, 1);
  return (1 - smooth) * plain / rope.factor + smooth * plain;
}

ops::RopeTable make_rope_table(const RopeConfig& rope, int64_t head_dim, int64_t max_position,
                               at::Device device) {
  return ops::make_rope_table(inverse_frequencies(rope, head_dim).to(device), max_position);
}

}  // namespace aerie
