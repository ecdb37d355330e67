#include "trainer/dump.h"

#include "common/progress.h"
#include "trainer/online_source.h"
#include "trainer/stop_signal.h"
#include "trainer/stopwatch.h"
#include "trainer/stored_source.h"

namespace aerie {

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
    std::vector<DocumentRows> missing = documents;
    std::erase_if(missing, [&](const DocumentRows& document) { return writer.has(document); });
    report.there += static_cast<int64_t>(documents.size() - missing.size());
    if (!missing.empty()) {
      Stopwatch forward;
      const TrainBatch batch = run_target(target, capture_layers, packed, writer.format().embeds);
      report.target_seconds += forward.lap();
      writer.add_missing(documents, to_hidden_rows(batch));
      report.documents += static_cast<int64_t>(missing.size());
      report.rows += sum_rows(missing);
    }
    seen += packed.tokens.numel();
    progress.update(seen);
  }
  if (!report.stopped) writer.publish();
  report.seconds = whole.lap();
  return report;
}

}  // namespace aerie
