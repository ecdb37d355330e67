// The Whisper-style encoder of Qwen2-Audio with its pooling and projector: log-mel frames in, rows
// that stand for audio tokens out.
#pragma once
#include <string>
#include <vector>

#include "target_models/multimodal.h"
#include "target_models/params.h"

namespace aerie {

class HfJson;

struct AudioTowerConfig {
  int64_t mels = 0, layers = 0, heads = 0, inner = 0, hidden = 0;
  int64_t positions = 0;  ///< rows after the convolutions of a full window; 2 frames each
  int64_t out = 0;        ///< the language model's hidden size
};

/// `audio_config` of Qwen2-Audio's config.json. Throws Error for what is not supported.
AudioTowerConfig read_audio_tower(const HfJson& audio_config, int64_t out);

class AudioTower final : public MediaTower {
 public:
  /// Takes "audio_tower.*" and "multi_modal_projector.*".
  AudioTower(const AudioTowerConfig& config, ParamStore& store, const Placement& placement);

  /// mel [mels, frames] f32 of one window, only those that the convolutions of the R heard rows
  /// reach: 2 * R + 1, or the whole window of 2 * positions -> [R / 2, out]. Rows of silence are
  /// not computed: in the model nothing attends to them.
  Tensor run(const MediaFeatures& features) const override;

 private:
  struct Norm {
    Tensor weight, bias;  // [d]
  };
  struct Linear {
    ops::LinearWeight weight;
    Tensor bias;  // [O]; undefined: none
    Tensor operator()(const Tensor& x) const;
  };
  struct Layer {
    Norm attention_norm, mlp_norm;
    Linear qkv, out, fc1, fc2;
  };
  Norm load_norm(ParamStore& store, const std::string& name) const;
  Linear load_biased(ParamStore& store, const std::string& name, int64_t rows,
                     int64_t columns) const;
  Linear load_convolution(ParamStore& store, const std::string& name, int64_t channels) const;
  Layer load_layer(ParamStore& store, int64_t index) const;
  Tensor convolved(const Tensor& mel) const;
  Tensor run_layer(const Layer& layer, Tensor x) const;

  AudioTowerConfig config_;
  Placement placement_;
  Linear conv1_, conv2_, projector_;  // [d, 3*mels], [d, 3*d], [out, d]
  Tensor positions_;                  // [positions, d]
  std::vector<Layer> layers_;
  Norm final_norm_;
};

}  // namespace aerie
