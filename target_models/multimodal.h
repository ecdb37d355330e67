// A language model with towers: what every target that sees or hears has in common.
#pragma once
#include "data/media_processor.h"
#include "target_models/model.h"

namespace aerie {

/// Turns preprocessed media into rows of the language model's embedding.
class MediaTower {
 public:
  virtual ~MediaTower() = default;
  /// The features of one piece -> [tokens,C]
  virtual Tensor run(const MediaFeatures& features) const = 0;
};

struct MediaTowers {
  std::unique_ptr<MediaTower> image, audio;  ///< null: the model has none
};

/// `text` with towers for what `processors` loads. Positions are multi-axis where text's RoPE is.
/// Throws Error where a tower has no processor.
std::unique_ptr<TargetModel> make_multimodal(std::unique_ptr<TargetModel> text,
                                             MediaProcessors processors, MediaTowers towers);

}  // namespace aerie
