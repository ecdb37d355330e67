#include "trainer/dump.h"

#include "common/progress.h"
#include "trainer/online_source.h"
#include "trainer/stop_signal.h"
#include "trainer/stopwatch.h"
#include "trainer/stored_source.h"

namespace aerie {
namespace {

/// Adds the documents of a batch that the store lacks.
void add_missing(const TrainBatch& batch, const std::vector<DocumentRows>& documents,
                 HiddenStoreWriter& writer, DumpReport& report) {
  const HiddenRows rows = to_hidden_rows(batch);
  int64_t begin = 0;
  for (const DocumentRows& document : documents) {
    if (!writer.has(document)) {
      writer.add(document.document, rows.slice(begin, document.rows));
      ++report.documents;
      report.rows += document.rows;
    }
    begin += document.rows;
  }
}

}  // namespace

DumpReport dump(const TargetModel& target, const std::vector<int64_t>& capture_layers,
                PackSequence& packs, HiddenStoreWriter& writer, const std::string& label,
                int64_t total_rows) {
  const StopSignal stop;
  Progress progress(label, total_rows, "tokens");
  Stopwatch whole;
  DumpReport report;
  int64_t seen = 0;
  while (const std::optional<Pack> pack = packs.next()) {
    if (stop.requested()) {
      report.stopped = true;
      break;
    }
    const PackedTokens packed = packs.gather(*pack);
    const std::vector<DocumentRows> documents = document_rows(*pack, packed);
    const auto missing =
        std::count_if(documents.begin(), documents.end(),
                      [&](const DocumentRows& document) { return !writer.has(document); });
    report.there += static_cast<int64_t>(documents.size()) - missing;
    if (missing > 0) {
      Stopwatch forward;
      const TrainBatch batch = run_target(target, capture_layers, packed, writer.format().embeds);
      report.target_seconds += forward.lap();
      add_missing(batch, documents, writer, report);
    }
    seen += packed.tokens.numel();
    progress.update(seen);
  }
  if (!report.stopped) writer.publish();
  report.seconds = whole.lap();
  return report;
}

}  // namespace aerie
