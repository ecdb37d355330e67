// What a frozen target model can do, whatever its modality.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "data/packer.h"
#include "kernels/ops.h"
#include "kernels/ragged.h"
#include "target_models/config.h"

namespace aerie {

/// Rows of one forward pass; letters as in kernels/ops.h.
struct ForwardInput {
  Tensor tokens;         ///< [N] i64
  Tensor positions;      ///< [N] i64; [X,N] where the axes of a multi-axis RoPE differ
  Tensor embeds;         ///< [M,C] optional: used in place of the lookup of `tokens`
  Tensor embed_rows;     ///< [M] i64 ascending: the rows that `embeds` are of; undefined: all
  Tensor deepstack;      ///< [M,S*C] optional: added to `embed_rows` behind layers 0..S-1, S*C wide
                         ///< side by side (DeepStack, arXiv 2406.04334)
  RaggedLayout layout;   ///< without `pages`: packed documents, causal within each
  KvPool* kv = nullptr;  ///< required with `layout.pages`
  std::vector<int64_t>
      capture_layers;  ///< 0-based ids, output of layer i, ascending; [] captures nothing
  Tensor logit_rows;   ///< [R] i64 rows to project to the vocabulary; undefined: none
};

/// What `encode` makes of documents: what a forward takes beside their tokens.
struct EncodedSample {
  Tensor positions;  ///< as ForwardInput::positions
  /// As in ForwardInput; undefined where there is no media.
  Tensor embeds, embed_rows, deepstack;
};

struct ForwardOutput {
  Tensor hidden;  ///< [N,C] after the final norm
  /// [N,A*C] the residual stream after the captured layers, side by side; undefined if none. That
  /// is what the next layer reads, DeepStack included: vLLM and SGLang feed a draft this (both add
  /// DeepStack's features behind a layer and take auxiliary states before the next one).
  /// transformers records a layer's own output, before the features are added.
  Tensor captured;
  Tensor logits;  ///< [R,V] f32; undefined if no rows were asked for
};

/// The last decoder layer and the final norm, as they lie in the file (read-only views, CPU, the
/// file's type): what a draft's layer may start from. Letters as in kernels/ops.h.
struct LastLayer {
  Tensor input_norm, post_norm;  ///< [C]
  Tensor q, k, v, o;             ///< [H*D,C], [G*D,C], [G*D,C], [C,H*D]
  Tensor gate, up, down;         ///< [I,C], [I,C], [C,I]
  Tensor final_norm;             ///< [C]
  bool qk_norm = false;          ///< the model norms its queries and keys before RoPE
  Tensor q_norm, k_norm;         ///< [D] where it does so before RoPE, as Qwen3
};

class TargetModel {
 public:
  virtual ~TargetModel() = default;
  /// Documents with their media -> positions and, in the rows that media stand at, the features of
  /// the model's towers. Throws Error naming the file for media that the model does not take, that
  /// cannot be read, or that have another size than when they were placed.
  virtual EncodedSample encode(const PackedTokens& documents) const;
  virtual ForwardOutput forward(const ForwardInput& input) const = 0;
  virtual const ModelConfig& config() const = 0;
  virtual const Tensor& embed_weight() const = 0;     ///< [input_vocab,C], shared with the draft
  virtual const ops::LinearWeight& head() const = 0;  ///< [V,C], teacher logits
  /// Rows `ids` [W] i64 of the head, [W,C]: what a draft's head starts from and is distilled
  /// against.
  virtual Tensor head_rows(const Tensor& ids) const = 0;
  /// Nothing where the model's layers are not of the draft's form (attention, gated MLP).
  virtual std::optional<LastLayer> last_layer() const { return std::nullopt; }
  virtual at::ScalarType dtype() const = 0;
  virtual at::Device device() const = 0;
};

/// Loads a Hugging Face directory (config.json, model*.safetensors). Throws Error for an unknown
/// model_type (listing the known ones), a missing, mis-shaped or left-over tensor.
std::unique_ptr<TargetModel> load_target(const std::filesystem::path& directory, at::Device device,
                                         at::ScalarType dtype);

/// The same for training on stored hidden states: embedding, head and views of the last layer; its
/// forward() throws Error. Of the other weights nothing is read or checked. A target with towers is
/// loaded whole all the same.
std::unique_ptr<TargetModel> load_target_head(const std::filesystem::path& directory,
                                              at::Device device, at::ScalarType dtype);

/// EAGLE-3's default captured layers, outputs of [1, n/2-1, n-4] (0-based). Throws for n < 7: give
/// ids then.
std::vector<int64_t> default_capture_layers(int64_t layers);

}  // namespace aerie
