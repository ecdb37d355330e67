"""Reference values of the training ops and all their gradients, in f64 by PyTorch's own autograd and written densely.

usage: .venv/bin/python scripts/make_golden_kernels.py  ->  tests/golden/kernels/*.bin

A file is a list of named tensors: i32 count, then for each: i32 name length, name, i32 dtype (0 f32, 1 i64), i32 rank,
i64 sizes, data. Inputs are rounded to f32 (weights and activations to values that bf16 holds), so that both sides start
from equal numbers.
"""
import math
import pathlib
import struct

import torch
import torch.nn.functional as F

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "kernels"


def write(name, tensors):
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / f"{name}.bin", "wb") as file:
        file.write(struct.pack("<i", len(tensors)))
        for key, tensor in tensors.items():
            tensor = tensor.detach().contiguous()
            whole = tensor.dtype in (torch.int64, torch.int32, torch.bool)
            tensor = tensor.to(torch.int64 if whole else torch.float32)
            file.write(struct.pack("<i", len(key)) + key.encode())
            file.write(struct.pack("<ii", int(whole), tensor.dim()))
            file.write(struct.pack(f"<{tensor.dim()}q", *tensor.shape))
            file.write(tensor.numpy().tobytes())


def leaf(*shape, scale=1.0):
    """Values that bf16 holds exactly."""
    return (torch.randn(*shape) * scale).bfloat16().double().requires_grad_()


def with_grads(output, inputs):
    """Gradients of sum(output * d_output) for a fixed random d_output."""
    d_output = torch.randn(output.shape).bfloat16().double()
    (output * d_output).sum().backward()
    return {"output": output, "d_output": d_output,
            **{key: value for key, value in inputs.items()},
            **{f"d_{key}": value.grad for key, value in inputs.items() if value.requires_grad}}


