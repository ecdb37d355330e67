"""vLLM's CPU build as its users run it, in a Python of its own, for its torch is another one than ours: greedy answers,
with the counts and the seconds that they took.

usage: vllm_runs.py JOB.json RESULT.json
job: {"model", "dtype", "draft": path or null, "draft_tokens", "compiled", "threads", "ignore_eos",
      "runs": [{"prompts": [[id]], "length"}]}
result: {"runs": [{"answers": [[id]], "seconds", "steps", "accepted"}]}, the last two of the draft
"""
import json
import os
import sys
import time

job = json.load(open(sys.argv[1]))
os.environ.update({
    "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": f"0-{job['threads'] - 1}",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
})

from vllm import LLM, SamplingParams


def counts(engine: LLM) -> tuple[int, int]:
    values = {metric.name: getattr(metric, "value", 0) for metric in engine.get_metrics()}
    return tuple(values.get(f"vllm:spec_decode_num_{what}", 0) for what in ("drafts", "accepted_tokens"))


def run(engine: LLM, prompts: list[list[int]], length: int) -> dict:
    before, start = counts(engine), time.perf_counter()
    made = engine.generate([{"prompt_token_ids": ids} for ids in prompts], use_tqdm=False,
                           sampling_params=SamplingParams(temperature=0, max_tokens=length, detokenize=False,
                                                          ignore_eos=job["ignore_eos"]))
    seconds = time.perf_counter() - start
    steps, accepted = (after - earlier for after, earlier in zip(counts(engine), before))
    return {"answers": [list(output.outputs[0].token_ids) for output in made], "seconds": seconds,
            "steps": steps, "accepted": accepted}


def main() -> None:
    speculative = {"method": "eagle3", "model": job["draft"], "num_speculative_tokens": job["draft_tokens"]}
    engine = LLM(job["model"], dtype=job["dtype"], max_model_len=2560, enforce_eager=not job["compiled"],
                 speculative_config=speculative if job["draft"] else None, disable_log_stats=False,
                 enable_prefix_caching=False, max_num_seqs=16, seed=0)
    result = {"runs": [run(engine, part["prompts"], part["length"]) for part in job["runs"]]}
    json.dump(result, open(sys.argv[2], "w"))


if __name__ == "__main__":
    main()
