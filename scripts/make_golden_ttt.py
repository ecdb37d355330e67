#!/usr/bin/env python3
"""Golden for the training-time test: a dense, double-precision PyTorch form of the loss, its gradients, its metrics
and ten AdamW steps, on a draft of a few thousand parameters. Every row is computed at every depth and masked, with
one [N, N + K] attention matrix a head: nothing here is clever, so that it can be checked by reading.

usage: .venv/bin/python scripts/make_golden_ttt.py     writes tests/golden/ttt.safetensors, and loss and gradients of the
                                                       draft's variants in ttt_<variant>.safetensors
"""
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

C, INNER, HEADS, KV_HEADS, D, TAPS = 16, 24, 4, 2, 8, 3
V, W, K = 12, 9, 4
DECAY, EPS, THETA = 0.8, 1e-5, 10000.0
LR, BETAS, ADAM_EPS, DECAY_WEIGHT, CLIP, WARMUP, STEPS, FINAL = 3e-3, (0.9, 0.95), 1e-8, 0.01, 0.3, 3, 10, 0.1
# Assistant spans of each document: a two-turn chat, a chat whose last turn is too short to train, one without any
# assistant token, and one whose answer ends before the document does.
DOCUMENTS = [(17, [(3, 8), (11, 17)]), (9, [(2, 5), (8, 9)]), (4, []), (13, [(4, 10)])]

PLAIN = dict(layers=1, qk_norm=False, fc_norm=False, norm_output=False, norm_before_residual=False)
VARIANTS = {
    "eagle31": PLAIN | dict(fc_norm=True, norm_output=True),
    "qwen3_deep": PLAIN | dict(layers=2, qk_norm=True, norm_before_residual=True),
}

torch.manual_seed(2)
torch.set_default_dtype(torch.float64)


def single(t):
    """Rounded to float32, so that both sides start from the same numbers."""
    return t.float().double()


def make_batch():
    n = sum(length for length, _ in DOCUMENTS)
    mask, positions, document = torch.zeros(n, dtype=torch.bool), [], []
    start, starts = 0, [0]
    for index, (length, spans) in enumerate(DOCUMENTS):
        for begin, end in spans:
            mask[start + begin:start + end] = True
        positions += range(length)
        document += [index] * length
        start += length
        starts.append(start)
    return {
        "tokens": torch.randint(0, V, (n,)), "positions": torch.tensor(positions),
        "q_start": torch.tensor(starts, dtype=torch.int32), "loss_mask": mask, "document": torch.tensor(document),
        "captured": single(torch.randn(n, TAPS * C)), "last_hidden": single(torch.randn(n, C)),
    }


def layer_prefix(index):
    return "midlayer." if index == 0 else f"layers.{index}."


def parameter_shapes(variant):
    shapes = {"fc.weight": (C, TAPS * C)}
    if variant["fc_norm"]:
        shapes |= {f"fc_norm.{i}.weight": (C,) for i in range(TAPS)}
    for index in range(variant["layers"]):
        width = 2 * C if index == 0 else C
        layer = {
            "hidden_norm": (C,), "input_layernorm": (C,), "post_attention_layernorm": (C,),
            "self_attn.q_proj": (HEADS * D, width), "self_attn.k_proj": (KV_HEADS * D, width),
            "self_attn.v_proj": (KV_HEADS * D, width), "self_attn.o_proj": (C, HEADS * D),
            "mlp.gate_proj": (INNER, C), "mlp.up_proj": (INNER, C), "mlp.down_proj": (C, INNER),
        }
        if index > 0:
            del layer["hidden_norm"]
        if variant["qk_norm"]:
            layer |= {"self_attn.q_norm": (D,), "self_attn.k_norm": (D,)}
        shapes |= {f"{layer_prefix(index)}{name}.weight": shape for name, shape in layer.items()}
    return shapes | {"norm.weight": (C,), "lm_head.weight": (W, C)}


def make_parameters(variant):
    params = {}
    for name, shape in parameter_shapes(variant).items():
        noise = torch.randn(shape)
        params[name] = single(1 + 0.2 * noise if len(shape) == 1 else 0.25 * noise).requires_grad_()
    return params


