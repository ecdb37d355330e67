#include "data/hidden_shard_reader.h"

#include "common/error.h"
#include "common/files.h"

namespace aerie {
namespace {

// Two chunks of the largest dataset: a document that ends inside one leaves it for its neighbour.
constexpr size_t kChunkCacheBytes = size_t{2} << 20;
constexpr size_t kChunkCacheSlots = 7;

hdf5::Handle open_file(const fs::path& path) {
  const hdf5::Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // A finished shard never changes; some network file systems offer no locks at all.
  H5Pset_file_locking(access.get(), false, true);
  hdf5::Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
  if (!file) fail_damaged(path, hdf5::last_failure());
  return file;
}

std::string read_text_attribute(const hdf5::Handle& file, const char* name) {
  const hdf5::Handle attribute(H5Aopen(file.get(), name, H5P_DEFAULT), H5Aclose);
  const hdf5::Handle type(H5Aget_type(attribute.get()), H5Tclose);
  if (!type) return {};
  std::string text(H5Tget_size(type.get()), '\0');
  if (H5Aread(attribute.get(), type.get(), text.data()) < 0) return {};
  return text.c_str();
}

/// Rows of a dataset of this column's type and width; -1: it is something else.
int64_t rows_of(const hdf5::Handle& dataset, const hdf5::Handle& type, const HiddenColumn& column) {
  const hdf5::Handle stored(H5Dget_type(dataset.get()), H5Tclose);
  const hdf5::Handle space(H5Dget_space(dataset.get()), H5Sclose);
  if (H5Tequal(stored.get(), type.get()) <= 0) return -1;
  std::array<hsize_t, 2> size{};
  const int rank = column.width > 0 ? 2 : 1;
  if (H5Sget_simple_extent_ndims(space.get()) != rank) return -1;
  H5Sget_simple_extent_dims(space.get(), size.data(), nullptr);
  return size[1] == static_cast<hsize_t>(column.width) ? static_cast<int64_t>(size[0]) : -1;
}

}  // namespace

HiddenShardReader::HiddenShardReader(const fs::path& store, const ShardEntry& entry,
                                     const StoreFacts& facts, const HiddenFormat& format)
    : path_(store / entry.file), columns_(hidden_columns(format)) {
  const hdf5::Quiet quiet;
  check_shard_size(store, entry);
  file_ = open_file(path_);
  check_facts(path_.string(), parse_facts(read_text_attribute(file_, "facts"), path_.string()),
              facts);
  open_columns(entry.rows);
  documents_ = read_list("documents");
  starts_ = read_list("doc_start");
  if (starts_.size() != documents_.size() + 1 || starts_.back() != entry.rows ||
      !std::is_sorted(starts_.begin(), starts_.end())) {
    fail_damaged(path_, "its list of documents is not whole");
  }
}

void HiddenShardReader::open_columns(int64_t rows) {
  const hdf5::Handle access(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose);
  H5Pset_chunk_cache(access.get(), kChunkCacheSlots, kChunkCacheBytes, 0);
  for (const HiddenColumn& column : columns_) {
    types_.push_back(hdf5::element_type(column.dtype));
    datasets_.emplace_back(H5Dopen2(file_.get(), column.name.c_str(), access.get()), H5Dclose);
    if (!datasets_.back() || rows_of(datasets_.back(), types_.back(), column) != rows) {
      fail_damaged(path_,
                   fmt::format("its dataset {} is not {} rows of {} {}", column.name, rows,
                               std::max<int64_t>(1, column.width), c10::toString(column.dtype)));
    }
  }
}

std::vector<int64_t> HiddenShardReader::read_list(const char* name) const {
  const hdf5::Handle list(H5Dopen2(file_.get(), name, H5P_DEFAULT), H5Dclose);
  const hdf5::Handle space(H5Dget_space(list.get()), H5Sclose);
  const hssize_t size = H5Sget_simple_extent_npoints(space.get());
  if (size < 0) fail_damaged(path_, hdf5::last_failure());
  std::vector<int64_t> values(static_cast<size_t>(size));
  const herr_t read =
      H5Dread(list.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  if (read < 0) fail_damaged(path_, hdf5::last_failure());
  return values;
}

void HiddenShardReader::read(size_t column, int64_t begin, int64_t count, void* out) const {
  const hdf5::Quiet quiet;
  const int rank = columns_[column].width > 0 ? 2 : 1;
  const std::array<hsize_t, 2> start{static_cast<hsize_t>(begin), 0},
      size{static_cast<hsize_t>(count), static_cast<hsize_t>(columns_[column].width)};
  const hdf5::Handle file_space(H5Dget_space(datasets_[column].get()), H5Sclose);
  const hdf5::Handle memory_space(H5Screate_simple(rank, size.data(), nullptr), H5Sclose);
  H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start.data(), nullptr, size.data(),
                      nullptr);
  const herr_t read = H5Dread(datasets_[column].get(), types_[column].get(), memory_space.get(),
                              file_space.get(), H5P_DEFAULT, out);
  if (read < 0) {
    fail_damaged(path_, fmt::format("rows {} to {} of {}: {}", begin, begin + count,
                                    columns_[column].name, hdf5::last_failure()));
  }
}

}  // namespace aerie
