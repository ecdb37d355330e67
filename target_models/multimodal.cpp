#include "target_models/multimodal.h"

#include "common/error.h"
#include "common/threads.h"
#include "target_models/dense.h"
#include "target_models/media_positions.h"

namespace aerie {
namespace {

class MultimodalModel final : public TargetModel {
 public:
  MultimodalModel(std::unique_ptr<TargetModel> text, MediaProcessors processors, MediaTowers towers)
      : text_(std::move(text)), processors_(std::move(processors)), towers_(std::move(towers)) {}

  EncodedSample encode(const PackedTokens& documents) const override;
  ForwardOutput forward(const ForwardInput& input) const override { return text_->forward(input); }
  const ModelConfig& config() const override { return text_->config(); }
  const Tensor& embed_weight() const override { return text_->embed_weight(); }
  const ops::LinearWeight& head() const override { return text_->head(); }
  Tensor head_rows(const Tensor& ids) const override { return text_->head_rows(ids); }
  std::optional<LastLayer> last_layer() const override { return text_->last_layer(); }
  at::ScalarType dtype() const override { return text_->dtype(); }
  at::Device device() const override { return text_->device(); }

 private:
  std::vector<MediaFeatures> load(const std::vector<MediaSpan>& media) const;

  std::unique_ptr<TargetModel> text_;
  MediaProcessors processors_;
  MediaTowers towers_;
};

/// Decoding and scaling run on all threads; the tower that follows does so by itself.
std::vector<MediaFeatures> MultimodalModel::load(const std::vector<MediaSpan>& media) const {
  std::vector<MediaFeatures> features(media.size());
  parallel_for(0, static_cast<int64_t>(media.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const MediaSpan& span = media[static_cast<size_t>(i)];
      MediaFeatures& loaded = features[static_cast<size_t>(i)];
      loaded = processors_.of(span.kind).load(span.source);
      AERIE_CHECK(
          loaded.grid == span.grid,
          "{}: the {} has another size than when the data were prepared: prepare them again",
          describe_media(span.source), name_of(span.kind));
    }
  });
  return features;
}

EncodedSample MultimodalModel::encode(const PackedTokens& documents) const {
  const at::NoGradGuard no_grad;
  EncodedSample encoded;
  encoded.positions = multi_axis_positions(documents, config().rope);
  if (documents.media.empty()) return encoded;
  const std::vector<MediaFeatures> features = load(documents.media);
  std::vector<Tensor> embeds, deepstack, rows;
  for (size_t i = 0; i < features.size(); ++i) {
    const MediaSpan& span = documents.media[i];
    const auto& tower = span.kind == MediaKind::kImage ? towers_.image : towers_.audio;
    const TowerOutput made = tower->run(features[i]);
    embeds.push_back(made.embeds.narrow(0, 0, span.count));
    if (made.deepstack.defined()) deepstack.push_back(made.deepstack.narrow(0, 0, span.count));
    rows.push_back(at::arange(span.begin, span.begin + span.count, at::kLong));
  }
  encoded.embeds = at::cat(embeds);
  if (!deepstack.empty()) encoded.deepstack = at::cat(deepstack);
  encoded.embed_rows = at::cat(rows);
  return encoded;
}

}  // namespace

EncodedSample TargetModel::encode(const PackedTokens& documents) const {
  if (!documents.media.empty()) {
    const MediaSpan& span = documents.media.front();
    fail("{}: the target is a {}, which takes no {}: leave such rows out, or choose another target",
         describe_media(span.source), config().model_type, name_of(span.kind));
  }
  EncodedSample encoded;
  encoded.positions = documents.positions;
  return encoded;
}

void check_patches(const MediaFeatures& features, int64_t patches, int64_t values) {
  AERIE_CHECK(features.values.size(0) == patches && features.values.size(1) == values,
              "preprocessor_config.json makes {} patches of {} values from an image where "
              "config.json's vision_config implies {} of {}: the files are of different models",
              features.values.size(0), features.values.size(1), patches, values);
}

std::unique_ptr<TargetModel> make_multimodal(ModelConfig config, ParamStore store,
                                             MediaTowers towers, const Placement& placement) {
  MediaProcessors processors = read_media_processors(store.directory());
  AERIE_CHECK((!towers.image || processors.image) && (!towers.audio || processors.audio),
              "{}: the model takes {}, and its preprocessor's settings are missing: put "
              "preprocessor_config.json beside config.json",
              processors.target, towers.image && !processors.image ? "images" : "audio");
  return std::make_unique<MultimodalModel>(
      make_dense(std::move(config), std::move(store), placement.device, placement.dtype),
      std::move(processors), std::move(towers));
}

}  // namespace aerie
