// A target without weights, for runs on a table's clock: it costs microseconds, and what it says
// depends on positions only.
#pragma once
#include "target_models/model.h"

namespace aerie {

class TableModel : public TargetModel {
 public:
  explicit TableModel(int64_t max_position);

  ForwardOutput forward(const ForwardInput& input) const override;
  const ModelConfig& config() const override { return config_; }
  const Tensor& embed_weight() const override { return embed_; }
  const ops::LinearWeight& head() const override { return head_; }
  Tensor head_rows(const Tensor& ids) const override { return embed_.index_select(0, ids); }
  at::ScalarType dtype() const override { return at::kFloat; }
  at::Device device() const override { return at::kCPU; }

 private:
  ModelConfig config_;
  Tensor embed_;
  ops::LinearWeight head_;
};

}  // namespace aerie
