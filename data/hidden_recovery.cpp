#include "data/hidden_recovery.h"

#include <cstring>
#include <fstream>
#include <sstream>

#include "common/error.h"
#include "common/files.h"
#include "data/hidden_columns.h"

namespace aerie {
namespace {

struct JournalDocument {
  int64_t document = 0, rows = 0;
};

/// Where a chunk of one column lies in the file.
struct ChunkPlace {
  uint64_t offset = 0, bytes = 0;
};

struct Journal {
  std::vector<JournalDocument> documents;
  std::vector<std::vector<ChunkPlace>> chunks;  // [chunk][column]
};

std::vector<ChunkPlace> parse_chunk(std::istringstream& words, size_t columns) {
  std::vector<ChunkPlace> places(columns);
  char colon = 0;
  for (ChunkPlace& place : places) words >> place.offset >> colon >> place.bytes;
  return places;
}

/// Stops at the first line that is not whole: a kill may have cut it.
Journal read_journal(const fs::path& file, size_t columns) {
  std::istringstream text(read_file(file));
  Journal journal;
  for (std::string line; std::getline(text, line) && !text.eof();) {
    std::istringstream words(line);
    std::string kind;
    words >> kind;
    if (kind == "chunk") journal.chunks.push_back(parse_chunk(words, columns));
    if (kind == "doc") {
      JournalDocument& document = journal.documents.emplace_back();
      words >> document.document >> document.rows;
    }
    if (words.fail()) break;
  }
  return journal;
}

/// Turns a chunk as it lies in a file into rows again: HDF5 itself does it, on a file in memory
/// with datasets of the same properties, so that checksums and compression are undone by the code
/// that made them.
class ChunkDecoder {
 public:
  explicit ChunkDecoder(const HiddenFormat& format) : columns_(hidden_columns(format)) {
    const hdf5::Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    H5Pset_fapl_core(access.get(), size_t{1} << 20, false);
    file_ = {H5Fcreate("aerie-recovery", H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), H5Fclose};
    const hdf5::Handle uncached(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose);
    H5Pset_chunk_cache(uncached.get(), 0, 0, 1);
    for (const HiddenColumn& column : columns_) {
      const std::array<hsize_t, 2> size{static_cast<hsize_t>(format.chunk_rows()),
                                        static_cast<hsize_t>(column.width)};
      const hdf5::Handle space(H5Screate_simple(column.width > 0 ? 2 : 1, size.data(), nullptr),
                               H5Sclose);
      types_.push_back(hdf5::element_type(column.dtype));
      datasets_.emplace_back(
          H5Dcreate2(file_.get(), column.name.c_str(), types_.back().get(), space.get(),
                     H5P_DEFAULT, column_properties(column, format).get(), uncached.get()),
          H5Dclose);
    }
  }

  /// False if the checksum does not hold.
  bool decode(size_t column, const std::vector<char>& chunk, uint8_t* rows) const {
    const std::array<hsize_t, 2> origin{0, 0};
    const hid_t dataset = datasets_[column].get();
    return H5Dwrite_chunk(dataset, H5P_DEFAULT, 0, origin.data(), chunk.size(), chunk.data()) >=
               0 &&
           H5Dread(dataset, types_[column].get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, rows) >= 0;
  }

 private:
  std::vector<HiddenColumn> columns_;
  hdf5::Handle file_;
  std::vector<hdf5::Handle> types_, datasets_;
};

/// Rows read so far that no document has taken.
class PendingRows {
 public:
  explicit PendingRows(const HiddenFormat& format)
      : format_(format), columns_(hidden_columns(format)), bytes_(columns_.size()) {}

  /// Room for the next chunk's rows of a column.
  uint8_t* extend(size_t column) {
    const auto more = static_cast<size_t>(format_.chunk_rows() * columns_[column].row_bytes());
    bytes_[column].resize(bytes_[column].size() + more);
    return bytes_[column].data() + bytes_[column].size() - more;
  }
  int64_t rows() const {
    return static_cast<int64_t>(bytes_[kTokens].size()) / columns_[kTokens].row_bytes();
  }
  /// Takes the first `rows` away.
  std::vector<at::Tensor> take(int64_t rows) {
    std::vector<at::Tensor> taken = empty_columns(rows, format_);
    for (size_t c = 0; c < taken.size(); ++c) {
      const auto size = static_cast<ptrdiff_t>(taken[c].nbytes());
      std::memcpy(taken[c].mutable_data_ptr(), bytes_[c].data(), taken[c].nbytes());
      bytes_[c].erase(bytes_[c].begin(), bytes_[c].begin() + size);
    }
    return taken;
  }

 private:
  HiddenFormat format_;
  std::vector<HiddenColumn> columns_;
  std::vector<std::vector<uint8_t>> bytes_;
};

}  // namespace

int64_t recover_documents(
    const fs::path& file, const fs::path& journal, const HiddenFormat& format,
    const std::function<void(int64_t, const std::vector<at::Tensor>&)>& take) {
  const hdf5::Quiet quiet;
  const size_t columns = hidden_columns(format).size();
  const Journal written = read_journal(journal, columns);
  const ChunkDecoder decoder(format);
  PendingRows pending(format);
  std::ifstream stream(file, std::ios::binary);
  size_t taken = 0;
  for (const std::vector<ChunkPlace>& chunk : written.chunks) {
    for (size_t c = 0; c < columns; ++c) {
      std::vector<char> bytes(chunk[c].bytes);
      stream.seekg(static_cast<std::streamoff>(chunk[c].offset));
      stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      if (!stream || !decoder.decode(c, bytes, pending.extend(c)))
        return static_cast<int64_t>(taken);
    }
    for (; taken < written.documents.size(); ++taken) {
      const JournalDocument& next = written.documents[taken];
      if (next.rows > pending.rows()) break;
      take(next.document, pending.take(next.rows));
    }
  }
  return static_cast<int64_t>(taken);
}

}  // namespace aerie
