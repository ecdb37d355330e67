#include "trainer/optimizer.h"

#include <ATen/ops/_fused_adamw.h>

#include <cmath>

#include "common/error.h"
#include "common/threads.h"

namespace aerie {
namespace {

// Elements of one piece of work, at most. Sums are taken piece by piece and then in order, so that
// they depend neither on how pieces fall to threads nor to ranks.
constexpr int64_t kPiece = 1 << 16;
// So many pieces at least, where there are so many elements: they are what ranks share.
constexpr int64_t kPieces = 64;

int64_t divide_up(int64_t count, int64_t by) { return (count + by - 1) / by; }

}  // namespace

Optimizer::Optimizer(DraftParams& params, const OptimSection& options)
    : Optimizer(params, options, nullptr, false) {}

Optimizer::Optimizer(DraftParams& params, const OptimSection& options, Ranks& ranks, bool sharded)
    : Optimizer(params, options, &ranks, sharded && !ranks.alone()) {}

Optimizer::Optimizer(DraftParams& params, const OptimSection& options, Ranks* ranks, bool sharded)
    : params_(params), options_(options), ranks_(ranks), sharded_(sharded) {
  int64_t total = 0;
  for (const auto& [name, tensor] : params.tensors) total += tensor.numel();
  AERIE_CHECK(total > 0, "the draft has no parameters");
  piece_ = std::min(kPiece, divide_up(total, kPieces));
  pieces_ = divide_up(total, piece_);
  master_ = at::empty({total}, params.tensors[0].second.options().dtype(at::kFloat));
  grad_ = at::zeros_like(master_);
  own_ = stretch(ranks ? ranks->rank() : 0);
  first_ = at::zeros({own_.size()}, master_.options());
  second_ = at::zeros_like(first_);
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

Optimizer::Stretch Optimizer::stretch(int rank) const {
  const int64_t total = master_.numel();
  if (!sharded_) return {0, total};
  const int64_t each = divide_up(pieces_, ranks_->size()) * piece_;
  return {std::min(total, rank * each), std::min(total, (rank + 1) * each)};
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

/// The part of `flat`, which has the elements of the buffer or of this rank's stretch, that is in a
/// piece.
Tensor Optimizer::piece(const Tensor& flat, int64_t index) const {
  const int64_t begin = index * piece_, size = std::min(piece_, master_.numel() - begin);
  return flat.narrow(0, flat.numel() == master_.numel() ? begin : begin - own_.begin, size);
}

double Optimizer::gradient_norm() {
  const Tensor squares = at::zeros({pieces_}, at::kDouble);
  double* square = squares.mutable_data_ptr<double>();
  parallel_for(own_.begin / piece_, divide_up(own_.end, piece_), 1,
               [&](int64_t begin, int64_t end) {
                 const at::NoGradGuard no_grad;
                 for (int64_t i = begin; i < end; ++i) {
                   const Tensor part = piece(grad_, i);
                   square[i] = at::dot(part, part).item<double>();
                 }
               });
  if (sharded_) ranks_->sum(squares);  // each is one rank's, and zero with the others
  double sum = 0;
  for (int64_t i = 0; i < pieces_; ++i) sum += square[i];
  return std::sqrt(sum);
}

Optimizer::Report Optimizer::step(double lr, double grad_scale) {
  Report report;
  report.grad_norm = gradient_norm() * grad_scale;
  report.applied = std::isfinite(report.grad_norm);
  report.bad_in_a_row = bad_in_a_row_ = report.applied ? 0 : bad_in_a_row_ + 1;
  if (!report.applied) {
    grad_.zero_();
    return report;
  }
  const double clip = std::min(1.0, options_.clip / (report.grad_norm + 1e-6));
  ++updates_;
  update(lr, 1.0 / (grad_scale * clip));
  if (sharded_) exchange_masters();
  if (averages()) move_average();
  return report;
}

/// The fused op divides gradients by `divide`.
void Optimizer::update(double lr, double divide) {
  const Tensor age = at::scalar_tensor(static_cast<double>(updates_), at::kFloat);
  const Tensor scale = at::scalar_tensor(divide, at::kFloat);
  parallel_for(0, pieces_, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (int64_t i = begin; i < end; ++i) {
      if (i * piece_ >= own_.begin && i * piece_ < own_.end) {
        at::_fused_adamw_({piece(master_, i)}, {piece(grad_, i)}, {piece(first_, i)},
                          {piece(second_, i)}, {}, {age}, lr, options_.beta1, options_.beta2,
                          options_.weight_decay, options_.eps, false, false, scale, {});
      }
      piece(grad_, i).zero_();
    }
  });
}

void Optimizer::move_average() {
  const auto age = static_cast<double>(updates_);
  const double keep = std::min(options_.ema, (1 + age) / (10 + age));
  parallel_for(0, pieces_, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (int64_t i = begin; i < end; ++i) piece(average_, i).lerp_(piece(master_, i), 1 - keep);
  });
}

void Optimizer::exchange_masters() {
  for (int rank = 0; rank < ranks_->size(); ++rank) {
    const Stretch part = stretch(rank);
    if (part.size() > 0) ranks_->broadcast(master_.narrow(0, part.begin, part.size()), rank);
  }
}

void Optimizer::share_masters() {
  if (ranks_) ranks_->broadcast(master_, 0);
  if (averages()) average_.copy_(master_);
}

Moments Optimizer::moments() const { return {collect(first_), collect(second_)}; }

DraftParams Optimizer::collect(const Tensor& own) const {
  if (!sharded_) return named(own);
  if (!first_rank()) {
    if (own.numel() > 0) ranks_->send(own, 0);
    return {};
  }
  const Tensor whole = at::empty_like(master_);
  whole.narrow(0, own_.begin, own_.size()).copy_(own);
  for (int rank = 1; rank < ranks_->size(); ++rank) {
    const Stretch part = stretch(rank);
    if (part.size() > 0) ranks_->receive(whole.narrow(0, part.begin, part.size()), rank);
  }
  return named(whole);
}

void Optimizer::distribute(const DraftParams& whole, Tensor& own) {
  if (!sharded_) {
    if (first_rank()) {
      for (auto& [name, tensor] : named(own).tensors) tensor.copy_(whole.at(name));
    }
    if (ranks_) ranks_->broadcast(own, 0);
    return;
  }
  if (!first_rank()) {
    if (own.numel() > 0) ranks_->receive(own, 0);
    return;
  }
  const Tensor flat = at::empty_like(master_);
  for (auto& [name, tensor] : named(flat).tensors) tensor.copy_(whole.at(name));
  own.copy_(flat.narrow(0, own_.begin, own_.size()));
  for (int rank = 1; rank < ranks_->size(); ++rank) {
    const Stretch part = stretch(rank);
    if (part.size() > 0) ranks_->send(flat.narrow(0, part.begin, part.size()), rank);
  }
}

void Optimizer::restore(const DraftParams& masters, const Moments& moments, int64_t updates,
                        const DraftParams& average) {
  const at::NoGradGuard no_grad;
  if (first_rank()) {
    for (auto& [name, tensor] : params_.tensors) tensor.copy_(masters.at(name));
  }
  share_masters();
  if (averages() && first_rank()) {
    for (auto& [name, tensor] : this->average().tensors) tensor.copy_(average.at(name));
  }
  if (averages() && ranks_) ranks_->broadcast(average_, 0);
  distribute(moments.first, first_);
  distribute(moments.second, second_);
  updates_ = updates;
}

}  // namespace aerie
