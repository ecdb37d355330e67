// How freed memory is treated.
#pragma once

namespace aerie {

/// Keeps freed memory for the next allocation instead of giving it back to the system. Activations
/// of a few MiB come and go in every layer; with malloc's defaults each one is mapped afresh, and
/// its page faults cost more than the arithmetic on it. Call once, at the start of main.
void keep_freed_memory();

}  // namespace aerie
