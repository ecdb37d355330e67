// Where this process stands among those of its run, as its launcher says.
#pragma once
#include <string>

namespace aerie {

struct RankPlace {
  int rank = 0, ranks = 1;
  int local_rank = 0, local_ranks = 1;  ///< among the processes of this machine
  std::string master;                   ///< address of rank 0's machine
  int port = 0;                         ///< of the store, on that machine
  bool launcher_serves = false;         ///< the launcher serves the store; else rank 0 does
};

/// From the variables that torchrun sets: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, and where
/// there are several processes on a machine LOCAL_RANK and LOCAL_WORLD_SIZE. Without them: one
/// process. Throws Error naming the variable that is missing or wrong.
RankPlace rank_place();

}  // namespace aerie
