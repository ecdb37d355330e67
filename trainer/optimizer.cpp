#include "trainer/optimizer.h"

#include <ATen/ops/_fused_adamw.h>

#include <cmath>

#include "common/error.h"
#include "common/threads.h"

namespace aerie {
namespace {

// Elements of one piece of work. Sums are taken piece by piece and then in order, so that they do
// not depend on how pieces fall to threads.
constexpr int64_t kPiece = 1 << 16;

int64_t pieces(const Tensor& flat) { return (flat.numel() + kPiece - 1) / kPiece; }

Tensor piece(const Tensor& flat, int64_t index) {
  const int64_t begin = index * kPiece;
  return flat.narrow(0, begin, std::min(kPiece, flat.numel() - begin));
}

}  // namespace

Optimizer::Optimizer(DraftParams& params, const OptimSection& options)
    : params_(params), options_(options) {
  int64_t total = 0;
  for (const auto& [name, tensor] : params.tensors) total += tensor.numel();
  AERIE_CHECK(total > 0, "the draft has no parameters");
  master_ = at::empty({total}, params.tensors[0].second.options().dtype(at::kFloat));
  grad_ = at::zeros_like(master_);
  first_ = at::zeros_like(master_);
  second_ = at::zeros_like(master_);
  int64_t begin = 0;
  for (auto& [name, tensor] : params.tensors) {
    Tensor master = master_.narrow(0, begin, tensor.numel()).view(tensor.sizes());
    master.copy_(tensor.detach());
    Tensor leaf = master.detach();
    leaf.requires_grad_(true);
    leaf.mutable_grad() = grad_.narrow(0, begin, tensor.numel()).view(tensor.sizes());
    begin += tensor.numel();
    tensor = leaf;
  }
  if (options.ema > 0) average_ = master_.clone();
}

DraftParams Optimizer::named(const Tensor& flat) const {
  DraftParams result;
  int64_t begin = 0;
  for (const auto& [name, tensor] : params_.tensors) {
    result.tensors.emplace_back(name, flat.narrow(0, begin, tensor.numel()).view(tensor.sizes()));
    begin += tensor.numel();
  }
  return result;
}

double Optimizer::gradient_norm() const {
  std::vector<double> squares(pieces(grad_));
  parallel_for(0, static_cast<int64_t>(squares.size()), 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (int64_t i = begin; i < end; ++i) {
      const Tensor part = piece(grad_, i);
      squares[i] = at::dot(part, part).item<double>();
    }
  });
  double sum = 0;
  for (const double square : squares) sum += square;
  return std::sqrt(sum);
}

Optimizer::Report Optimizer::step(double lr, double grad_scale) {
  Report report;
  report.grad_norm = gradient_norm() * grad_scale;
  report.applied = std::isfinite(report.grad_norm);
  if (!report.applied) {
    grad_.zero_();
    return report;
  }
  const double clip = std::min(1.0, options_.clip / (report.grad_norm + 1e-6));
  ++updates_;
  const Tensor age = at::scalar_tensor(static_cast<double>(updates_), at::kFloat);
  // The fused op divides gradients by this scale.
  const Tensor divide = at::scalar_tensor(1.0 / (grad_scale * clip), at::kFloat);
  const auto age_of_average = static_cast<double>(updates_);
  const double keep = std::min(options_.ema, (1 + age_of_average) / (10 + age_of_average));
  parallel_for(0, pieces(grad_), 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (int64_t i = begin; i < end; ++i) {
      at::_fused_adamw_({piece(master_, i)}, {piece(grad_, i)}, {piece(first_, i)},
                        {piece(second_, i)}, {}, {age}, lr, options_.beta1, options_.beta2,
                        options_.weight_decay, options_.eps, false, false, divide, {});
      piece(grad_, i).zero_();
      if (averages()) piece(average_, i).lerp_(piece(master_, i), 1 - keep);
    }
  });
  return report;
}

void Optimizer::restore(const DraftParams& masters, const DraftParams& first,
                        const DraftParams& second, const DraftParams& average, int64_t updates) {
  const at::NoGradGuard no_grad;
  DraftParams own_first = first_moments(), own_second = second_moments(), own_average;
  if (averages()) own_average = this->average();
  for (auto& [name, tensor] : params_.tensors) {
    tensor.copy_(masters.at(name));
    own_first.at(name).copy_(first.at(name));
    own_second.at(name).copy_(second.at(name));
    if (averages()) own_average.at(name).copy_(average.at(name));
  }
  updates_ = updates;
}

}  // namespace aerie
