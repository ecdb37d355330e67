// What a step says about the draft.
#pragma once
#include <vector>

#include "kernels/ops.h"
#include "trainer/unroll_plan.h"

namespace aerie {

/// Sums over batches, by depth; the averages follow from them. `chain` counts the rows whose
/// predictions of depth 0..k are all the target's argmax over the full vocabulary; a label outside
/// the draft vocabulary is a miss.
class UnrollMetrics {
 public:
  explicit UnrollMetrics(int64_t unroll);
  void add(const UnrollPlan& plan, const ops::HeadLoss& values);
  /// Only the pairs of base rows (plan.base_rows) that `counted` [B] marks.
  void add(const UnrollPlan& plan, const ops::HeadLoss& values, const std::vector<bool>& counted);
  void add(const UnrollMetrics& other);
  void add_tokens(int64_t rows, int64_t supervised);
  /// All sums as one list, and back: adding up the lists of ranks adds up their metrics.
  std::vector<double> sums() const;
  void set_sums(const std::vector<double>& sums);

  int64_t pairs() const;
  /// What a loss is normalised by: more than pairs() where depths are sampled.
  int64_t valid_pairs() const { return valid_pairs_; }
  int64_t tokens() const { return tokens_; }
  int64_t supervised() const { return supervised_; }
  double loss() const;  ///< mean over the valid pairs, without step weights
  std::vector<double> loss_by_depth() const { return ratio(loss_, pairs_); }
  std::vector<double> accuracy_by_depth() const { return ratio(hit_, pairs_); }
  /// sum_v min(p, q): the acceptance expected under sampling
  std::vector<double> alpha_by_depth() const { return ratio(alpha_, pairs_); }
  std::vector<double> chain_by_depth() const { return ratio(chain_, pairs_); }
  /// 1 + sum_k P(depths 0..k all right): the greedy acceptance length that the data predicts.
  double simulated_acceptance() const;
  double out_of_vocab() const;  ///< share of the labels that the draft cannot propose

 private:
  static std::vector<double> ratio(const std::vector<double>& sum,
                                   const std::vector<double>& count);
  std::vector<double> pairs_, valid_, loss_, hit_, alpha_, chain_, in_vocab_;
  int64_t tokens_ = 0, supervised_ = 0, valid_pairs_ = 0;
};

/// Peak resident memory of this process in bytes.
int64_t peak_resident_bytes();

}  // namespace aerie
