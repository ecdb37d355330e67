#include "target_models/rope.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/pow.h>

#include <cmath>
#include <numbers>
#include <numeric>

#include "target_models/hf_json.h"

namespace aerie {
namespace {

constexpr std::string_view kSupported = "supported types: default, linear, dynamic, llama3, yarn";

/// The object that holds the type, "rope_type" or, in older files, "type".
std::string rope_type(const HfJson& section) {
  const auto type = section.find<std::string>("rope_type");
  const std::string name = type ? *type : section.find<std::string>("type").value_or("default");
  if (name == "xdrope") return "dynamic";     // HunyuanOCR's published file
  return name == "mrope" ? "default" : name;  // its sections tell
}

void check_type(const std::string& type, const HfJson& section) {
  for (const char* known : {"default", "linear", "dynamic", "llama3", "yarn"}) {
    if (type == known) return;
  }
  fail("{}: rope_type \"{}\" is not supported ({}). Use a model with one of these", section.where(),
       type, kSupported);
}

void read_llama3(const HfJson& section, RopeConfig& rope) {
  rope.low_freq_factor = section.require<double>("low_freq_factor");
  rope.high_freq_factor = section.require<double>("high_freq_factor");
  AERIE_CHECK(0 < rope.low_freq_factor && rope.low_freq_factor < rope.high_freq_factor,
              "{}: \"low_freq_factor\" {} must be above 0 and below \"high_freq_factor\" {}",
              section.where(), rope.low_freq_factor, rope.high_freq_factor);
}

/// A number that files leave out, or set to 0 or null, to say that there is none.
double optional_number(const HfJson& section, const char* key, double otherwise = 0) {
  const double value = section.find<double>(key).value_or(0);
  AERIE_CHECK(value >= 0, "{}: \"{}\" is {} and must not be negative", section.where(), key, value);
  return value > 0 ? value : otherwise;
}

void read_yarn(const HfJson& section, RopeConfig& rope) {
  rope.beta_fast = optional_number(section, "beta_fast", 32);
  rope.beta_slow = optional_number(section, "beta_slow", 1);
  AERIE_CHECK(rope.beta_fast > rope.beta_slow,
              "{}: \"beta_fast\" {} must be above \"beta_slow\" {}", section.where(),
              rope.beta_fast, rope.beta_slow);
  rope.truncate = section.find<bool>("truncate").value_or(true);
  rope.attention_factor = optional_number(section, "attention_factor");
  rope.mscale = optional_number(section, "mscale");
  rope.mscale_all_dim = optional_number(section, "mscale_all_dim");
}

/// Hugging Face takes max_position_embeddings where the pre-training length is not given.
int64_t original_length(const HfJson& section, const HfJson& config) {
  const char* key = "original_max_position_embeddings";
  return section.has(key) ? section.require_size(key)
                          : config.require_size("max_position_embeddings");
}

void read_scaling(const HfJson& section, const HfJson& config, RopeConfig& rope) {
  rope.type = rope_type(section);
  check_type(rope.type, section);
  if (rope.type == "default") return;
  rope.factor = section.require<double>("factor");
  AERIE_CHECK(rope.factor >= 1.0, "{}: \"factor\" is {} and must be at least 1", section.where(),
              rope.factor);
  if (rope.type == "dynamic") rope.alpha = optional_number(section, "alpha");
  if (rope.type == "llama3") read_llama3(section, rope);
  if (rope.type == "yarn") read_yarn(section, rope);
  if (rope.type == "llama3" || rope.type == "yarn") {
    rope.original_max_position = original_length(section, config);
  }
}

void read_axes(const HfJson& section, RopeConfig& rope) {
  const char* key = section.has("xdrope_section") ? "xdrope_section" : "mrope_section";
  rope.sections = section.find<std::vector<int64_t>>(key).value_or(std::vector<int64_t>{});
  rope.interleaved = section.find<bool>("mrope_interleaved").value_or(false);
}

void refuse_partial_rotation(const HfJson& section) {
  const double share = section.find<double>("partial_rotary_factor").value_or(1.0);
  AERIE_CHECK(share == 1.0,
              "{}: \"partial_rotary_factor\" is {}, and only full rotation (1.0) is supported",
              section.where(), share);
}

/// theta^(2i/D) for i below D/2
Tensor wavelengths(double theta, int64_t head_dim) {
  return at::pow(theta, at::arange(0, head_dim, 2, at::kLong).to(at::kFloat) / head_dim);
}

Tensor llama3_frequencies(const RopeConfig& rope, const Tensor& plain) {
  const double length = static_cast<double>(rope.original_max_position);
  const Tensor wavelength = 2 * std::numbers::pi / plain;
  const Tensor smooth = ((length / wavelength - rope.low_freq_factor) /
                         (rope.high_freq_factor - rope.low_freq_factor))
                            .clamp(0, 1);
  return (1 - smooth) * plain / rope.factor + smooth * plain;
}

/// The dimension that turns `rotations` times within the pre-training length.
double yarn_dimension(const RopeConfig& rope, double rotations, int64_t head_dim) {
  const double length = static_cast<double>(rope.original_max_position);
  return static_cast<double>(head_dim) * std::log(length / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(rope.theta));
}

Tensor yarn_frequencies(const RopeConfig& rope, const Tensor& plain, int64_t head_dim) {
  double low = yarn_dimension(rope, rope.beta_fast, head_dim);
  double high = yarn_dimension(rope, rope.beta_slow, head_dim);
  if (rope.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(head_dim - 1));
  if (low == high) high += 0.001;  // as transformers: a ramp of no width would divide by zero
  const Tensor ramp = ((at::arange(head_dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  return plain / rope.factor * ramp + plain * (1 - ramp);
}

double yarn_scale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

}  // namespace

RopeConfig read_rope_section(const HfJson& section, const HfJson& config, double theta) {
  RopeConfig rope;
  refuse_partial_rotation(section);
  rope.theta = section.find<double>("rope_theta").value_or(theta);
  read_scaling(section, config, rope);
  read_axes(section, rope);
  AERIE_CHECK(rope.theta > 0, "{}: \"rope_theta\" is {} and must be above 0", section.where(),
              rope.theta);
  return rope;
}

RopeConfig read_rope_config(const HfJson& config) {
  refuse_partial_rotation(config);
  // Hugging Face's default of most families is 10000; early Llama files do not state it.
  const double theta = config.find<double>("rope_theta").value_or(10000.0);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (!config.has(key)) continue;
    const HfJson section = config.section(key);
    const bool nested = section.has("full_attention");
    return read_rope_section(nested ? section.section("full_attention") : section, config, theta);
  }
  const HfJson nothing(nlohmann::json::object(), config.where());
  return read_rope_section(nothing, config, theta);
}

Tensor rope_axes(const RopeConfig& rope, int64_t head_dim, int64_t half) {
  const int64_t pairs = head_dim / 2, axes = rope.axes();
  Tensor axis_of = at::zeros({pairs}, at::kLong);
  if (axes == 1) return axis_of;
  const int64_t sum = std::accumulate(rope.sections.begin(), rope.sections.end(), int64_t{0});
  AERIE_CHECK(sum == pairs, "mrope_section [{}] must add up to {}, half of head_dim {}",
              fmt::join(rope.sections, ","), pairs, head_dim);
  if (rope.per_dimension) {
    const Tensor widths = at::tensor(rope.sections, at::kLong) * 2;
    return at::repeat_interleave(at::arange(axes), widths).narrow(0, half * pairs, pairs).clone();
  }
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
  if (rope.type == "dynamic" && rope.alpha > 0) {
    const double power = static_cast<double>(head_dim) / static_cast<double>(head_dim - 2);
    return wavelengths(rope.theta * std::pow(rope.alpha, power), head_dim).reciprocal();
  }
  Tensor plain = wavelengths(rope.theta, head_dim).reciprocal();
  if (rope.type == "default" || rope.type == "dynamic") return plain;
  if (rope.type == "linear") return plain / rope.factor;
  if (rope.type == "yarn") return yarn_frequencies(rope, plain, head_dim);
  AERIE_CHECK(rope.type == "llama3", "rope type \"{}\" has no frequencies here ({})", rope.type,
              kSupported);
  return llama3_frequencies(rope, plain);
}

double attention_scaling(const RopeConfig& rope) {
  if (rope.type != "yarn") return 1.0;
  if (rope.attention_factor > 0) return rope.attention_factor;
  if (rope.mscale > 0 && rope.mscale_all_dim > 0) {
    return yarn_scale(rope.factor, rope.mscale) / yarn_scale(rope.factor, rope.mscale_all_dim);
  }
  return yarn_scale(rope.factor, 1);
}

ops::RopeTable make_rope_table(const RopeConfig& rope, int64_t head_dim, int64_t max_position,
                               at::Device device) {
  return ops::make_rope_table(inverse_frequencies(rope, head_dim).to(device), max_position,
                              attention_scaling(rope));
}

}  // namespace aerie
