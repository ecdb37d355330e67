// Reads back what a process that was killed had written of a shard.
#pragma once
#include <filesystem>
#include <functional>
#include <vector>

#include "data/hidden_rows.h"

namespace aerie {

/// Calls `take` with every document whose rows are whole and whose checksums hold, in the order in
/// which they were written, and stops at the first that is not: what follows it is computed again.
/// `file` is the unfinished HDF5 file (or the finished one, if only the manifest did not hear of
/// it), `journal` what HiddenJournal wrote. -> the number of documents
int64_t recover_documents(
    const std::filesystem::path& file, const std::filesystem::path& journal,
    const HiddenFormat& format,
    const std::function<void(int64_t document, const std::vector<at::Tensor>& columns)>& take);

}  // namespace aerie
