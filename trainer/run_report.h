// report.html of a run, and of several side by side.
#pragma once
#include <span>
#include <string>

#include "trainer/run_history.h"

namespace aerie {

/// The first run in full; where there are more, all of them compared: figures, curves over trained
/// tokens, and the settings in which they differ. One page that needs nothing else.
std::string run_report(std::span<const RunHistory> runs);

}  // namespace aerie
