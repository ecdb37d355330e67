#include "common/memory.h"

#include <malloc.h>

namespace aerie {

void keep_freed_memory() {
  // 32 MiB is the most that glibc accepts; larger blocks (whole weights, caches) live long anyway.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
  mallopt(M_TOP_PAD, 16 << 20);
}

}  // namespace aerie
