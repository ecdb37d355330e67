// How good the draft is on documents that it was not trained on.
#pragma once
#include <optional>

#include "trainer/commands.h"
#include "trainer/metrics.h"
#include "trainer/ttt_loss.h"

namespace aerie {

struct Evaluation {
  UnrollMetrics metrics;
  std::optional<Acceptance> acceptance;  ///< of decoding, where there are prompts for it
  double seconds = 0;

  /// What "best" means: the measured acceptance length, else the simulated one.
  double value() const;
  const char* metric() const { return acceptance ? "acceptance" : "tau_sim"; }
};

/// Loss and accuracies over all of `heldout`, from its start. Changes nothing.
UnrollMetrics evaluate_loss(const Eagle3Draft& draft, HiddenStateSource& heldout,
                            const TeacherHead& teacher, const Objective& objective);

}  // namespace aerie
