#!/usr/bin/env bash
# Everything that must hold: set-up, build, the quickstart's model, every test; with --lint clang-tidy on what changed.
# The last line is "N passed, N failed, N skipped"; the exit code is 0 only if none failed. What skips itself is the
# run of the CUDA kernels on a device, where there is none.
# --slow: also serves the quickstart's trained draft with llama.cpp and with vLLM's CPU build, and compares (some minutes,
# and 6 GB for vLLM).
# usage: scripts/test.sh [--lint|--slow]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/versions.env

scripts/build.sh
scripts/fetch_smollm2.sh

results=build/release/tests.xml
failed=0
(cd build/release && ctest --parallel "$(nproc)" --output-on-failure --output-junit tests.xml) || failed=1

# Tests on request, which ctest does not know: clang-tidy, or other servers.
more=0 more_failed=0
also() { more=$((more + 1)); "$@" || more_failed=$((more_failed + 1)); }
if [ "${1:-}" = --lint ]; then
  also scripts/lint.sh --changed
elif [ "${1:-}" = --slow ]; then
  .venv/bin/python -m pip install -q --disable-pip-version-check "xllamacpp==$XLLAMACPP_VERSION"
  also .venv/bin/python tests/serving/llama_cpp_test.py
  scripts/setup_vllm.sh
  also .venv/bin/python tests/serving/vllm_test.py
fi

python3 - "$results" "$more" "$more_failed" "$failed" <<'PYTHON'
import sys
import xml.etree.ElementTree as ET

path, more, more_failed, ctest_failed = sys.argv[1], *map(int, sys.argv[2:])
suite = ET.parse(path).getroot()
total, failed, skipped = (int(suite.get(key)) for key in ("tests", "failures", "skipped"))
if total == 0 or (ctest_failed and not failed):
    failed += 1  # ctest itself went wrong
passed = max(0, total - failed - skipped) + more - more_failed
print(f"{passed} passed, {failed + more_failed} failed, {skipped} skipped")
sys.exit(1 if failed + more_failed else 0)
PYTHON
