"""Reference values of target and draft models, from transformers and plain PyTorch, for tests/target_models and
tests/draft_models. The results are committed under tests/golden; run again only to change them.

usage: .venv/bin/python scripts/make_golden_models.py [tiny] [rope] [smollm2] [draft]     (default: all)
"""
import json
import math
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM, AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig, HunYuanDenseV1Config,
    HunYuanDenseV1ForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
    Qwen2ForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM, Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
SMOLLM2 = ROOT / "models" / "SmolLM2-135M-Instruct"
DOCUMENTS = (37, 20)  # tokens of the two packed documents

SIZES = dict(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, vocab_size=96,
             max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
LLAMA3_ROPE = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=32)

# name: class, config class, differences, transformers-4 style config.json?, sharded?
TINY = {
    "llama": (LlamaForCausalLM, LlamaConfig,
              dict(num_hidden_layers=3, rope_parameters=dict(rope_type="default", rope_theta=500000.0)), False, False),
    "llama3_rope_tied": (LlamaForCausalLM, LlamaConfig,
                         dict(num_hidden_layers=2, tie_word_embeddings=True,
                              rope_parameters=dict(rope_theta=10000.0, **LLAMA3_ROPE)), True, True),
    "mistral_linear_rope": (MistralForCausalLM, MistralConfig,
                            dict(num_hidden_layers=2, sliding_window=None,
                                 rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=10000.0)), True, False),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config,
              dict(num_hidden_layers=2, rope_parameters=dict(rope_type="default", rope_theta=1000000.0)), True, False),
    "qwen3_tied": (Qwen3ForCausalLM, Qwen3Config,
                   dict(num_hidden_layers=8, head_dim=16, tie_word_embeddings=True,
                        rope_parameters=dict(rope_type="default", rope_theta=1000000.0)), False, True),
    "llama_yarn_rope": (LlamaForCausalLM, LlamaConfig,
                        dict(num_hidden_layers=2,
                             rope_parameters=dict(rope_type="yarn", factor=4.0, rope_theta=10000.0,
                                                  original_max_position_embeddings=32)), True, False),
    "qwen3_moe": (Qwen3MoeForCausalLM, Qwen3MoeConfig,
                  dict(num_hidden_layers=3, head_dim=16, num_experts=6, num_experts_per_tok=2, norm_topk_prob=True,
                       moe_intermediate_size=24, mlp_only_layers=[1],
                       rope_parameters=dict(rope_type="default", rope_theta=1000000.0)), False, False),
    "qwen2_moe": (Qwen2MoeForCausalLM, Qwen2MoeConfig,
                  dict(num_hidden_layers=2, num_experts=5, num_experts_per_tok=3, norm_topk_prob=False,
                       moe_intermediate_size=24, shared_expert_intermediate_size=40,
                       rope_parameters=dict(rope_type="default", rope_theta=1000000.0)), False, False),
    "hunyuan_dense": (HunYuanDenseV1ForCausalLM, HunYuanDenseV1Config,
                      dict(num_hidden_layers=2, head_dim=16, tie_word_embeddings=True,
                           rope_parameters=dict(rope_type="dynamic", alpha=1000.0, factor=1.0, beta_fast=32,
                                                beta_slow=1, mscale=1.0, mscale_all_dim=1.0, rope_theta=10000.0)),
                      True, False),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig,
               dict(num_hidden_layers=4, head_dim=16, query_pre_attn_scalar=24, sliding_window=9,
                    layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
                    rope_parameters=dict(
                        full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1000000.0),
                        sliding_attention=dict(rope_type="default", rope_theta=10000.0))), False, False),
}


def randomise(model: torch.nn.Module) -> None:
    """Values at which every part matters: norms away from 1, biases away from 0, attention away from uniform."""
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data = 1 + 0.2 * torch.randn_like(parameter)
        elif name.endswith("bias"):
            parameter.data = 0.3 * torch.randn_like(parameter)
        else:
            parameter.data = torch.randn_like(parameter) / math.sqrt(parameter.shape[-1])


