// The processes of one run add up tensors and tell each other things. c10d does the work: Gloo for
// tensors of the CPU, NCCL for those of CUDA devices. Its headers (20 s a file) stay in
// collectives.cpp.
#pragma once
#include <c10/core/Device.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "kernels/rank_place.h"

namespace at {
class Tensor;
}

namespace aerie {

/// All operations are collective: every rank calls them in the same order, with tensors of the same
/// shape. They throw Error naming the ranks that are to blame when one dies, hangs for longer than
/// the timeout, or has said why it ends; the object is of no use afterwards. One thread at a time.
/// Alone, sums change nothing and what is told comes back.
class Ranks {
 public:
  /// This process alone.
  Ranks();
  /// Waits until all have come. `device` cuda: its tensors go over NCCL. `timeout`: for all to
  /// come, and of every exchange of tensors. Throws Error naming the ranks that are missing.
  Ranks(const RankPlace& place, at::Device device, std::chrono::seconds timeout);
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool first() const { return rank_ == 0; }
  bool alone() const { return size_ == 1; }

  /// Begins to add up `tensor` (contiguous) over the ranks, in place; it is not to be touched
  /// before finish_sums(). All ranks get the same bits.
  void start_sum(const at::Tensor& tensor);
  void finish_sums();
  void sum(const at::Tensor& tensor);
  /// Every rank gets the values of rank `from`.
  void broadcast(const at::Tensor& tensor, int from);
  /// From one rank to another; these two alone call it.
  void send(const at::Tensor& tensor, int to);
  void receive(const at::Tensor& tensor, int from);

  /// Rank 0's text, on every rank. Waits as long as rank 0 lives, whatever the timeout.
  std::string share(const std::string& text);
  /// Every rank's text, by rank. Waits as long as they live.
  std::vector<std::string> gather(const std::string& text);

  /// The run is over: waits shortly for the others, so that none finds the store gone.
  void leave();
  /// This rank cannot go on: the others are told why, and their exchanges end.
  void give_up(const std::string& reason) noexcept;

 private:
  struct Group;
  int rank_ = 0, size_ = 1;
  std::unique_ptr<Group> group_;
};

}  // namespace aerie
