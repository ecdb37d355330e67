#include "trainer/metrics.h"

#include <sys/resource.h>

#include <numeric>

namespace aerie {
namespace {

double total(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

UnrollMetrics::UnrollMetrics(int64_t unroll)
    : pairs_(unroll),
      valid_(unroll),
      loss_(unroll),
      hit_(unroll),
      alpha_(unroll),
      chain_(unroll),
      in_vocab_(unroll) {}

void UnrollMetrics::add(const UnrollPlan& plan, const ops::HeadLoss& values) {
  add(plan, values, std::vector<bool>(static_cast<size_t>(plan.base_rows.numel()), true));
}

void UnrollMetrics::add(const UnrollPlan& plan, const ops::HeadLoss& values,
                        const std::vector<bool>& counted) {
  const Tensor loss = values.loss.detach().cpu(), alpha = values.alpha.cpu();
  const Tensor hit = values.hit.cpu(), in_vocab = values.in_vocab.cpu();
  std::vector<bool> alive;
  int64_t pair = 0;
  for (size_t k = 0; k < plan.depths.size(); ++k) {
    const UnrollPlan::Depth& depth = plan.depths[k];
    const int64_t* survivors =
        depth.survivors.defined() ? depth.survivors.data_ptr<int64_t>() : nullptr;
    const int64_t* rows = depth.rows.data_ptr<int64_t>();
    std::vector<bool> right(depth.count);
    // Where depths are sampled, in training, every row counts: the rows left out are never
    // domains'.
    int64_t added = 0;
    for (int64_t i = 0; i < depth.count; ++i, ++pair) {
      const bool is_hit = hit.data_ptr<bool>()[pair];
      right[i] = is_hit && (k == 0 || alive[survivors ? survivors[i] : i]);
      if (!counted[static_cast<size_t>(rows[i])]) continue;
      ++added;
      loss_[k] += loss.data_ptr<float>()[pair];
      alpha_[k] += alpha.data_ptr<float>()[pair];
      hit_[k] += is_hit;
      chain_[k] += right[i];
      in_vocab_[k] += in_vocab.data_ptr<bool>()[pair];
    }
    const int64_t valid = added == depth.count ? depth.valid : added;
    pairs_[k] += static_cast<double>(added);
    valid_[k] += static_cast<double>(valid);
    valid_pairs_ += valid;
    alive = std::move(right);
  }
}

void UnrollMetrics::add(const UnrollMetrics& other) {
  const auto plus = [](std::vector<double>& sum, const std::vector<double>& more) {
    for (size_t k = 0; k < sum.size(); ++k) sum[k] += more[k];
  };
  plus(pairs_, other.pairs_);
  plus(valid_, other.valid_);
  plus(loss_, other.loss_);
  plus(hit_, other.hit_);
  plus(alpha_, other.alpha_);
  plus(chain_, other.chain_);
  plus(in_vocab_, other.in_vocab_);
  add_tokens(other.tokens_, other.supervised_);
  valid_pairs_ += other.valid_pairs_;
}

std::vector<double> UnrollMetrics::sums() const {
  std::vector<double> all{static_cast<double>(tokens_), static_cast<double>(supervised_),
                          static_cast<double>(valid_pairs_)};
  for (const auto* sum : {&pairs_, &valid_, &loss_, &hit_, &alpha_, &chain_, &in_vocab_}) {
    all.insert(all.end(), sum->begin(), sum->end());
  }
  return all;
}

void UnrollMetrics::set_sums(const std::vector<double>& sums) {
  tokens_ = static_cast<int64_t>(sums[0]);
  supervised_ = static_cast<int64_t>(sums[1]);
  valid_pairs_ = static_cast<int64_t>(sums[2]);
  auto from = sums.begin() + 3;
  for (auto* sum : {&pairs_, &valid_, &loss_, &hit_, &alpha_, &chain_, &in_vocab_}) {
    std::copy_n(from, sum->size(), sum->begin());
    from += static_cast<std::ptrdiff_t>(sum->size());
  }
}

void UnrollMetrics::add_tokens(int64_t rows, int64_t supervised) {
  tokens_ += rows;
  supervised_ += supervised;
}

int64_t UnrollMetrics::pairs() const { return static_cast<int64_t>(total(pairs_)); }

double UnrollMetrics::loss() const {
  const std::vector<double> mean = loss_by_depth();
  double sum = 0;
  for (size_t k = 0; k < mean.size(); ++k) sum += mean[k] * valid_[k];
  return pairs() ? sum / total(valid_) : 0;
}

double UnrollMetrics::simulated_acceptance() const { return 1.0 + total(chain_by_depth()); }

double UnrollMetrics::out_of_vocab() const {
  return pairs() ? 1.0 - total(in_vocab_) / total(pairs_) : 0;
}

std::vector<double> UnrollMetrics::ratio(const std::vector<double>& sum,
                                         const std::vector<double>& count) {
  std::vector<double> result(sum.size(), 0.0);
  for (size_t k = 0; k < sum.size(); ++k) {
    if (count[k] > 0) result[k] = sum[k] / count[k];
  }
  return result;
}

int64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

}  // namespace aerie