def rms_norm(x, weight):
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * weight


def rotate(x, positions):
    """Half-split rotary embedding of x [N, heads, D]."""
    frequency = THETA ** (-torch.arange(0, D, 2) / D)
    angle = positions[:, None, None] * frequency
    low, high = x[..., :D // 2], x[..., D // 2:]
    return torch.cat([low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()], -1)


def ahead(t, steps):
    """t[i + steps] at place i, zeros (False) behind the end."""
    return torch.cat([t[steps:], torch.zeros_like(t[:steps])])


def attend(q, keys, values, allowed):
    """Softmax over the base keys that `allowed` shows and over one own key of each later step."""
    group, outputs = HEADS // KV_HEADS, []
    for head in range(HEADS):
        g = head // group
        base = (q[:, head] @ keys[0][:, g].T / math.sqrt(D)).masked_fill(~allowed, -math.inf)
        own = [(q[:, head] * key[:, g]).sum(-1, keepdim=True) / math.sqrt(D) for key in keys[1:]]
        weight = torch.softmax(torch.cat([base, *own], -1), -1)
        n = q.shape[0]
        output = weight[:, :n] @ values[0][:, g]
        for step, value in enumerate(values[1:]):
            output = output + weight[:, n + step, None] * value[:, g]
        outputs.append(output)
    return torch.stack(outputs, 1)


def fuse(params, captured, variant):
    if variant["fc_norm"]:
        captured = torch.cat([rms_norm(part, params[f"fc_norm.{i}.weight"])
                              for i, part in enumerate(captured.split(C, 1))], 1)
    return captured @ params["fc.weight"].T


def run_layer(params, index, u, stream, at, keys, values, causal, variant):
    """One decoder layer; `keys` and `values` of its earlier steps get this step's."""
    weight = lambda name: params[layer_prefix(index) + name + ".weight"]
    n = len(u)
    heads = lambda name: (u @ weight(f"self_attn.{name}_proj").T).view(n, -1, D)
    normed = lambda name, x: rms_norm(x, weight(f"self_attn.{name}_norm")) if variant["qk_norm"] else x
    q = rotate(normed("q", heads("q")), at)
    keys.append(rotate(normed("k", heads("k")), at))
    values.append(heads("v"))
    stream = stream + attend(q, keys, values, causal).reshape(n, -1) @ weight("self_attn.o_proj").T
    x = rms_norm(stream, weight("post_attention_layernorm"))
    return stream + (F.silu(x @ weight("mlp.gate_proj").T) * (x @ weight("mlp.up_proj").T)) @ weight("mlp.down_proj").T


def unroll_loss(params, batch, frozen, variant):
    """-> (loss per pair count, per-depth metrics); the loss is the weighted sum over the number of valid pairs."""
    n, document, mask = len(batch["tokens"]), batch["document"], batch["loss_mask"]
    causal = (document[:, None] == document) & (torch.arange(n)[:, None] >= torch.arange(n))
    same_document = lambda steps: (torch.arange(n) + steps < n) & (ahead(document, steps) == document)
    supervised_ahead = lambda steps: ahead(mask, steps) & same_document(steps)

    hidden = fuse(params, batch["captured"], variant)
    past = [([], []) for _ in range(variant["layers"])]
    total, pairs = 0.0, 0
    valid, chain = supervised_ahead(1), torch.ones(n, dtype=torch.bool)
    metrics = {name: [] for name in ("count", "loss", "hits", "alpha", "chain", "in_vocab")}
    for k in range(K):
        valid = valid & supervised_ahead(k + 2)
        embedding = frozen["embed"][ahead(batch["tokens"], k + 1)]
        features = rms_norm(hidden, params["midlayer.hidden_norm.weight"])
        u = torch.cat([rms_norm(embedding, params["midlayer.input_layernorm.weight"]), features], -1)
        stream = features if variant["norm_before_residual"] else hidden
        for index, (keys, values) in enumerate(past):
            if index > 0:
                u = rms_norm(stream, params[f"layers.{index}.input_layernorm.weight"])
            stream = run_layer(params, index, u, stream, batch["positions"] + k, keys, values, causal, variant)
        normed = rms_norm(stream, params["norm.weight"])
        hidden = normed if variant["norm_output"] else stream

        log_q = torch.log_softmax(normed @ params["lm_head.weight"].T, -1)
        teacher = ahead(batch["last_hidden"], k + 1) @ frozen["head"].T
        best = teacher.argmax(-1)
        p = torch.softmax(teacher[:, frozen["draft_to_target"]], -1)
        p_full = torch.softmax(teacher, -1)[:, frozen["draft_to_target"]]
        in_vocab = frozen["target_to_draft"][best] >= 0
        divergence = (p * (p.log() - log_q)).sum(-1) * in_vocab
        hit = frozen["draft_to_target"][log_q.argmax(-1)] == best
        chain = chain & hit & valid
        total = total + DECAY ** k * divergence[valid].sum()
        pairs += int(valid.sum())
        alpha = torch.minimum(p_full, log_q.exp()).sum(-1)
        for name, value in (("count", valid), ("loss", divergence * valid), ("hits", hit & valid), ("chain", chain),
                            ("alpha", alpha * valid), ("in_vocab", in_vocab & valid)):
            metrics[name].append(value.sum().item())
    return total / pairs, metrics


def learning_rate(step):
    if step < WARMUP:
        return LR * (step + 1) / WARMUP
    progress = min(1.0, (step + 1 - WARMUP) / (STEPS - WARMUP))
    return LR * (FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * progress)))