def layer_outputs(model, tokens: torch.Tensor):
    """Logits [N,V], last hidden state after the norm [N,C] and the residual stream after every layer [L,N,C]."""
    outputs = []
    keep = lambda _module, _inputs, output: outputs.append((output[0] if isinstance(output, tuple) else output)[0])
    hooks = [layer.register_forward_hook(keep) for layer in model.model.layers]
    with torch.no_grad():
        result = model(tokens[None], output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    return result.logits[0], result.hidden_states[-1][0], torch.stack(outputs)


def greedy(model, prompt: torch.Tensor, count: int) -> torch.Tensor:
    """The prompt and `count` tokens after it, each the likeliest; end-of-text is a token like the others."""
    out = model.generate(prompt[None], attention_mask=torch.ones_like(prompt[None]), do_sample=False,
                         max_new_tokens=count, min_new_tokens=count, eos_token_id=None, pad_token_id=0)
    return out[0]


def make_version_4(file: Path) -> None:
    """Rewrites a config.json as transformers 4 wrote it."""
    config = json.loads(file.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] in ("linear", "dynamic"):
        rope["type"] = rope.pop("rope_type")  # the older key
    config["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    if config["model_type"] == "qwen2":
        config.pop("head_dim", None)
    config["transformers_version"] = "4.51.0"
    file.write_text(json.dumps(config, indent=2) + "\n")


def make_tiny() -> None:
    for seed, (name, (model_class, config_class, differences, version_4, sharded)) in enumerate(TINY.items()):
        torch.manual_seed(seed)
        config = config_class(**{**SIZES, **differences}, attn_implementation="eager")
        model = model_class(config).eval()
        randomise(model)
        directory = GOLDEN / "models" / name
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.iterdir():
            old.unlink()
        model.save_pretrained(directory, max_shard_size="60KB" if sharded else "1GB")
        (directory / "generation_config.json").unlink(missing_ok=True)
        if version_4:
            make_version_4(directory / "config.json")
        documents = [torch.randint(0, config.vocab_size, (n,)) for n in DOCUMENTS]
        parts = [layer_outputs(model, tokens) for tokens in documents]
        save_file({
            "tokens": torch.cat(documents),
            "q_start": torch.tensor([0, DOCUMENTS[0], sum(DOCUMENTS)], dtype=torch.int32),
            "logits": torch.cat([p[0] for p in parts]),
            "hidden": torch.cat([p[1] for p in parts]),
            "layers": torch.cat([p[2] for p in parts], 1).contiguous(),
            "greedy": greedy(model, documents[0][:9], 24),
        }, directory / "values.safetensors")
        print(f"{directory.relative_to(ROOT)}: {sum(f.stat().st_size for f in directory.iterdir()) // 1024} KiB")


YARN = dict(rope_type="yarn", rope_theta=1000000.0, factor=4.0, original_max_position_embeddings=32768)
ROPES = {
    "default": dict(rope_type="default", rope_theta=500000.0),
    "linear": dict(rope_type="linear", rope_theta=10000.0, factor=2.5),
    "dynamic": dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0),
    "llama3": dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=8192),
    "yarn": YARN,
    "yarn_attention_factor": YARN | dict(attention_factor=0.75),
    "yarn_mscale": YARN | dict(factor=40.0, mscale=1.0, mscale_all_dim=0.5, original_max_position_embeddings=4096),
    "yarn_no_truncate": YARN | dict(truncate=False, beta_fast=24.0, beta_slow=2.0),
    "dynamic_alpha": dict(rope_type="dynamic", rope_theta=10000.0, factor=1.0, alpha=1000.0),
}


