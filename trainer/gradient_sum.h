// Adds up the ranks' gradients while the backward pass still goes on.
#pragma once
#include <memory>
#include <vector>

#include "draft_models/draft.h"
#include "kernels/collectives.h"

namespace torch::autograd {
struct Node;
}

namespace aerie {

/// The flat gradient is cut into buckets from its end, where the head's is, which a backward pass
/// finishes first. A bucket goes off once all its gradients are complete, in this order on every
/// rank. Alone it does nothing.
class GradientSum {
 public:
  static constexpr int64_t kBucketBytes = int64_t{8} << 20;

  /// `gradient` [P] f32: the gradients of `params` side by side, in their order. `ranks` outlives
  /// this.
  GradientSum(const DraftParams& params, Tensor gradient, Ranks& ranks,
              int64_t bucket_bytes = kBucketBytes);
  ~GradientSum();
  GradientSum(const GradientSum&) = delete;
  GradientSum& operator=(const GradientSum&) = delete;

  /// The next backward pass is the last one of this step, and adds to each gradient once: buckets
  /// may go off in it. Without this all go off in finish().
  void arm() { armed_ = true; }
  /// Sends off what has not gone (a rank whose batch had nothing to train went through no backward
  /// pass) and waits for all.
  void finish();

  int64_t buckets() const { return static_cast<int64_t>(buckets_.size()); }
  /// Buckets that went off during backward passes so far.
  int64_t overlapped() const { return overlapped_; }

 private:
  struct Bucket {
    int64_t begin = 0, end = 0;  // of the flat gradient
    int64_t params = 0, missing = 0;
  };
  struct Watched {
    std::shared_ptr<torch::autograd::Node> node;  // where autograd adds up the gradient
    uintptr_t hook = 0;
  };
  void plan(const DraftParams& params, int64_t bucket_bytes);
  void watch(const DraftParams& params);
  void complete(size_t param);
  void send_next();

  Tensor gradient_;
  Ranks& ranks_;
  std::vector<Bucket> buckets_;
  std::vector<size_t> bucket_of_;  // by parameter
  std::vector<Watched> watched_;
  size_t next_ = 0;
  bool armed_ = false;
  int64_t overlapped_ = 0;
};

}  // namespace aerie
