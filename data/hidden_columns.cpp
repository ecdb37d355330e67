#include "data/hidden_columns.h"

#include "common/error.h"

namespace aerie {
namespace {

constexpr unsigned kDeflateLevel = 1;  // hidden states hardly compress further at higher ones
constexpr H5Z_filter_t kZstd = 32015;  // its number in the registry of HDF5 filters

void add_compression(const hdf5::Handle& properties, const std::string& compression) {
  if (compression == "none") return;
  // Bytes of equal significance side by side: exponents repeat, mantissas do not.
  H5Pset_shuffle(properties.get());
  if (compression == "deflate") {
    H5Pset_deflate(properties.get(), kDeflateLevel);
  } else {
    H5Pset_filter(properties.get(), kZstd, H5Z_FLAG_MANDATORY, 0, nullptr);
  }
}

}  // namespace

void check_compression(const std::string& compression) {
  if (compression == "none") return;
  if (compression == "deflate") {
    AERIE_CHECK(H5Zfilter_avail(H5Z_FILTER_DEFLATE) > 0,
                "hidden_states.compression is deflate, which this HDF5 library was built without: "
                "choose none");
    return;
  }
  AERIE_CHECK(compression == "zstd", "hidden_states.compression {} is not known", compression);
  AERIE_CHECK(H5Zfilter_avail(kZstd) > 0,
              "hidden_states.compression is zstd, and HDF5 finds no such filter (number {}): put "
              "its plugin where HDF5_PLUGIN_PATH points, or choose deflate or none",
              kZstd);
}

hdf5::Handle column_properties(const HiddenColumn& column, const HiddenFormat& format) {
  hdf5::Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  const std::array<hsize_t, 2> chunk{static_cast<hsize_t>(format.chunk_rows()),
                                     static_cast<hsize_t>(column.width)};
  H5Pset_chunk(properties.get(), column.width > 0 ? 2 : 1, chunk.data());
  H5Pset_obj_track_times(properties.get(), false);  // equal content, equal bytes
  H5Pset_fill_time(properties.get(), H5D_FILL_TIME_ALLOC);
  if (column.row_bytes() > 4) add_compression(properties, format.compression);
  H5Pset_fletcher32(properties.get());
  return properties;
}

}  // namespace aerie
