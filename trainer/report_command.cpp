// aerie report: what runs have written, as one page.
#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "trainer/commands.h"
#include "trainer/run_report.h"

namespace aerie {

void write_run_report(const std::vector<fs::path>& runs, const fs::path& output) {
  AERIE_CHECK(!runs.empty(), "no run is named: give the directory of at least one");
  std::vector<RunHistory> histories;
  for (const fs::path& run : runs) histories.push_back(read_history(run));
  const fs::path file = output.empty() ? runs.front() / "report.html" : output;
  write_file_atomic(file, run_report(histories));
  log_info("report: " + file.string());
}

}  // namespace aerie
