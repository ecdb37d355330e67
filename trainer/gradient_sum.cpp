#include "trainer/gradient_sum.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>

namespace aerie {
namespace {

/// Called after a parameter's last gradient of a backward pass has been added. (The hooks on the
/// tensor itself would not do: they are passed over where an op adds to grad() on its own, as our
/// linear layers do.)
struct Completed : torch::autograd::FunctionPostHook {
  explicit Completed(std::function<void()> call) : call_(std::move(call)) {}
  torch::autograd::variable_list operator()(const torch::autograd::variable_list& outputs,
                                            const torch::autograd::variable_list&) override {
    call_();
    return outputs;
  }
  std::function<void()> call_;
};

}  // namespace

GradientSum::GradientSum(const DraftParams& params, Tensor gradient, Ranks& ranks,
                         int64_t bucket_bytes)
    : gradient_(std::move(gradient)), ranks_(ranks) {
  if (ranks_.alone()) return;
  plan(params, bucket_bytes);
  watch(params);
}

GradientSum::~GradientSum() {
  for (const Watched& watched : watched_) watched.node->del_post_hook(watched.hook);
}

void GradientSum::plan(const DraftParams& params, int64_t bucket_bytes) {
  bucket_of_.resize(params.tensors.size());
  int64_t end = gradient_.numel();
  for (size_t i = params.tensors.size(); i-- > 0;) {
    const auto full = [&](const Bucket& b) { return 4 * (b.end - b.begin) >= bucket_bytes; };
    if (buckets_.empty() || full(buckets_.back())) buckets_.push_back({end, end, 0, 0});
    Bucket& bucket = buckets_.back();
    bucket.begin -= params.tensors[i].second.numel();
    bucket.missing = ++bucket.params;
    bucket_of_[i] = buckets_.size() - 1;
    end = bucket.begin;
  }
}

void GradientSum::watch(const DraftParams& params) {
  for (size_t i = 0; i < params.tensors.size(); ++i) {
    auto node = torch::autograd::impl::grad_accumulator(params.tensors[i].second);
    const uintptr_t hook =
        node->add_post_hook(std::make_unique<Completed>([this, i] { complete(i); }));
    watched_.push_back({std::move(node), hook});
  }
}

void GradientSum::complete(size_t param) {
  if (!armed_) return;
  --buckets_[bucket_of_[param]].missing;
  while (next_ < buckets_.size() && buckets_[next_].missing == 0) {
    send_next();
    ++overlapped_;
  }
}

void GradientSum::send_next() {
  const Bucket& bucket = buckets_[next_++];
  ranks_.start_sum(gradient_.narrow(0, bucket.begin, bucket.end - bucket.begin));
}

void GradientSum::finish() {
  while (next_ < buckets_.size()) send_next();
  ranks_.finish_sums();
  for (Bucket& bucket : buckets_) bucket.missing = bucket.params;
  next_ = 0;
  armed_ = false;
}

}  // namespace aerie