def make_rope() -> None:
    """Frequencies and attention factors of every rope type at a real size, from transformers' own functions."""
    entries = []
    for name, rope in ROPES.items():
        head_dim, length = 128, 131072
        shape = dict(hidden_size=256, num_attention_heads=2, head_dim=head_dim, max_position_embeddings=length)
        if "alpha" in rope:
            config = HunYuanDenseV1Config(**shape, rope_parameters=dict(rope))
            frequencies, factor = type(HunYuanDenseV1ForCausalLM(
                HunYuanDenseV1Config(**shape, num_hidden_layers=1, intermediate_size=8, vocab_size=8,
                                     rope_parameters=dict(rope))).model.rotary_emb
            ).compute_ntk_alpha_rope_parameters(config)
        elif name == "default":
            exponent = torch.arange(0, head_dim, 2, dtype=torch.float) / head_dim
            frequencies, factor = 1.0 / (rope["rope_theta"] ** exponent), 1.0
        else:
            frequencies, factor = ROPE_INIT_FUNCTIONS[rope["rope_type"]](LlamaConfig(**shape, rope_parameters=dict(rope)))
        entries.append({"name": name, "head_dim": head_dim, "attention_factor": float(factor),
                        "config": {"max_position_embeddings": length, "rope_parameters": rope},
                        "inverse_frequencies": frequencies.tolist()})
    (GOLDEN / "rope.json").write_text(json.dumps(entries, indent=1) + "\n")
    print("tests/golden/rope.json", (GOLDEN / "rope.json").stat().st_size // 1024, "KiB")


PROMPTS = (
    "What is the capital of France?",
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did "
    "Natalia sell altogether in April and May?",
    "Write a Python function that returns the n-th Fibonacci number, and explain in two sentences why it is correct.",
)


def make_smollm2() -> None:
    """Three prompts in bf16 (what we compute) and f32 (the truth both approximate): of every row the likeliest tokens'
    logits, of every eighth row the captured states, and more of the last row."""
    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2)
    models = {dtype: AutoModelForCausalLM.from_pretrained(SMOLLM2, dtype=dtype).eval()
              for dtype in (torch.bfloat16, torch.float32)}
    captured = [1, 14, 26]
    values = {}
    for i, prompt in enumerate(PROMPTS):
        text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True,
                                             tokenize=False)
        tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids[0]
        exact, _, exact_layers = layer_outputs(models[torch.float32], tokens)
        half, _, half_layers = layer_outputs(models[torch.bfloat16], tokens)
        top, every = exact[-1].topk(64), exact.topk(16)
        rows = torch.arange(len(tokens) - 1, -1, -8)
        values |= {
            f"{i}.tokens": tokens,
            f"{i}.top_ids": top.indices,
            f"{i}.top_f32": top.values,
            f"{i}.top_bf16": half[-1][top.indices].float(),
            f"{i}.argmax_bf16": half.argmax(-1),
            f"{i}.argmax_f32": exact.argmax(-1),
            f"{i}.row_top_ids": every.indices.int(),
            f"{i}.row_top_f32": every.values,
            f"{i}.row_top_bf16": half.gather(1, every.indices),
            f"{i}.rows": rows,
            f"{i}.captured_f32": torch.cat([exact_layers[j, rows] for j in captured], 1),
            f"{i}.captured_bf16": torch.cat([half_layers[j, rows] for j in captured], 1),
        }
    save_file(values, GOLDEN / "smollm2.safetensors")
    print("tests/golden/smollm2.safetensors", (GOLDEN / "smollm2.safetensors").stat().st_size // 1024, "KiB")


# ---------------------------------------------------------------------------------------------------------------------
# The draft, written down plainly: one decoder layer over [norm(embedding) | norm(hidden)], unrolled for three steps of
# the training-time test. At step k row t sees the keys of step 0 up to t and its own key of every later step.
DRAFT = dict(hidden=32, intermediate=48, heads=4, kv_heads=2, head_dim=8, vocab=96, draft_vocab=40, captured=3)
STEPS = 3


def draft_shapes() -> dict[str, tuple[int, ...]]:
    c, kv = DRAFT, DRAFT["kv_heads"] * DRAFT["head_dim"]
    q = c["heads"] * c["head_dim"]
    return {
        "fc.weight": (c["hidden"], c["captured"] * c["hidden"]),
        "midlayer.hidden_norm.weight": (c["hidden"],),
        "midlayer.input_layernorm.weight": (c["hidden"],),
        "midlayer.post_attention_layernorm.weight": (c["hidden"],),
        "midlayer.self_attn.q_proj.weight": (q, 2 * c["hidden"]),
        "midlayer.self_attn.k_proj.weight": (kv, 2 * c["hidden"]),
        "midlayer.self_attn.v_proj.weight": (kv, 2 * c["hidden"]),
        "midlayer.self_attn.o_proj.weight": (c["hidden"], q),
        "midlayer.mlp.gate_proj.weight": (c["intermediate"], c["hidden"]),
        "midlayer.mlp.up_proj.weight": (c["intermediate"], c["hidden"]),
        "midlayer.mlp.down_proj.weight": (c["hidden"], c["intermediate"]),
        "norm.weight": (c["hidden"],),
        "lm_head.weight": (c["draft_vocab"], c["hidden"]),
    }


def rms_norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def rotate(x, positions):
    half = x.shape[-1] // 2
    angle = positions[:, None].double() * 500000.0 ** (-torch.arange(half).double() / half)
    cos, sin = (f(angle).to(x.dtype)[:, None] for f in (torch.cos, torch.sin))
    return torch.cat([x[..., :half] * cos - x[..., half:] * sin, x[..., half:] * cos + x[..., :half] * sin], -1)


def draft_step(w, embedded, hidden, positions, past):
    n, d = len(hidden), DRAFT["head_dim"]
    u = torch.cat([rms_norm(embedded, w["midlayer.input_layernorm.weight"]),
                   rms_norm(hidden, w["midlayer.hidden_norm.weight"])], -1)
    heads = lambda name: (u @ w[f"midlayer.self_attn.{name}_proj.weight"].T).view(n, -1, d)
    groups = DRAFT["heads"] // DRAFT["kv_heads"]
    q = rotate(heads("q"), positions)
    past.append((rotate(heads("k"), positions).repeat_interleave(groups, 1), heads("v").repeat_interleave(groups, 1)))
    scores = [torch.einsum("nhd,mhd->hnm", q, past[0][0]).masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)]
    scores += [(q * k).sum(-1).T[..., None] for k, _ in past[1:]]
    weights = torch.softmax(torch.cat(scores, -1) / math.sqrt(d), -1)
    mixed = torch.einsum("hnm,mhd->nhd", weights[..., :n], past[0][1])
    for i, (_, v) in enumerate(past[1:]):
        mixed = mixed + weights[..., n + i].T[..., None] * v
    hidden = hidden + mixed.reshape(n, -1) @ w["midlayer.self_attn.o_proj.weight"].T
    x = rms_norm(hidden, w["midlayer.post_attention_layernorm.weight"])
    inner = F.silu(x @ w["midlayer.mlp.gate_proj.weight"].T) * (x @ w["midlayer.mlp.up_proj.weight"].T)
    hidden = hidden + inner @ w["midlayer.mlp.down_proj.weight"].T
    return hidden, rms_norm(hidden, w["norm.weight"])