def attention(heads, kv_heads, d, lengths, rows, steps):
    """Dense form: every row's softmax over all base keys of its document up to itself and its own step keys."""
    n, r = sum(lengths), len(rows)
    q, k, v = leaf(r, heads, d), leaf(n, kv_heads, d), leaf(n, kv_heads, d)
    step_k, step_v = [leaf(r, kv_heads, d) for _ in range(steps)], [leaf(r, kv_heads, d) for _ in range(steps)]
    document = torch.cat([torch.full((x,), i) for i, x in enumerate(lengths)])
    rows = torch.tensor(rows)
    seen = (document[rows][:, None] == document[None]) & (torch.arange(n)[None] <= rows[:, None])
    many = lambda x: x.repeat_interleave(heads // kv_heads, 1)
    base = torch.einsum("rhd,nhd->hrn", q, many(k)).masked_fill(~seen, -math.inf)
    own = [(q * many(x)).sum(-1).T[..., None] for x in step_k]
    p = torch.softmax(torch.cat([base] + own, -1) / math.sqrt(d), -1)
    out = torch.einsum("hrn,nhd->rhd", p[..., :n], many(v))
    for i, x in enumerate(step_v):
        out = out + p[..., n + i].T[..., None] * many(x)
    inputs = {"q": q, "k": k, "v": v, **{f"k_step{i}": x for i, x in enumerate(step_k)},
              **{f"v_step{i}": x for i, x in enumerate(step_v)}}
    starts = torch.cumsum(torch.tensor([0] + lengths), 0)
    return {**with_grads(out, inputs), "rows": rows, "q_start": starts}


def head_loss(teachers, c, vocab, draft_vocab, students):
    teacher_hidden, teacher_head = leaf(teachers, c).detach(), leaf(vocab, c, scale=0.5).detach()
    target_of = torch.sort(torch.randperm(vocab)[:draft_vocab])[0]
    draft_of = torch.full((vocab,), -1)
    draft_of[target_of] = torch.arange(draft_vocab)
    hidden, head = leaf(students, c), leaf(draft_vocab, c, scale=0.5)
    teacher_row, weight = torch.randint(0, teachers, (students,)), torch.rand(students).float().double()
    full = (teacher_hidden @ teacher_head.T)[teacher_row]
    label = draft_of[full.argmax(-1)]
    known = label >= 0
    log_p, log_q = F.log_softmax(full[:, target_of], -1), F.log_softmax(hidden @ head.T, -1)
    loss = (log_p.exp() * (log_p - log_q)).sum(-1) * known
    alpha = torch.minimum(torch.softmax(full, -1)[:, target_of], log_q.exp()).sum(-1)
    total = (loss * weight).sum()
    total.backward()
    return {"teacher_hidden": teacher_hidden, "teacher_head": teacher_head, "target_of": target_of, "draft_of": draft_of,
            "hidden": hidden, "head": head, "teacher_row": teacher_row, "row_weight": weight, "loss": loss,
            "hit": (log_q.argmax(-1) == label), "in_vocab": known, "alpha": alpha, "total": total,
            "d_hidden": hidden.grad, "d_head": head.grad}


LK_SCALE, LK_DECAY = 0.8, 2.0


def losses_of(log_p, log_q, p_full, label):
    """Every loss a row, by name; w of lk_lambda gets no gradient."""
    p, q = log_p.exp(), log_q.exp()
    divergence = lambda log_a, log_b: (log_a.exp() * (log_a - log_b)).sum(-1)
    log_m = ((p + q) / 2).log()
    alpha = torch.minimum(p_full, q).sum(-1)
    w = LK_SCALE * torch.exp(-LK_DECAY * alpha.detach())
    return {
        "kl": divergence(log_p, log_q), "reverse_kl": divergence(log_q, log_p),
        "js": (divergence(log_p, log_m) + divergence(log_q, log_m)) / 2,
        "ce": -log_q.gather(1, label.clamp(min=0)[:, None])[:, 0],
        "tv": 1 - alpha, "lk_alpha": -alpha.log(),
        "lk_lambda": w * divergence(log_p, log_q) + (1 - w) * (1 - alpha),
    }


def head_losses(teachers, c, vocab, draft_vocab, students):
    """Values and gradients of every loss on one set of inputs."""
    teacher_hidden, teacher_head = leaf(teachers, c).detach(), leaf(vocab, c, scale=0.5).detach()
    target_of = torch.sort(torch.randperm(vocab)[:draft_vocab])[0]
    draft_of = torch.full((vocab,), -1)
    draft_of[target_of] = torch.arange(draft_vocab)
    hidden, head = leaf(students, c), leaf(draft_vocab, c, scale=0.5)
    teacher_row, weight = torch.randint(0, teachers, (students,)), torch.rand(students).float().double()
    full = (teacher_hidden @ teacher_head.T)[teacher_row]
    label = draft_of[full.argmax(-1)]
    out = {"teacher_hidden": teacher_hidden, "teacher_head": teacher_head, "target_of": target_of, "draft_of": draft_of,
           "hidden": hidden, "head": head, "teacher_row": teacher_row, "row_weight": weight}
    for name in losses_of(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1).long()):
        log_p, log_q = F.log_softmax(full[:, target_of], -1), F.log_softmax(hidden @ head.T, -1)
        loss = losses_of(log_p, log_q, torch.softmax(full, -1)[:, target_of], label)[name] * (label >= 0)
        d_hidden, d_head = torch.autograd.grad((loss * weight).sum(), (hidden, head))
        out |= {f"{name}.loss": loss, f"{name}.d_hidden": d_hidden, f"{name}.d_head": d_head}
    return out


def linear(n, i, o):
    x, w = leaf(n, i), leaf(o, i, scale=0.2)
    return with_grads(x @ w.T, {"x": x, "weight": w})


def rms_norm(n, c, eps):
    x, w = leaf(n, c), leaf(c)
    return with_grads(x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * w, {"x": x, "weight": w})


def swiglu(n, i):
    x = leaf(n, 2 * i)
    gate, up = x.chunk(2, -1)
    return with_grads(F.silu(gate) * up, {"gate_up": x})


def rope(n, heads, d):
    x, positions = leaf(n, heads, d), torch.randint(0, 50, (n,))
    inverse = (1 / 10000.0 ** (torch.arange(0, d, 2).float() / d))
    angle = (positions[:, None].float() * inverse).double()[:, None]  # f32 products, as the op makes them
    a, b = x.chunk(2, -1)
    y = torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)
    return {**with_grads(y, {"x": x}), "positions": positions, "inverse_frequencies": inverse}


def main():
    torch.manual_seed(3)
    write("ttt_attention", attention(6, 2, 16, [37, 1, 20], sorted(torch.randperm(58)[:31].tolist()), 3))
    write("packed_attention", attention(4, 4, 32, [33, 7], list(range(40)), 0))
    write("head_loss", head_loss(9, 64, 300, 96, 40))
    write("linear", linear(21, 64, 48))
    write("rms_norm", rms_norm(13, 80, 1e-5))
    write("swiglu", swiglu(11, 48))
    write("rope", rope(12, 3, 16))
    write("head_losses", head_losses(7, 32, 120, 48, 24))


main()
