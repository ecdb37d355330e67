#include "trainer/event_file.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "common/error.h"

namespace aerie {
namespace {

// Field numbers of Event, Summary and SessionLog, as in event.proto and summary.proto.
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
constexpr int kSummaryValue = 1, kValueTag = 1, kValueSimple = 2;
constexpr int kSessionStatus = 1;
constexpr uint64_t kSessionStart = 1;
constexpr int kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5;

template <typename T>
void append_bytes(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void append_key(std::string& out, int field, int type) {
  append_varint(out, static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(type));
}

void append_text(std::string& out, int field, std::string_view bytes) {
  append_key(out, field, kLengthDelimited);
  append_varint(out, bytes.size());
  out += bytes;
}

void append_integer(std::string& out, int field, uint64_t value) {
  append_key(out, field, kVarint);
  append_varint(out, value);
}

/// What every event begins with.
std::string begin_event(int64_t step) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  std::string event;
  append_key(event, kWallTime, kFixed64);
  append_bytes(event, now.count());
  append_integer(event, kStep, static_cast<uint64_t>(step));
  return event;
}

std::string summary_value(const std::string& tag, double value) {
  std::string out;
  append_text(out, kValueTag, tag);
  append_key(out, kValueSimple, kFixed32);
  append_bytes(out, static_cast<float>(value));
  return out;
}

std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0x82F63B78u : 0);
    table[i] = value;
  }
  return table;
}

/// TFRecord's mask: a checksum of bytes that hold checksums would be weak.
uint32_t masked(uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8u; }

/// Names sort by time, to the microsecond: sessions may follow each other within a second.
std::string file_name() {
  const auto now = std::chrono::duration_cast<std::chrono::microseconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) != 0) std::strcpy(host, "localhost");
  return fmt::format("events.out.tfevents.{:010}.{:06}.{}.{}", now / 1000000, now % 1000000, host,
                     ::getpid());
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = crc_table();
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<uint8_t>(c)) & 255];
  return ~crc;
}

std::string tf_record(std::string_view content) {
  std::string record;
  append_bytes(record, static_cast<uint64_t>(content.size()));
  append_bytes(record, masked(crc32c(record)));
  record += content;
  append_bytes(record, masked(crc32c(content)));
  return record;
}

EventFile::EventFile(const std::filesystem::path& directory, int64_t step)
    : path_(directory / file_name()) {
  std::filesystem::create_directories(directory);
  file_.reset(std::fopen(path_.c_str(), "wb"));
  AERIE_CHECK(file_, "{}: cannot be opened for writing: {}", path_.string(), std::strerror(errno));
  std::string version = begin_event(0);
  append_text(version, kFileVersion, "brain.Event:2");
  put(version);
  std::string status, start = begin_event(step);
  append_integer(status, kSessionStatus, kSessionStart);
  append_text(start, kSessionLog, status);
  put(start);
}

void EventFile::write(int64_t step, const Scalars& scalars) {
  std::string summary, event = begin_event(step);
  for (const auto& [tag, value] : scalars) {
    append_text(summary, kSummaryValue, summary_value(tag, value));
  }
  append_text(event, kSummary, summary);
  put(event);
}

void EventFile::put(const std::string& event) {
  const std::string record = tf_record(event);
  const bool whole = std::fwrite(record.data(), 1, record.size(), file_.get()) == record.size();
  AERIE_CHECK(whole && std::fflush(file_.get()) == 0,
              "{}: cannot be written ({}); free some space and start again, the run resumes",
              path_.string(), std::strerror(errno));
}

}  // namespace aerie
