#include "trainer/evaluation.h"

#include <ATen/core/grad_mode.h>

#include <map>

namespace aerie {
namespace {

/// For each base row of the plan, the index of its document in the batch.
std::vector<int64_t> documents_of_rows(const TrainBatch& batch, const UnrollPlan& plan) {
  const int32_t* starts = batch.q_start.data_ptr<int32_t>();
  const int64_t* rows = plan.base_rows.data_ptr<int64_t>();
  std::vector<int64_t> documents(static_cast<size_t>(plan.base_rows.numel()));
  int64_t document = 0;
  for (size_t i = 0; i < documents.size(); ++i) {
    while (rows[i] >= starts[document + 1]) ++document;
    documents[i] = document;
  }
  return documents;
}

class ByDomain {
 public:
  explicit ByDomain(int64_t unroll) : unroll_(unroll) {}

  void add(const TrainBatch& batch, const UnrollPlan& plan, const ops::HeadLoss& loss) {
    if (batch.domains.empty()) return;
    const std::vector<int64_t> documents = documents_of_rows(batch, plan);
    std::map<std::string, std::vector<bool>> rows;
    for (size_t i = 0; i < documents.size(); ++i) {
      std::vector<bool>& mine = rows[batch.domains[static_cast<size_t>(documents[i])]];
      mine.resize(documents.size());
      mine[i] = true;
    }
    for (const auto& [domain, counted] : rows) {
      metrics_.try_emplace(domain, unroll_).first->second.add(plan, loss, counted);
    }
  }

  std::vector<DomainEvaluation> take() {
    std::vector<DomainEvaluation> all;
    for (auto& [name, metrics] : metrics_) all.push_back({name, std::move(metrics)});
    return all;
  }

 private:
  int64_t unroll_;
  std::map<std::string, UnrollMetrics> metrics_;
};

}  // namespace

double Evaluation::value() const {
  return acceptance ? acceptance->length : metrics.simulated_acceptance();
}

Evaluation evaluate_loss(const Eagle3Draft& draft, HiddenStateSource& heldout,
                         const TeacherHead& teacher, const Objective& objective) {
  const at::NoGradGuard no_grad;
  const auto unroll = static_cast<int64_t>(objective.step_weights.size());
  UnrollMetrics metrics(unroll);
  ByDomain domains(unroll);
  const std::string start = heldout.cursor();
  while (const std::optional<TrainBatch> batch = heldout.next()) {
    const UnrollPlan plan =
        plan_unroll(batch->tokens, batch->positions, batch->loss_mask, batch->q_start, unroll);
    metrics.add_tokens(batch->tokens.numel(), batch->loss_mask.sum().item<int64_t>());
    if (plan.pairs == 0) continue;
    const ops::HeadLoss loss = ttt_loss(draft, *batch, plan, teacher, objective);
    metrics.add(plan, loss);
    domains.add(*batch, plan, loss);
  }
  heldout.seek(start);
  return {std::move(metrics), domains.take()};
}

std::optional<Acceptance> acceptance_of_domain(const Acceptance& all,
                                               const std::vector<std::string>& domains,
                                               const std::string& domain) {
  double decoded = 0, forwards = 0;
  Acceptance mine;
  for (size_t i = 0; i < std::min(all.prompts.size(), domains.size()); ++i) {
    if (domains[i] != domain) continue;
    mine.prompts.push_back(all.prompts[i]);
    decoded += static_cast<double>(all.prompts[i].decoded);
    forwards += static_cast<double>(all.prompts[i].forwards);
  }
  if (forwards == 0) return std::nullopt;
  mine.length = decoded / forwards;
  return mine;
}

}  // namespace aerie