def make_frozen():
    draft_to_target = torch.randperm(V)[:W].sort().values
    target_to_draft = torch.full((V,), -1)
    target_to_draft[draft_to_target] = torch.arange(W)
    return {"embed": single(torch.randn(V, C)), "head": single(torch.randn(V, C)),
            "draft_to_target": draft_to_target, "target_to_draft": target_to_draft}


def save(name, values):
    path = Path(__file__).resolve().parent.parent / f"tests/golden/{name}.safetensors"
    save_file({key: (t.float() if t.dtype == torch.float64 else t).contiguous() for key, t in values.items()}, path)
    return path


def make_variant(name, variant):
    torch.manual_seed(7)
    batch, params, frozen = make_batch(), make_parameters(variant), make_frozen()
    loss, _ = unroll_loss(params, batch, frozen, variant)
    loss.backward()
    out = {"batch." + key: value for key, value in batch.items() if key != "document"} | frozen
    out |= {"param." + key: p.detach() for key, p in params.items()}
    out |= {"grad." + key: p.grad for key, p in params.items()}
    path = save(f"ttt_{name}", out | {"loss": loss.detach()})
    print(f"{path.name}: {path.stat().st_size} bytes, loss {loss.item():.4f}")


def main():
    for name, variant in VARIANTS.items():
        make_variant(name, variant)
    torch.manual_seed(2)
    batch, params = make_batch(), make_parameters(PLAIN)
    frozen = make_frozen()

    out = {"batch." + name: value for name, value in batch.items() if name != "document"}
    out |= frozen | {"param." + name: p.detach().clone() for name, p in params.items()}
    optimizer = torch.optim.AdamW(params.values(), lr=LR, betas=BETAS, eps=ADAM_EPS, weight_decay=DECAY_WEIGHT)
    losses, norms, rates = [], [], []
    for step in range(STEPS):
        loss, metrics = unroll_loss(params, batch, frozen, PLAIN)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            out |= {"grad." + name: p.grad.clone() for name, p in params.items()}
            out |= {"metric." + name: torch.tensor(value) for name, value in metrics.items()}
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(params.values(), CLIP).item())
        rates.append(learning_rate(step))
        for group in optimizer.param_groups:
            group["lr"] = rates[-1]
        optimizer.step()
    out |= {"trained." + name: p.detach() for name, p in params.items()}
    out |= {"losses": torch.tensor(losses), "norms": torch.tensor(norms), "rates": torch.tensor(rates)}
    path = save("ttt", out)
    print(f"{path.name}: {path.stat().st_size} bytes, losses {losses[0]:.4f} -> {losses[-1]:.4f}, norms {norms[0]:.3f}",
          metrics["count"], metrics["hits"], metrics["chain"])


main()
