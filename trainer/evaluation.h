// How good the draft is on documents that it was not trained on.
#pragma once
#include <optional>
#include <string>

#include "trainer/commands.h"
#include "trainer/metrics.h"
#include "trainer/ttt_loss.h"

namespace aerie {

/// The held-out documents of one domain.
struct DomainEvaluation {
  std::string name;
  UnrollMetrics metrics;
  std::optional<Acceptance> acceptance = {};
};

struct Evaluation {
  UnrollMetrics metrics;
  std::vector<DomainEvaluation> domains;      ///< by name; empty where the data name none
  std::optional<Acceptance> acceptance = {};  ///< of decoding, where there are prompts for it
  double seconds = 0, decoding_seconds = 0;   ///< in all; of them for `acceptance`

  /// What "best" means: the acceptance length measured in chains, never that of trees, so that
  /// evaluations with and without trees compare; else the simulated one.
  double value() const;
  const char* metric() const { return acceptance ? "acceptance" : "tau_sim"; }
};

/// Loss and accuracies over all of `heldout`, from its start. Changes nothing.
Evaluation evaluate_loss(const Eagle3Draft& draft, HiddenStateSource& heldout,
                         const TeacherHead& teacher, const Objective& objective);

/// What the prompts of one domain contributed to `all`; `domains` names each prompt's. Nothing
/// where none of them decoded.
std::optional<Acceptance> acceptance_of_domain(const Acceptance& all,
                                               const std::vector<std::string>& domains,
                                               const std::string& domain);

}  // namespace aerie
