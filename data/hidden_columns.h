// How the columns of a hidden-state store lie in HDF5. Internal to the store: its public headers
// know no HDF5.
#pragma once
#include "data/hdf5.h"
#include "data/hidden_format.h"

namespace aerie {

/// Throws Error if the HDF5 library lacks the filter.
void check_compression(const std::string& compression);

/// The properties of a column's dataset: chunked by rows, compressed as asked, with a Fletcher-32
/// checksum a chunk.
hdf5::Handle column_properties(const HiddenColumn& column, const HiddenFormat& format);

}  // namespace aerie
