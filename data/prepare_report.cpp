#include "data/prepare_report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "common/error.h"

namespace aerie {

Json to_json(const SplitReport& r) {
  return {{"rows", r.rows},           {"documents", r.documents},
          {"tokens", r.tokens},       {"supervised", r.supervised},
          {"truncated", r.truncated}, {"bad_rows", r.bad_rows},
          {"lengths", r.lengths},     {"histogram", r.histogram}};
}

SplitReport split_report_from(const Json& json, const std::string& origin) {
  try {
    SplitReport r;
    r.rows = json.at("rows");
    r.documents = json.at("documents");
    r.tokens = json.at("tokens");
    r.supervised = json.at("supervised");
    r.truncated = json.at("truncated");
    r.bad_rows = json.at("bad_rows").get<std::map<std::string, int64_t>>();
    r.lengths = json.at("lengths");
    r.histogram = json.value("histogram", std::vector<int64_t>{});
    return r;
  } catch (const Json::exception& e) {
    fail("{}: {}; delete its directory and prepare the data again", origin, e.what());
  }
}

Json to_json(const PrepareReport& report) {
  Json vocabulary = Json::array();
  for (const Coverage& coverage : report.coverage) {
    vocabulary.push_back({{"size", coverage.size}, {"train", coverage.train}});
    if (coverage.heldout) vocabulary.back()["heldout"] = *coverage.heldout;
  }
  Json json{{"train", to_json(report.train)}};
  if (report.heldout.documents > 0) json["heldout"] = to_json(report.heldout);
  json["vocabulary"] = std::move(vocabulary);
  return json;
}

void LengthCount::add(int64_t length) {
  ++counts_[length];
  ++documents_;
}

int64_t LengthCount::percentile(double share) const {
  const auto rank = static_cast<int64_t>(share * static_cast<double>(documents_ - 1));
  int64_t seen = 0;
  for (const auto& [length, count] : counts_) {
    seen += count;
    if (seen > rank) return length;
  }
  return largest();
}

std::vector<int64_t> LengthCount::histogram(int64_t steps) const {
  std::vector<int64_t> bins(static_cast<size_t>(steps), 0);
  for (const auto& [length, count] : counts_) {
    bins[static_cast<size_t>((length - 1) * steps / std::max<int64_t>(largest(), 1))] += count;
  }
  return bins;
}

}  // namespace aerie
