// What a draft can be trained to minimise at one position: the divergences and their mixtures. The
// table stands in losses.cpp, beside the definition of each.
#pragma once
#include <string>

namespace aerie::ops {

/// A sum of divergences, each times its weight. p is the teacher over the draft vocabulary
/// (renormalised), p' the same tokens under the full vocabulary, q the student,
/// alpha = sum min(p', q): what decoding accepts under sampling.
struct LossMix {
  double kl = 1;          ///< KL(p || q)
  double reverse_kl = 0;  ///< KL(q || p)
  double js = 0;          ///< Jensen-Shannon: half of KL(p || m) + KL(q || m), m = (p + q) / 2
  double ce = 0;          ///< -log q of the teacher's most likely token
  double tv = 0;          ///< 1 - alpha
  double lk_alpha = 0;    ///< -log alpha
  double lk_lambda = 0;   ///< w kl + (1 - w) tv with w = lk_scale e^(-lk_decay alpha), w held fixed
  double lk_scale = 1, lk_decay = 3;

  /// The default, which the fastest kernels know.
  bool only_kl() const;
};

/// "kl", or a mixture: "0.9 kl + 0.1 tv". Throws Error that names `key` and lists the losses.
LossMix parse_loss(const std::string& text, const std::string& key);

}  // namespace aerie::ops
