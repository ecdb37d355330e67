// How malloc treats the program's memory.
#pragma once

namespace aerie {

/// Keeps freed memory for the next allocation instead of giving it back to the system, and takes it
/// in huge pages where the system has them. Activations of a few MiB come and go in every layer;
/// with malloc's defaults each one is mapped afresh, and its page faults cost more than the
/// arithmetic on it. Weights that are read from start to end in every step pass by faster where
/// their pages are large. Call once, at the start of main.
void set_up_memory();

/// Gives freed pages back after all, wherever they lie: after something rare and large, from which
/// small blocks that stay would otherwise keep the rest. Some milliseconds.
void give_back_freed_memory();

}  // namespace aerie
