#include "trainer/metrics.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <numeric>

#include "common/error.h"

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
  const Tensor loss = values.loss.detach().cpu(), alpha = values.alpha.cpu();
  const Tensor hit = values.hit.cpu(), in_vocab = values.in_vocab.cpu();
  valid_pairs_ += plan.valid_pairs;
  std::vector<bool> alive;
  int64_t pair = 0;
  for (size_t k = 0; k < plan.depths.size(); ++k) {
    const UnrollPlan::Depth& depth = plan.depths[k];
    const int64_t* survivors =
        depth.survivors.defined() ? depth.survivors.data_ptr<int64_t>() : nullptr;
    std::vector<bool> right(depth.count);
    for (int64_t i = 0; i < depth.count; ++i, ++pair) {
      const bool is_hit = hit.data_ptr<bool>()[pair];
      right[i] = is_hit && (k == 0 || alive[survivors ? survivors[i] : i]);
      loss_[k] += loss.data_ptr<float>()[pair];
      alpha_[k] += alpha.data_ptr<float>()[pair];
      hit_[k] += is_hit;
      chain_[k] += right[i];
      in_vocab_[k] += in_vocab.data_ptr<bool>()[pair];
    }
    pairs_[k] += static_cast<double>(depth.count);
    valid_[k] += static_cast<double>(depth.valid);
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

MetricsFile::MetricsFile(const std::filesystem::path& path, int64_t position)
    : path_(path), position_(position) {
  std::error_code missing;
  const auto size = std::filesystem::file_size(path, missing);
  if (!missing && static_cast<int64_t>(size) > position) {
    std::filesystem::resize_file(path, position);
  } else if (!missing) {
    position_ = static_cast<int64_t>(size);
  } else {
    position_ = 0;
  }
  file_ = std::fopen(path.c_str(), "a");
  AERIE_CHECK(file_, "{}: cannot be opened for writing: {}", path.string(), std::strerror(errno));
}

MetricsFile::~MetricsFile() { std::fclose(file_); }

void MetricsFile::write(const std::string& json_line) {
  const std::string line = json_line + "\n";
  const bool whole = std::fwrite(line.data(), 1, line.size(), file_) == line.size();
  AERIE_CHECK(whole && std::fflush(file_) == 0,
              "{}: cannot be written ({}); free some space and start again, the run resumes",
              path_.string(), std::strerror(errno));
  position_ += static_cast<int64_t>(line.size());
}

int64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

}  // namespace aerie
