#!/usr/bin/env python3
"""The training step of a plain PyTorch trainer in fp32, timed: what scripts/benchmark_training.sh compares ours with.
The draft and the loss are those of trainer/ (eagle3: unroll over K depths, mask, soft labels, AdamW), written the usual
way: every row at every depth, one attention matrix, masked losses.

usage: training_reference.py TARGET ROWS.jsonl [--unroll 7 --draft-vocab 8192 --pack 2048 --steps 2 --threads 2]
ROWS.jsonl holds {"input_ids", "loss_mask"}. Prints one JSON object.
"""
import argparse
import json
import math
import resource
import time

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("target")
parser.add_argument("rows")
parser.add_argument("--unroll", type=int, default=7)
parser.add_argument("--draft-vocab", type=int, default=8192)
parser.add_argument("--pack", type=int, default=2048)
parser.add_argument("--steps", type=int, default=2)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(0)

target = AutoModelForCausalLM.from_pretrained(args.target, dtype=torch.float32).eval().requires_grad_(False)
c = target.config
D = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
HEADS, KV, EPS = c.num_attention_heads, c.num_key_value_heads, c.rms_norm_eps
TAPS = [1, c.num_hidden_layers // 2 - 1, c.num_hidden_layers - 4]
FREQUENCY = c.rope_parameters["rope_theta"] ** (-torch.arange(0, D, 2) / D)


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c.hidden_size))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * self.weight


class Draft(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        h, inner = c.hidden_size, c.intermediate_size
        self.fc = linear(len(TAPS) * h, h)
        self.q, self.o = linear(2 * h, HEADS * D), linear(HEADS * D, h)
        self.k, self.v = linear(2 * h, KV * D), linear(2 * h, KV * D)
        self.gate, self.up, self.down = linear(h, inner), linear(h, inner), linear(inner, h)
        self.embed_norm, self.hidden_norm, self.mlp_norm, self.norm = Norm(), Norm(), Norm(), Norm()
        self.head = linear(h, args.draft_vocab)

    def rotate(self, x, positions):
        angle = positions[:, None, None] * FREQUENCY
        low, high = x.chunk(2, -1)
        return torch.cat([low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()], -1)

    def step(self, embedded, hidden, positions, keys, values, bias):
        n = len(positions)
        u = torch.cat([self.embed_norm(embedded), self.hidden_norm(hidden)], -1)
        q = self.rotate(self.q(u).view(n, HEADS, D), positions)
        keys.append(self.rotate(self.k(u).view(n, KV, D), positions).repeat_interleave(HEADS // KV, 1))
        values.append(self.v(u).view(n, KV, D).repeat_interleave(HEADS // KV, 1))
        scores = [torch.einsum("nhd,mhd->hnm", q, keys[0]) / math.sqrt(D) + bias]
        scores += [((q * key).sum(-1).T / math.sqrt(D)).unsqueeze(-1) for key in keys[1:]]
        weight = torch.softmax(torch.cat(scores, -1), -1)
        mixed = torch.einsum("hnm,mhd->nhd", weight[..., :n], values[0])
        for i, value in enumerate(values[1:]):
            mixed = mixed + weight[..., n + i].T.unsqueeze(-1) * value
        hidden = hidden + self.o(mixed.reshape(n, -1))
        x = self.mlp_norm(hidden)
        return hidden + self.down(F.silu(self.gate(x)) * self.up(x))


def read_packs():
    pack, size = [], 0
    for line in open(args.rows):
        row = json.loads(line)
        if size + len(row["input_ids"]) > args.pack:
            yield pack
            pack, size = [], 0
        pack.append(row)
        size += len(row["input_ids"])


def ahead(t, steps):
    return torch.cat([t[steps:], torch.zeros_like(t[:steps])])


def hidden_states(pack):
    captured, last = [], []
    with torch.no_grad():
        for row in pack:
            out = target.model(torch.tensor([row["input_ids"]]), output_hidden_states=True)
            captured.append(torch.cat([out.hidden_states[i + 1][0] for i in TAPS], -1))
            last.append(out.last_hidden_state[0])
    return torch.cat(captured), torch.cat(last)


def loss_of(draft, pack, captured, last, keep):
    ids = torch.tensor([t for row in pack for t in row["input_ids"]])
    mask = torch.tensor([m for row in pack for m in row["loss_mask"]], dtype=torch.bool)
    document = torch.cat([torch.full((len(row["input_ids"]),), i) for i, row in enumerate(pack)])
    positions = torch.cat([torch.arange(len(row["input_ids"])) for row in pack])
    n = len(ids)
    causal = (document[:, None] == document) & (torch.arange(n)[:, None] >= torch.arange(n))
    bias = torch.zeros(n, n).masked_fill(~causal, -math.inf)
    known = torch.zeros(c.vocab_size, dtype=torch.bool)
    known[keep] = True
    supervised = lambda k: ahead(mask, k) & (ahead(document, k) == document)
    valid, total, pairs, keys, values = supervised(1), 0.0, 0, [], []
    hidden = draft.fc(captured)
    for k in range(args.unroll):
        valid = valid & supervised(k + 2)
        embedded = target.model.embed_tokens(ahead(ids, k + 1))
        hidden = draft.step(embedded, hidden, positions + k, keys, values, bias)
        with torch.no_grad():
            logits = target.lm_head(ahead(last, k + 1))
            use = valid & known[logits.argmax(-1)]
            p = torch.softmax(logits[:, keep], -1)
        log_q = torch.log_softmax(draft.head(draft.norm(hidden)), -1)
        total = total - 0.8**k * ((p * log_q).sum(-1) * use).sum()
        pairs += int(valid.sum())
    return total / pairs


def main():
    draft, keep = Draft(), torch.randperm(c.vocab_size)[:args.draft_vocab].sort().values
    optimizer = torch.optim.AdamW(draft.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0)
    tokens, target_seconds, draft_seconds = 0, 0.0, 0.0
    for index, pack in enumerate(read_packs()):
        if index > args.steps:
            break
        start = time.perf_counter()
        captured, last = hidden_states(pack)
        middle = time.perf_counter()
        loss_of(draft, pack, captured, last, keep).backward()
        nn.utils.clip_grad_norm_(draft.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if index > 0:  # the first step warms up
            tokens += len(captured)
            target_seconds += middle - start
            draft_seconds += time.perf_counter() - middle
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"tokens": tokens, "draft_tokens_per_s": round(tokens / draft_seconds, 1),
                      "online_tokens_per_s": round(tokens / (draft_seconds + target_seconds), 1),
                      "peak_rss_mb": round(peak)}))


main()
