"""Drafts of known behaviour for SmolLM2, made without training, in the plain dialect."""
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

CAPTURED = [1, 14, 26]  # outputs of these layers, 0-based
NORMS = ("midlayer.hidden_norm", "midlayer.input_layernorm", "midlayer.post_attention_layernorm", "norm")


def draft_config(target: dict, draft_vocab: int) -> dict:
    kept = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size",
            "max_position_embeddings", "rms_norm_eps", "rope_parameters", "hidden_act")
    ids = [layer + 1 for layer in CAPTURED]
    return {"architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "num_hidden_layers": 1,
            **{key: target[key] for key in kept if key in target},
            "draft_vocab_size": draft_vocab, "tie_word_embeddings": False, "eagle_aux_hidden_state_layer_ids": ids,
            "aerie": {"layer_ids": "residual stream after k layers", "capture_layers": CAPTURED,
                      "target_layers": target["num_hidden_layers"]}}


def write(directory: Path, model: Path, wanted: list[int], attention: float, seed: int = 0) -> None:
    """A draft that proposes the token whose features it was just given: a copier of period 2 on what it reads first.

    fc takes the first captured layer, where the token's embedding still shows; the head is the normalised embeddings of
    the draft vocabulary: `wanted` and random ids, shuffled. With `attention` 0 nothing else speaks; above, the outputs of
    random attention and MLP weigh so much, so that every weight, row order and position decides what is proposed.
    """
    target = json.loads((model / "config.json").read_text())
    hidden, inner, head_dim = target["hidden_size"], target["intermediate_size"], target["head_dim"]
    q, kv = target["num_attention_heads"] * head_dim, target["num_key_value_heads"] * head_dim
    with safe_open(model / "model.safetensors", "pt") as file:
        embedding = file.get_tensor("model.embed_tokens.weight").float()
    random = torch.Generator().manual_seed(seed)
    others = torch.randperm(target["vocab_size"], generator=random).tolist()
    ids = list(dict.fromkeys(wanted + others))[:4096]
    ids = torch.tensor(ids)[torch.randperm(4096, generator=random)]

    def noise(rows: int, columns: int, scale: float) -> torch.Tensor:
        return torch.randn(rows, columns, generator=random) * scale / columns**0.5

    rows = embedding[ids]
    tensors = {
        "fc.weight": torch.eye(hidden, 3 * hidden),
        "midlayer.self_attn.q_proj.weight": noise(q, 2 * hidden, 2.0),
        "midlayer.self_attn.k_proj.weight": noise(kv, 2 * hidden, 2.0),
        "midlayer.self_attn.v_proj.weight": noise(kv, 2 * hidden, 1.0),
        "midlayer.self_attn.o_proj.weight": noise(hidden, q, attention),
        "midlayer.mlp.gate_proj.weight": noise(inner, hidden, 1.0),
        "midlayer.mlp.up_proj.weight": noise(inner, hidden, 1.0),
        "midlayer.mlp.down_proj.weight": noise(hidden, inner, attention),
        "lm_head.weight": rows / rows.norm(dim=1, keepdim=True),
        **{f"{name}.weight": torch.ones(hidden) for name in NORMS},
    }
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in tensors.items()}
    tensors["d2t"] = ids - torch.arange(4096)
    tensors["t2d"] = torch.zeros(target["vocab_size"], dtype=torch.bool).index_fill(0, ids, True)
    directory.mkdir(parents=True)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps(draft_config(target, 4096), indent=2))
