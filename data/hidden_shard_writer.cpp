#include "data/hidden_shard_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/error.h"
#include "common/files.h"

namespace aerie {
namespace {

hdf5::Handle create_file(const fs::path& path) {
  const hdf5::Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // From 1.10 on every piece of HDF5's own bookkeeping carries a checksum.
  H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  H5Pset_file_locking(access.get(), false, true);  // the journal is what is locked
  const hdf5::Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation.get(), false);
  hdf5::Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), H5Fclose);
  AERIE_CHECK(file, "cannot create {}: {}", path.string(), hdf5::last_failure());
  return file;
}

void write_text_attribute(const hdf5::Handle& file, const char* name, const std::string& text) {
  const hdf5::Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), text.size() + 1);
  const hdf5::Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const hdf5::Handle attribute(
      H5Acreate2(file.get(), name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  H5Awrite(attribute.get(), type.get(), text.c_str());
}

/// An empty dataset that grows by rows. Nothing is kept in HDF5's chunk cache: what was written is
/// in the file.
hdf5::Handle create_column(const hdf5::Handle& file, const HiddenColumn& column,
                           const hdf5::Handle& type, const HiddenFormat& format) {
  const int rank = column.width > 0 ? 2 : 1;
  const std::array<hsize_t, 2> size{0, static_cast<hsize_t>(column.width)};
  const std::array<hsize_t, 2> limit{H5S_UNLIMITED, static_cast<hsize_t>(column.width)};
  const hdf5::Handle space(H5Screate_simple(rank, size.data(), limit.data()), H5Sclose);
  const hdf5::Handle access(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose);
  H5Pset_chunk_cache(access.get(), 0, 0, 1);
  const hdf5::Handle properties = column_properties(column, format);
  hdf5::Handle dataset(H5Dcreate2(file.get(), column.name.c_str(), type.get(), space.get(),
                                  H5P_DEFAULT, properties.get(), access.get()),
                       H5Dclose);
  AERIE_CHECK(dataset, "cannot make the dataset {}: {}", column.name, hdf5::last_failure());
  return dataset;
}

/// -> why it could not be done; empty: it was
std::string write_rows(const hdf5::Handle& dataset, const hdf5::Handle& type,
                       const HiddenColumn& column, int64_t row, int64_t rows,
                       const uint8_t* bytes) {
  const int rank = column.width > 0 ? 2 : 1;
  const auto width = static_cast<hsize_t>(column.width);
  const std::array<hsize_t, 2> start{static_cast<hsize_t>(row), 0},
      count{static_cast<hsize_t>(rows), width}, size{static_cast<hsize_t>(row + rows), width};
  if (H5Dset_extent(dataset.get(), size.data()) < 0) return hdf5::last_failure();
  const hdf5::Handle file_space(H5Dget_space(dataset.get()), H5Sclose),
      memory_space(H5Screate_simple(rank, count.data(), nullptr), H5Sclose);
  H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(),
                      nullptr);
  const herr_t written =
      H5Dwrite(dataset.get(), type.get(), memory_space.get(), file_space.get(), H5P_DEFAULT, bytes);
  return written < 0 ? hdf5::last_failure() : "";
}

/// " OFFSET:BYTES" of the chunk that begins at `row`.
std::string chunk_place(const hdf5::Handle& dataset, int64_t row) {
  const std::array<hsize_t, 2> start{static_cast<hsize_t>(row), 0};
  unsigned skipped_filters = 0;
  haddr_t offset = 0;
  hsize_t bytes = 0;
  const herr_t found =
      H5Dget_chunk_info_by_coord(dataset.get(), start.data(), &skipped_filters, &offset, &bytes);
  AERIE_CHECK(found >= 0, "HDF5 does not say where a chunk went: {}", hdf5::last_failure());
  return fmt::format(" {}:{}", offset, bytes);
}

}  // namespace

fs::path temporary_of(const fs::path& shard) { return beside(shard, ".tmp"); }
fs::path journal_of(const fs::path& shard) { return beside(shard, ".journal"); }

HiddenJournal::HiddenJournal(const fs::path& file)
    : path_(file), fd_(::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644)) {
  AERIE_CHECK(fd_ >= 0, "cannot open {}: {}", file.string(), std::strerror(errno));
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int error = errno;
  ::close(fd_);
  AERIE_CHECK(error == EWOULDBLOCK,
              "cannot lock {}: {}; a store must lie on a file system that supports flock",
              file.string(), std::strerror(error));
  fail("{}: another process is writing this part of the store; wait for it, or stop it",
       file.string());
}

HiddenJournal::~HiddenJournal() { ::close(fd_); }

void HiddenJournal::write(const std::string& line) {
  const ssize_t written = ::write(fd_, line.data(), line.size());
  AERIE_CHECK(written == static_cast<ssize_t>(line.size()), "cannot write {}: {}", path_.string(),
              std::strerror(written < 0 ? errno : ENOSPC));
}

