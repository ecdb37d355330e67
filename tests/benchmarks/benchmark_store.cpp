// The hidden-state store against one plain file of the same bytes on the same disk: writing with
// fsync, reading documents in random order from a cold and from a warm page cache.
//   benchmark_store DIRECTORY [HIDDEN ROWS_A_DOCUMENT MEGABYTES]      prints JSON
#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "common/error.h"
#include "common/files.h"
#include "data/hidden_store_writer.h"

namespace aerie {
namespace {

constexpr int64_t kPack = 4;  // documents that are read together

struct Shape {
  int64_t hidden = 576, rows = 300, megabytes = 1000;
};

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Makes the next read of these files come from the disk.
void forget_pages(const fs::path& directory) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    const int fd = ::open(entry.path().c_str(), O_RDONLY);
    ::fdatasync(fd);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

/// One document's rows, over and over: what they are makes no difference to speed.
HiddenRows make_rows(const HiddenFormat& format, int64_t rows) {
  return {at::randint(1000, {rows}, at::kInt), at::ones({rows}, at::kByte),
          at::arange(rows, at::kInt), at::randn({rows, format.aux_width()}).to(format.dtype),
          at::randn({rows, format.hidden}).to(format.dtype)};
}

void write_plain(const fs::path& file, const HiddenRows& rows, int64_t documents) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  for (int64_t d = 0; d < documents; ++d) {
    for (const at::Tensor& column :
         {rows.tokens, rows.loss_mask, rows.positions, rows.aux, rows.last}) {
      const ssize_t written = ::write(fd, column.const_data_ptr(), column.nbytes());
      AERIE_CHECK(written == static_cast<ssize_t>(column.nbytes()), "cannot write {}",
                  file.string());
    }
  }
  ::fsync(fd);
  ::close(fd);
}

void read_plain(const fs::path& file, int64_t document_bytes, const std::vector<int64_t>& order) {
  const int fd = ::open(file.c_str(), O_RDONLY);
  for (const int64_t document : order) {
    const at::Tensor bytes = at::empty({document_bytes}, at::kByte);
    const ssize_t got = ::pread(fd, bytes.mutable_data_ptr(), static_cast<size_t>(document_bytes),
                                document * document_bytes);
    AERIE_CHECK(got == document_bytes, "cannot read {}", file.string());
  }
  ::close(fd);
}

void write_store(const fs::path& directory, const HiddenFormat& format, const HiddenRows& rows,
                 int64_t documents) {
  HiddenStore store = HiddenStore::open_or_create(directory, {}, format);
  HiddenStoreWriter writer(store, {});
  for (int64_t d = 0; d < documents; ++d) writer.add(d, rows);
  writer.publish();
}

void read_store(const fs::path& directory, const HiddenFormat& format, int64_t rows,
                const std::vector<int64_t>& order, VerifyShards verify) {
  HiddenStore store = HiddenStore::open(directory, {}, format, verify);
  for (size_t i = 0; i < order.size(); i += kPack) {
    std::vector<DocumentRows> pack;
    for (size_t d = i; d < std::min(order.size(), i + kPack); ++d) pack.push_back({order[d], rows});
    store.read(pack);
  }
}

nlohmann::ordered_json measure(const fs::path& directory, const Shape& shape) {
  HiddenFormat format;
  format.hidden = shape.hidden;
  format.layers = 3;
  const HiddenRows rows = make_rows(format, shape.rows);
  const int64_t document_bytes = shape.rows * format.row_bytes();
  const int64_t documents = shape.megabytes * 1'000'000 / document_bytes;
  const double megabytes = static_cast<double>(documents * document_bytes) / 1e6;
  std::vector<int64_t> order(static_cast<size_t>(documents));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  const fs::path plain = directory / "plain", store = directory / "store";
  fs::create_directories(plain);

  nlohmann::ordered_json result{{"hidden", shape.hidden},
                                {"rows_a_document", shape.rows},
                                {"documents", documents},
                                {"megabytes", megabytes}};
  const auto report = [&](const char* name, const std::function<void()>& work) {
    result[name] = megabytes / seconds_of(work);
  };
  report("plain_write", [&] { write_plain(plain / "file", rows, documents); });
  report("store_write", [&] { write_store(store, format, rows, documents); });
  forget_pages(plain);
  report("plain_read_cold", [&] { read_plain(plain / "file", document_bytes, order); });
  const auto read = [&](VerifyShards verify) {
    return [&, verify] { read_store(store, format, shape.rows, order, verify); };
  };
  forget_pages(store);
  report("store_read_cold", read(VerifyShards::kNever));
  forget_pages(store);
  report("verified_read_cold", read(VerifyShards::kOnce));
  report("plain_read_warm", [&] { read_plain(plain / "file", document_bytes, order); });
  report("store_read_warm", read(VerifyShards::kNever));
  report("verified_read_warm", read(VerifyShards::kOnce));
  return result;
}

}  // namespace
}  // namespace aerie

int main(int argc, char** argv) {
  if (argc < 2)
    return std::fputs("usage: benchmark_store DIRECTORY [HIDDEN ROWS MEGABYTES]\n", stderr), 2;
  aerie::Shape shape;
  if (argc == 5) shape = {std::atoll(argv[2]), std::atoll(argv[3]), std::atoll(argv[4])};
  fmt::print("{}\n", aerie::measure(argv[1], shape).dump(2));
}
