// The divergences: name, value and gradient of each, once. kernels/cpu/loss_loops.h computes the
// same sums row by row.
#include "kernels/losses.h"

#include <ATen/ops/logaddexp.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/one_hot.h>

#include <charconv>
#include <cmath>
#include <numbers>
#include <string_view>

#include "common/error.h"
#include "kernels/composed.h"

namespace aerie::ops {
namespace {

using composed::LossRows;
using composed::RowLosses;

RowLosses kl(const LossRows& r, const LossMix&) {
  const Tensor p = r.log_p.exp(), q = r.log_q.exp();
  return {(p * (r.log_p - r.log_q)).sum(-1), q - p};
}

RowLosses reverse_kl(const LossRows& r, const LossMix&) {
  const Tensor q = r.log_q.exp(), ratio = r.log_q - r.log_p;
  const Tensor value = (q * ratio).sum(-1);
  return {value, q * (ratio - value.unsqueeze(-1))};
}

RowLosses js(const LossRows& r, const LossMix&) {
  const Tensor p = r.log_p.exp(), q = r.log_q.exp();
  const Tensor log_m = at::logaddexp(r.log_p, r.log_q) - std::numbers::ln2;
  const Tensor from_p = (p * (r.log_p - log_m)).sum(-1), ratio = r.log_q - log_m;
  const Tensor from_q = (q * ratio).sum(-1);
  return {(from_p + from_q) * 0.5, q * (ratio - from_q.unsqueeze(-1)) * 0.5};
}

/// Rows without a label (-1) get token 0's: their weight is 0.
RowLosses ce(const LossRows& r, const LossMix&) {
  const Tensor label = r.label.clamp_min(0);
  const Tensor hot = at::one_hot(label, r.log_q.size(-1)).to(r.log_q.scalar_type());
  return {-(r.log_q * hot).sum(-1), r.log_q.exp() - hot};
}

RowLosses tv(const LossRows& r, const LossMix&) {
  const Tensor q = r.log_q.exp(), below = q.le(r.p_full).to(q.scalar_type());
  const Tensor rest = (q * below).sum(-1, true);
  return {1 - at::minimum(r.p_full, q).sum(-1), q * (rest - below)};
}

RowLosses lk_alpha(const LossRows& r, const LossMix& mix) {
  const RowLosses distance = tv(r, mix);
  const Tensor alpha = 1 - distance.value;
  return {-alpha.log(), distance.gradient / alpha.unsqueeze(-1)};
}

RowLosses lk_lambda(const LossRows& r, const LossMix& mix) {
  const RowLosses distance = tv(r, mix), divergence = kl(r, mix);
  const Tensor w = ((distance.value - 1) * mix.lk_decay).exp() * mix.lk_scale;
  const Tensor column = w.unsqueeze(-1);
  return {w * divergence.value + (1 - w) * distance.value,
          column * divergence.gradient + (1 - column) * distance.gradient};
}

struct Loss {
  const char* name;
  double LossMix::*weight;
  RowLosses (*rows)(const LossRows&, const LossMix&);
};
constexpr Loss kLosses[] = {
    {"kl", &LossMix::kl, kl},
    {"reverse_kl", &LossMix::reverse_kl, reverse_kl},
    {"js", &LossMix::js, js},
    {"ce", &LossMix::ce, ce},
    {"tv", &LossMix::tv, tv},
    {"lk_alpha", &LossMix::lk_alpha, lk_alpha},
    {"lk_lambda", &LossMix::lk_lambda, lk_lambda},
};

[[noreturn]] void refuse(const std::string& text, const std::string& key) {
  std::vector<std::string> names;
  for (const Loss& loss : kLosses) names.emplace_back(loss.name);
  fail("{} is \"{}\"; allowed: one of {}, or a mixture such as \"0.9 kl + 0.1 tv\"", key, text,
       fmt::join(names, ", "));
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

/// "0.9 kl" or "kl": adds its weight; false if it is neither.
bool add_term(std::string_view term, LossMix& mix) {
  term = trimmed(term);
  double weight = 1;
  const auto [rest, status] = std::from_chars(term.data(), term.data() + term.size(), weight);
  if (status == std::errc{}) term = trimmed(term.substr(static_cast<size_t>(rest - term.data())));
  for (const Loss& loss : kLosses) {
    if (term != loss.name || !std::isfinite(weight) || weight <= 0) continue;
    mix.*loss.weight += weight;
    return true;
  }
  return false;
}

}  // namespace

bool LossMix::only_kl() const {
  for (const Loss& loss : kLosses) {
    if (this->*loss.weight != (loss.weight == &LossMix::kl ? 1.0 : 0.0)) return false;
  }
  return true;
}

LossMix parse_loss(const std::string& text, const std::string& key) {
  LossMix mix;
  mix.kl = 0;
  for (size_t at = 0; at <= text.size();) {
    const size_t plus = std::min(text.find('+', at), text.size());
    if (!add_term(std::string_view(text).substr(at, plus - at), mix)) refuse(text, key);
    at = plus + 1;
  }
  return mix;
}

RowLosses composed::row_losses(const LossMix& mix, const LossRows& rows) {
  RowLosses sum;
  for (const Loss& loss : kLosses) {
    const double weight = mix.*loss.weight;
    if (weight == 0) continue;
    const RowLosses one = loss.rows(rows, mix);
    if (!sum.value.defined()) {
      sum = {one.value * weight, one.gradient * weight};
    } else {
      sum.value.add_(one.value, weight);
      sum.gradient.add_(one.gradient, weight);
    }
  }
  TORCH_CHECK(sum.value.defined(), "a mixture of losses without a term");
  return sum;
}

}  // namespace aerie::ops
