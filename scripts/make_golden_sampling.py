"""Reference values of the sampling chain, from transformers' logits processors -> tests/golden/sampling.json.

usage: .venv/bin/python scripts/make_golden_sampling.py
"""
import json
from pathlib import Path

import torch
from transformers.generation import logits_process as hf

VOCAB, CASES, EOS = 48, 24, 5
OUTPUT = Path(__file__).resolve().parents[1] / "tests/golden/sampling.json"


def parameters(random: torch.Generator, case: int) -> dict:
    """Each parameter is at its default in about half of the cases."""
    def maybe(low: float, high: float, default: float) -> float:
        drawn = torch.rand(2, generator=random)
        return default if case == 0 or drawn[0] < 0.5 else round(float(low + (high - low) * drawn[1]), 3)
    return {
        "min_tokens": int(maybe(1, 30, 0)), "repetition_penalty": maybe(0.7, 1.8, 1.0),
        "frequency_penalty": maybe(-1.5, 1.5, 0.0), "presence_penalty": maybe(-1.5, 1.5, 0.0),
        "temperature": maybe(0.3, 1.7, 1.0), "top_k": int(maybe(2, 30, 0)), "top_p": maybe(0.2, 0.95, 1.0),
        "min_p": maybe(0.01, 0.4, 0.0), "bias_id": int(maybe(1, VOCAB, 0)), "bias": maybe(-5, 5, 0.0),
    }


def law(logits: torch.Tensor, prompt: list[int], output: list[int], p: dict) -> torch.Tensor:
    ids = torch.tensor([prompt + output])
    scores = logits[None]
    if p["min_tokens"]:
        scores = hf.MinNewTokensLengthLogitsProcessor(len(prompt), p["min_tokens"], EOS)(ids, scores)
    scores = hf.SequenceBiasLogitsProcessor([[[p["bias_id"]], float(p["bias"])]])(ids, scores)
    scores = hf.RepetitionPenaltyLogitsProcessor(float(p["repetition_penalty"]))(ids, scores)
    # transformers has no OpenAI penalties: their definition, spelt out.
    counts = torch.bincount(torch.tensor(output, dtype=torch.long), minlength=VOCAB)
    scores = scores - p["frequency_penalty"] * counts - p["presence_penalty"] * (counts > 0)
    scores = hf.TemperatureLogitsWarper(float(p["temperature"]))(ids, scores)
    if p["top_k"]:
        scores = hf.TopKLogitsWarper(p["top_k"])(ids, scores)
    if p["top_p"] < 1:
        scores = hf.TopPLogitsWarper(p["top_p"])(ids, scores)
    if p["min_p"] > 0:
        scores = hf.MinPLogitsWarper(p["min_p"])(ids, scores)
    return scores.softmax(-1)[0]


def main():
    random = torch.Generator().manual_seed(12)
    cases = []
    for case in range(CASES):
        logits = 3 * torch.randn(VOCAB, generator=random)
        prompt = torch.randint(VOCAB, (6,), generator=random).tolist()
        output = torch.randint(VOCAB, (case % 14,), generator=random).tolist()
        p = parameters(random, case)
        cases.append({
            "logits": logits.tolist(), "prompt": prompt, "output": output, "stop_tokens": [EOS], **p,
            "law": law(logits, prompt, output, p).tolist(), "logprobs": logits.log_softmax(-1).tolist(),
        })
    OUTPUT.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(f"{OUTPUT}: {len(cases)} cases")


if __name__ == "__main__":
    main()