def make_draft() -> None:
    torch.manual_seed(100)
    rows = 23
    # Drawn in f32, computed in f64: what our f32 code is compared with has no error of its own.
    w = {}
    for name, shape in draft_shapes().items():
        value = 1 + 0.2 * torch.randn(shape) if len(shape) == 1 else torch.randn(shape) / math.sqrt(shape[-1])
        w[name] = value.double().requires_grad_()
    embed = torch.randn(DRAFT["vocab"], DRAFT["hidden"])
    captured = torch.randn(rows, DRAFT["captured"] * DRAFT["hidden"])
    tokens = torch.randint(0, DRAFT["vocab"], (STEPS, rows))
    weights = torch.randn(STEPS, rows, DRAFT["draft_vocab"])
    values = {f"param.{k}": v.detach().float() for k, v in w.items()}
    values |= {"embed": embed, "captured": captured, "tokens": tokens, "loss_weights": weights}
    hidden, past, loss = captured.double() @ w["fc.weight"].T, [], 0.0
    values["fused"] = hidden.detach().float()
    for k in range(STEPS):
        hidden, normed = draft_step(w, embed.double()[tokens[k]], hidden, torch.arange(rows) + k, past)
        logits = normed @ w["lm_head.weight"].T
        loss = loss + (logits * weights[k]).sum()
        values |= {f"{k}.hidden": hidden.detach().float(), f"{k}.logits": logits.detach().float()}
    loss.backward()
    values |= {f"grad.{k}": v.grad.float() for k, v in w.items()}
    save_file({k: v.contiguous() for k, v in values.items()}, GOLDEN / "draft.safetensors")
    print("tests/golden/draft.safetensors", (GOLDEN / "draft.safetensors").stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[1:] or ["tiny", "rope", "smollm2", "draft"]
    for part in wanted:
        {"tiny": make_tiny, "rope": make_rope, "smollm2": make_smollm2, "draft": make_draft}[part]()
