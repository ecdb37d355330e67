"""llama.cpp as its users run it, by way of the wheel `xllamacpp`: a server in this process, asked over HTTP."""
import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import xllamacpp

EAGLE3 = xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_EAGLE3


@dataclass
class Answer:
    tokens: list[int]
    drafted: int = 0
    accepted: int = 0
    prompt_rate: float = 0  # tokens/s, as llama.cpp measures them itself
    decode_rate: float = 0


class Server:
    def __init__(self, target: Path, draft: Path | None = None, draft_tokens: int = 0, threads: int = 1,
                 wide: bool = False):
        """`wide`: keys and values are kept as f32."""
        params = xllamacpp.CommonParams()
        params.model.path = str(target)
        params.n_ctx, params.n_parallel, params.warmup, params.fit_params = 1024, 1, False, False
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.verbosity = 0
        if wide:
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        if draft:
            speculative = params.speculative
            speculative.types = [EAGLE3]
            speculative.draft.mparams.path = str(draft)
            speculative.draft.n_max, speculative.draft.n_min, speculative.draft.p_min = draft_tokens, 0, 0.0
            speculative.draft.cpuparams.n_threads = speculative.draft.cpuparams_batch.n_threads = threads
        self.server = xllamacpp.Server(params)

    def complete(self, prompt: list[int], length: int) -> Answer:
        """The greedy continuation of token ids."""
        request = {"prompt": prompt, "n_predict": length, "temperature": 0, "top_k": 1, "return_tokens": True,
                   "cache_prompt": False}
        url = self.server.listening_address + "/completion"
        body = urllib.request.Request(url, json.dumps(request).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(body, timeout=600) as reply:
            answer = json.loads(reply.read())
        timings = answer["timings"]
        return Answer(answer["tokens"], timings.get("draft_n", 0), timings.get("draft_n_accepted", 0),
                      timings["prompt_per_second"], timings["predicted_per_second"])
