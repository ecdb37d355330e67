// A language model with towers: what every target that sees or hears has in common.
#pragma once
#include "data/media_processor.h"
#include "target_models/model.h"
#include "target_models/params.h"

namespace aerie {

/// One row a token of a piece of media.
struct TowerOutput {
  Tensor embeds;     ///< [tokens,C]
  Tensor deepstack;  ///< [tokens,S*C], as ForwardInput::deepstack; undefined: the tower makes none
};

/// Turns preprocessed media into rows of the language model's embedding.
class MediaTower {
 public:
  virtual ~MediaTower() = default;
  virtual TowerOutput run(const MediaFeatures& features) const = 0;
};

/// Throws Error unless an image came as `patches` patches of `values` values, which is what the
/// tower of config.json reads.
void check_patches(const MediaFeatures& features, int64_t patches, int64_t values);

struct MediaTowers {
  std::unique_ptr<MediaTower> image, audio;  ///< null: the model has none
};

/// The decoder of `config` with towers, and the directory's processors for what they read. What the
/// towers need of `store` has been taken. Positions are multi-axis where the decoder's RoPE is.
/// Throws Error where a tower has no processor.
std::unique_ptr<TargetModel> make_multimodal(ModelConfig config, ParamStore store,
                                             MediaTowers towers, const Placement& placement);

}  // namespace aerie