HiddenShardWriter::HiddenShardWriter(const fs::path& shard, const StoreFacts& facts,
                                     const HiddenFormat& format)
    : shard_(shard),
      temporary_(temporary_of(shard)),
      journal_(journal_of(shard)),
      format_(format),
      columns_(hidden_columns(format)) {
  const hdf5::Quiet quiet;
  file_ = create_file(temporary_);
  write_text_attribute(file_, "facts", facts_text(facts));
  for (const HiddenColumn& column : columns_) {
    types_.push_back(hdf5::element_type(column.dtype));
    datasets_.push_back(create_column(file_, column, types_.back(), format));
    buffers_.emplace_back(static_cast<size_t>(format.chunk_rows() * column.row_bytes()));
  }
}

HiddenShardWriter::~HiddenShardWriter() {
  const hdf5::Quiet quiet;
  // HDF5 cannot close what it cannot write; the journal knows what is safe.
  for (hdf5::Handle& dataset : datasets_) sound_ ? void(dataset.close()) : dataset.abandon();
  sound_ ? void(file_.close()) : file_.abandon();
}

void HiddenShardWriter::append(int64_t document, const std::vector<at::Tensor>& columns) {
  const hdf5::Quiet quiet;
  sound_ = false;
  const int64_t rows = columns[kTokens].numel(), chunk = format_.chunk_rows();
  const auto at_row = [&](size_t c, int64_t row) {
    return static_cast<const uint8_t*>(columns[c].const_data_ptr()) + row * columns_[c].row_bytes();
  };
  Bytes bytes(columns_.size());
  for (int64_t row = 0; row < rows;) {
    const int64_t count = std::min(chunk - buffered_, rows - row);
    for (size_t c = 0; c < columns_.size(); ++c) {
      bytes[c] = at_row(c, row);
      if (count == chunk) continue;  // goes to disk from where it is
      std::memcpy(buffers_[c].data() + buffered_ * columns_[c].row_bytes(), bytes[c],
                  static_cast<size_t>(count * columns_[c].row_bytes()));
      bytes[c] = buffers_[c].data();
    }
    buffered_ += count;
    row += count;
    if (buffered_ == chunk) write_chunk(bytes, chunk);
  }
  documents_.push_back(document);
  starts_.push_back(this->rows());
  journal_.write(fmt::format("doc {} {}\n", document, rows));
  sound_ = true;
}

void HiddenShardWriter::write_chunk(const Bytes& columns, int64_t rows) {
  std::string line = "chunk";
  for (size_t c = 0; c < columns_.size(); ++c) {
    const std::string failure =
        write_rows(datasets_[c], types_[c], columns_[c], written_, rows, columns[c]);
    if (!failure.empty()) fail_write(failure);
    line += chunk_place(datasets_[c], written_);
  }
  journal_.write(line + "\n");
  written_ += rows;
  buffered_ = 0;
}

void HiddenShardWriter::write_list(const char* name, const std::vector<int64_t>& values) {
  const hsize_t size = values.size();
  const hdf5::Handle type = hdf5::element_type(at::kLong);
  const hdf5::Handle space(H5Screate_simple(1, &size, nullptr), H5Sclose);
  const hdf5::Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_chunk(properties.get(), 1, &size);
  H5Pset_fletcher32(properties.get());
  H5Pset_obj_track_times(properties.get(), false);
  const hdf5::Handle list(H5Dcreate2(file_.get(), name, type.get(), space.get(), H5P_DEFAULT,
                                     properties.get(), H5P_DEFAULT),
                          H5Dclose);
  const herr_t written =
      H5Dwrite(list.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  if (written < 0) fail_write(hdf5::last_failure());
}

ShardEntry HiddenShardWriter::seal() {
  const hdf5::Quiet quiet;
  sound_ = false;
  if (buffered_ > 0) {
    Bytes bytes;
    for (const std::vector<uint8_t>& buffer : buffers_) bytes.push_back(buffer.data());
    write_chunk(bytes, buffered_);
  }
  write_list("documents", documents_);
  write_list("doc_start", starts_);
  for (hdf5::Handle& dataset : datasets_) {
    if (!dataset.close()) fail_write(hdf5::last_failure());
  }
  if (!file_.close()) fail_write(hdf5::last_failure());
  ShardEntry entry{shard_.filename().string(), static_cast<int64_t>(fs::file_size(temporary_)),
                   static_cast<int64_t>(documents_.size()), written_, hash_file(temporary_)};
  publish_file(temporary_, shard_);
  sound_ = true;
  return entry;
}

void HiddenShardWriter::forget_journal() { fs::remove(journal_.path()); }

void HiddenShardWriter::fail_write(const std::string& reason) const {
  fail("cannot write {}: {}", temporary_.string(), reason);
}

}  // namespace aerie
