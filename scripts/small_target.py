"""What scripts/train_reader.py and scripts/train_recogniser.py share: both train a small target of some modality from
nothing, on samples that they make themselves, and write the rows that its draft is trained and measured on."""
import argparse
import json
import math
import os
import random
import time
from abc import ABC, abstractmethod
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin beside another program starve both

import torch  # noqa: E402

from tiny_media import Dialect  # noqa: E402

ROWS = {"heldout": 100, "bench": 60}  # lines beside those that the draft is trained on


class Task(ABC):
    """What a target is asked to write down: texts, and the media that show them."""
    dialect: Dialect
    suffix: str  # of the media's files

    @abstractmethod
    def draw(self, split: str, share: float, rng: random.Random) -> str:
        """A text of at most this share of the full length; what "train" draws, the other splits never draw."""

    @abstractmethod
    def make(self, text: str, rng: random.Random):
        """The medium that shows it."""

    @abstractmethod
    def save(self, medium, path: Path) -> None: ...

    @abstractmethod
    def inputs(self, media: list) -> tuple[dict, list[int]]:
        """What the network takes of them, and how many tokens stand for each."""

    def inputs_of_tokens(self, ids: torch.Tensor) -> dict:
        """What else the network wants to know."""
        return {}

    @abstractmethod
    def make_model(self) -> torch.nn.Module: ...

    @abstractmethod
    def write_preprocessor(self, directory: Path) -> None: ...


class Batches:
    """Texts and their media as the network's inputs, padded behind the answers."""

    def __init__(self, task: Task):
        self.task, self.tokenizer = task, task.dialect.tokenizer()
        self.end = task.dialect.ids()["<|im_end|>"]
        d = task.dialect
        prompt = f"<|im_start|>user\n{d.begin}{d.placeholder}{d.end}<|im_end|>\n<|im_start|>assistant\n"
        self.prompt = self.tokenizer.encode(prompt).ids

    def __call__(self, texts: list[str], rng: random.Random) -> tuple[dict, torch.Tensor]:
        media, counts = self.task.inputs([self.task.make(text, rng) for text in texts])
        prompts = [self.task.dialect.expand(self.prompt, [count]) for count in counts]
        answers = [self.tokenizer.encode(text).ids + [self.end] for text in texts]
        longest = max(len(p) + len(a) for p, a in zip(prompts, answers))
        ids, labels = torch.full((len(texts), longest), self.end), torch.full((len(texts), longest), -100)
        for i, (prompt, answer) in enumerate(zip(prompts, answers)):
            whole = len(prompt) + len(answer)
            ids[i, :whole] = torch.tensor(prompt + answer)
            labels[i, len(prompt):whole] = torch.tensor(answer)
        return dict(input_ids=ids, **media, **self.task.inputs_of_tokens(ids)), labels[:, 1:]


def train(model, batches: Batches, flags) -> None:
    """Texts grow to their full length in the first part of the steps: where to look is learnt on short ones."""
    rng, task = random.Random(1), batches.task
    optimizer = torch.optim.AdamW(model.parameters(), lr=flags.lr, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    start, recent = time.process_time(), []
    for step in range(1, flags.steps + 1):
        done = step / flags.steps
        for group in optimizer.param_groups:
            group["lr"] = flags.lr * min(1, step / 100) * (0.03 + 0.97 * (1 + math.cos(math.pi * done)) / 2)
        share = min(1.0, 0.04 + 1.6 * done)
        inputs, labels = batches([task.draw("train", share, rng) for _ in range(flags.batch)], rng)
        logits = model(**inputs).logits[:, :-1]
        kept = labels != -100
        loss = torch.nn.functional.cross_entropy(logits[kept], labels[kept])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent = recent[-49:] + [loss.item()]
        if step % 50 == 0 or step == flags.steps:
            print(f"step {step}: loss {sum(recent) / len(recent):.3f}, length {share:.0%}, "
                  f"{time.process_time() - start:.0f} s of processor time", flush=True)
    model.eval()


def errors(model, batches: Batches, texts: list[str]) -> float:
    """Share of wrong characters, each after the right ones before it."""
    with torch.no_grad():
        inputs, labels = batches(texts, random.Random(3))
        wrong = (model(**inputs).logits[:, :-1].argmax(-1) != labels) & (labels != -100)
    return wrong.sum().item() / (labels != -100).sum().item()


def write_rows(task: Task, output: Path, split: str, count: int, rng: random.Random) -> None:
    (output / "media").mkdir(exist_ok=True)
    with open(output / f"{split}_prompts.jsonl", "w") as file:
        for i in range(count):
            text, path = task.draw(split, 1.0, rng), f"media/{split}-{i}{task.suffix}"
            task.save(task.make(text, rng), output / path)
            part = {"type": task.dialect.kind, task.dialect.kind: path}
            file.write(json.dumps({"id": f"{split}-{i}", "truth": text,
                                   "conversations": [{"role": "user", "content": [part]}]}) + "\n")


def main(task: Task, description: str, steps: int, lines: int) -> None:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--lines", type=int, default=lines, help="what the draft is trained on")
    flags = parser.parse_args()
    part = flags.output / "target.part"  # target/ is there when all of it is
    part.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    rng = random.Random(2)
    for split, count in {"train": flags.lines, **ROWS}.items():
        write_rows(task, flags.output, split, count, rng)
    task.dialect.write_text_files(part)
    task.write_preprocessor(part)
    model, batches = task.make_model(), Batches(task)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {torch.get_num_threads()} threads", flush=True)
    train(model, batches, flags)
    wrong = errors(model, batches, [task.draw("heldout", 1.0, rng) for _ in range(100)])
    print(f"held out: {wrong:.2%} of the characters wrong, each after the right ones before it")
    model.to(torch.bfloat16).save_pretrained(part)
    (part / "generation_config.json").unlink(missing_ok=True)
    part.rename(flags.output / "target")
