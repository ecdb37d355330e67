#include "trainer/unroll_plan.h"

#include <cmath>

#include "common/error.h"
#include "data/draws.h"

namespace aerie {
namespace {

using Indices = std::vector<int64_t>;

Tensor to_tensor(const Indices& values) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong));
}

/// For every row t the number of depths at which it trains: the run of assistant tokens behind it,
/// less the one that the first depth reads.
Indices trained_depths(const Tensor& loss_mask, const Tensor& q_start, int64_t unroll) {
  const bool* mask = loss_mask.data_ptr<bool>();
  const int32_t* starts = q_start.data_ptr<int32_t>();
  Indices depths(loss_mask.numel(), 0);
  for (int64_t s = 0; s + 1 < q_start.numel(); ++s) {
    int64_t run = 0;  // assistant tokens directly behind row t, within the document
    for (int64_t t = starts[s + 1] - 1; t >= starts[s]; --t) {
      depths[t] = std::clamp<int64_t>(run - 1, 0, unroll);
      run = mask[t] ? run + 1 : 0;
    }
  }
  return depths;
}

/// How many of the rows train at depth k.
int64_t count_deeper(const Indices& depths, int64_t k) {
  return std::count_if(depths.begin(), depths.end(), [k](int64_t depth) { return depth > k; });
}

/// Cuts every row's depths where its draw says so. A draw depends on the document's key and the
/// place within it only.
void sample_depths(const Tensor& q_start, const DepthSampling& sampling, Indices& depths) {
  const int32_t* starts = q_start.data_ptr<int32_t>();
  const int64_t documents = q_start.numel() - 1;
  AERIE_CHECK(static_cast<int64_t>(sampling.keys.size()) == documents,
              "train.depth_keep: {} keys for {} documents", sampling.keys.size(), documents);
  for (int64_t s = 0; s < documents; ++s) {
    for (int64_t t = starts[s]; t < starts[s + 1]; ++t) {
      int64_t depth = std::min<int64_t>(depths[t], 1);
      const auto place = static_cast<uint64_t>(t - starts[s]) << 8;
      while (depth < depths[t] &&
             uniform_draw(sampling.keys[s], place + static_cast<uint64_t>(depth)) < sampling.keep) {
        ++depth;
      }
      depths[t] = depth;
    }
  }
}

/// Keeps each document's rows up to its last training row.
void choose_base_rows(const Indices& depths, const Tensor& q_start, Indices& base_rows,
                      UnrollPlan& plan) {
  const int32_t* starts = q_start.data_ptr<int32_t>();
  std::vector<int32_t> base_start{0};
  for (int64_t s = 0; s + 1 < q_start.numel(); ++s) {
    int64_t end = starts[s + 1];
    while (end > starts[s] && depths[end - 1] == 0) --end;
    if (end == starts[s]) continue;
    for (int64_t t = starts[s]; t < end; ++t) base_rows.push_back(t);
    base_start.push_back(static_cast<int32_t>(base_rows.size()));
  }
  plan.base_rows = to_tensor(base_rows);
  plan.q_start = at::tensor(base_start, at::TensorOptions().dtype(at::kInt));
}

/// One depth of the unroll; `alive` holds the previous depth's rows and becomes this one's.
UnrollPlan::Depth plan_depth(int64_t k, const Indices& depths, const Indices& base_rows,
                             const int64_t* tokens, const Tensor& positions, Indices& alive) {
  Indices rows, survivors, ids, places;
  for (size_t i = 0; i < alive.size(); ++i) {
    const int64_t t = base_rows[alive[i]];
    if (depths[t] <= k) continue;
    rows.push_back(alive[i]);
    survivors.push_back(static_cast<int64_t>(i));
    ids.push_back(tokens[t + 1 + k]);
    places.push_back(t);
  }
  UnrollPlan::Depth depth;
  depth.count = static_cast<int64_t>(rows.size());
  depth.rows = to_tensor(rows);
  if (k > 0 && rows.size() < alive.size()) depth.survivors = to_tensor(survivors);
  depth.tokens = to_tensor(ids);
  depth.positions = positions.index_select(-1, to_tensor(places)) + k;
  alive = std::move(rows);
  return depth;
}

/// Depth 0 makes keys and values of every base row, so it reads every base row's token.
void read_every_base_row(const Indices& base_rows, const int64_t* tokens, const Tensor& positions,
                         UnrollPlan::Depth& depth) {
  Indices ids;
  for (const int64_t t : base_rows) {
    ids.push_back(tokens[t + 1]);  // exists: a training row of the document is at or behind t
  }
  depth.tokens = to_tensor(ids);
  depth.positions = positions.index_select(-1, to_tensor(base_rows));
}

/// Row t at depth k is labelled by the target's distribution behind x_{t+1+k}.
void choose_teacher_rows(const Indices& base_rows, int64_t batch_rows, UnrollPlan& plan) {
  Indices slot(batch_rows, -1), teacher_rows, teacher_row;
  for (size_t k = 0; k < plan.depths.size(); ++k) {
    const Tensor& rows = plan.depths[k].rows;
    for (int64_t i = 0; i < rows.numel(); ++i) {
      const int64_t label = base_rows[rows.data_ptr<int64_t>()[i]] + 1 + static_cast<int64_t>(k);
      slot[label] = 0;
      teacher_row.push_back(label);
    }
  }
  for (int64_t t = 0; t < batch_rows; ++t) {
    if (slot[t] < 0) continue;
    slot[t] = static_cast<int64_t>(teacher_rows.size());
    teacher_rows.push_back(t);
  }
  for (int64_t& row : teacher_row) row = slot[row];
  plan.teacher_rows = to_tensor(teacher_rows);
  plan.teacher_row = to_tensor(teacher_row);
  plan.pairs = static_cast<int64_t>(teacher_row.size());
}

}  // namespace

UnrollPlan plan_unroll(const Tensor& tokens, const Tensor& positions, const Tensor& loss_mask,
                       const Tensor& q_start, int64_t unroll, const DepthSampling& sampling) {
  AERIE_CHECK(unroll >= 1, "train.unroll is {}: at least one depth is needed", unroll);
  AERIE_CHECK(loss_mask.numel() == tokens.numel() && positions.size(-1) == tokens.numel(),
              "plan_unroll: {} tokens, {} positions, {} mask values; they must agree",
              tokens.numel(), positions.size(-1), loss_mask.numel());
  const int64_t* ids = tokens.data_ptr<int64_t>();
  const Indices valid = trained_depths(loss_mask, q_start, unroll);
  Indices depths = valid;
  if (sampling.keep < 1) sample_depths(q_start, sampling, depths);

  UnrollPlan plan;
  for (const int64_t depth : valid) plan.valid_pairs += depth;
  Indices base_rows;
  choose_base_rows(depths, q_start, base_rows, plan);
  Indices alive(base_rows.size());
  for (size_t i = 0; i < alive.size(); ++i) alive[i] = static_cast<int64_t>(i);
  for (int64_t k = 0; k < unroll; ++k) {
    UnrollPlan::Depth depth = plan_depth(k, depths, base_rows, ids, positions, alive);
    if (depth.count == 0) break;
    if (k == 0) read_every_base_row(base_rows, ids, positions, depth);
    depth.valid = count_deeper(valid, k);
    depth.scale = std::pow(sampling.keep, -static_cast<double>(k));
    plan.depths.push_back(std::move(depth));
  }
  choose_teacher_rows(base_rows, tokens.numel(), plan);
  return plan;
}

}  // namespace aerie
