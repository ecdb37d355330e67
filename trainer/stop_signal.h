// SIGTERM and SIGINT ask a run to finish its step, write a checkpoint and leave; a second one
// kills.
#pragma once

namespace aerie {

/// Handles the two signals while it lives.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  bool requested() const;
};

}  // namespace aerie
