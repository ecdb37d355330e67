// The compute threads. ATen itself runs single-threaded in Aerie: every kernel that matters runs on
// this pool, whose workers block after a short spin, because two thread pools that spin on two
// cores starve each other.
#pragma once
#include <cstdint>
#include <functional>

namespace aerie {

/// Threads that parallel_for uses, the caller included; at least 1. The default is the number of
/// cores that this process may run on. Call before the first parallel_for.
void set_num_threads(int count);
int num_threads();

/// Calls body(begin, end) on disjoint ranges that cover [begin, end), each a multiple of `grain`
/// long but the last. Ranges are handed out dynamically. Returns when all are done; the first
/// exception is rethrown. Not reentrant: a nested call runs in its caller's thread.
void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  const std::function<void(int64_t, int64_t)>& body);

}  // namespace aerie
