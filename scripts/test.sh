#!/usr/bin/env bash
# Everything that must hold: set-up, build, the quickstart's model, every test; with --lint clang-tidy on what changed.
# The last line is "N passed, N failed, N skipped"; the exit code is 0 only if none failed. What skips itself is the
# run of the CUDA kernels on a device, where there is none.
# usage: scripts/test.sh [--lint]
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/build.sh
scripts/fetch_smollm2.sh

results=build/release/tests.xml
failed=0
(cd build/release && ctest --output-on-failure --output-junit tests.xml) || failed=1

# One more test: clang-tidy. It needs no build, so ctest does not know it.
lint=0 lint_failed=0
if [ "${1:-}" = --lint ]; then
  lint=1
  scripts/lint.sh --changed || lint_failed=1
fi

python3 - "$results" "$lint" "$lint_failed" "$failed" <<'PYTHON'
import sys
import xml.etree.ElementTree as ET

path, lint, lint_failed, ctest_failed = sys.argv[1], *map(int, sys.argv[2:])
suite = ET.parse(path).getroot()
total, failed, skipped = (int(suite.get(key)) for key in ("tests", "failures", "skipped"))
if total == 0 or (ctest_failed and not failed):
    failed += 1  # ctest itself went wrong
passed = max(0, total - failed - skipped) + lint - lint_failed
print(f"{passed} passed, {failed + lint_failed} failed, {skipped} skipped")
sys.exit(1 if failed + lint_failed else 0)
PYTHON
