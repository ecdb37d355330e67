// The two ends of a decoder, which training on stored hidden states needs without what is between:
// the embedding, the head, and the layer that a draft may start from.
#pragma once
#include "target_models/model.h"
#include "target_models/params.h"

namespace aerie {

struct EmbedAndHead {
  Tensor embed;            ///< [input_vocab,C], a view on the file where its type fits
  Tensor head_view;        ///< [V,C], a view on the file, in its type
  ops::LinearWeight head;  ///< [V,C] packed

  /// TargetModel::head_rows
  Tensor head_rows(const Tensor& ids, const Placement& placement) const;
};
EmbedAndHead load_embed_and_head(ParamStore& store, const ModelConfig& config,
                                 const Placement& placement);

/// Views that stay on the file: they cost no memory until somebody reads them. Nothing where the
/// layers are not of the draft's form.
std::optional<LastLayer> view_last_layer(ParamStore& store, const ModelConfig& config);

/// A target of these alone: forward() throws Error. No other weight is read or asked for.
std::unique_ptr<TargetModel> make_head_only(ModelConfig config, ParamStore store, at::Device device,
                                            at::ScalarType dtype);

}  // namespace aerie
