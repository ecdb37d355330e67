#include "kernels/rank_place.h"

#include <charconv>
#include <cstdlib>

#include "common/error.h"

namespace aerie {
namespace {

constexpr const char* kAdvice =
    "start with torchrun --no-python --nproc-per-node N aerie train ..., or set RANK, WORLD_SIZE, "
    "MASTER_ADDR and MASTER_PORT";

std::string text_of(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

int number_of(const char* name, int low, int high) {
  const std::string text = text_of(name);
  AERIE_CHECK(!text.empty(), "{} is not set: {}", name, kAdvice);
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  AERIE_CHECK(
      error == std::errc() && end == text.data() + text.size() && number >= low && number <= high,
      "{} is \"{}\": it must be a number from {} to {}", name, text, low, high);
  return number;
}

}  // namespace

RankPlace rank_place() {
  constexpr int kMostRanks = 1 << 20, kLastPort = 65535;
  RankPlace place;
  if (text_of("RANK").empty() && text_of("WORLD_SIZE").empty()) return place;
  place.ranks = number_of("WORLD_SIZE", 1, kMostRanks);
  place.rank = number_of("RANK", 0, place.ranks - 1);
  if (!text_of("LOCAL_RANK").empty()) {
    place.local_ranks = number_of("LOCAL_WORLD_SIZE", 1, place.ranks);
    place.local_rank = number_of("LOCAL_RANK", 0, place.local_ranks - 1);
  }
  if (place.ranks == 1) return place;
  place.master = text_of("MASTER_ADDR");
  AERIE_CHECK(!place.master.empty(), "MASTER_ADDR is not set: {}", kAdvice);
  place.port = number_of("MASTER_PORT", 1, kLastPort);
  place.launcher_serves = text_of("TORCHELASTIC_USE_AGENT_STORE") == "True";
  return place;
}

}  // namespace aerie
