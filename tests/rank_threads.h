// Ranks of one run as threads of this process: quick, and enough where no rank has to die.
#pragma once
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/error.h"
#include "kernels/collectives.h"
#include "tests/free_port.h"
#include "tests/testing.h"

namespace aerie::testing {

inline RankPlace loopback_place(int rank, int ranks, int port) {
  return {rank, ranks, rank, ranks, "127.0.0.1", port, false};
}

/// Calls `body` once a rank, all at the same time. -> the messages of their Errors (kNoError)
inline std::vector<std::string> run_ranks(int count, const std::function<void(Ranks&)>& body,
                                          std::chrono::seconds timeout = std::chrono::seconds(30)) {
  const int port = free_port();
  std::vector<std::string> errors(static_cast<size_t>(count));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < count; ++rank) {
    threads.emplace_back([&, rank] {
      errors[static_cast<size_t>(rank)] = error_of([&] {
        Ranks ranks(loopback_place(rank, count, port), at::kCPU, timeout);
        body(ranks);
        ranks.leave();
      });
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

}  // namespace aerie::testing
