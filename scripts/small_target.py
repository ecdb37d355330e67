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
# Products of so few rows gain a quarter by a second thread, and lose everything where another program wants its core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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
    def tower_loss(self, model, media: dict, texts: list[list[int]], counts: list[int]) -> torch.Tensor:
        """What the tower's output would say through the head by itself, against the texts' tokens."""

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

    def __call__(self, texts: list[str], rng: random.Random):
        """-> inputs, labels of all rows but the first"""
        media, counts = self.task.inputs([self.task.make(text, rng) for text in texts])
        prompts = [self.task.dialect.expand(self.prompt, [count]) for count in counts]
        answers = [self.tokenizer.encode(text).ids for text in texts]
        longest = max(len(p) + len(a) + 1 for p, a in zip(prompts, answers))
        ids, labels = torch.full((len(texts), longest), self.end), torch.full((len(texts), longest), -100)
        for i, (prompt, answer) in enumerate(zip(prompts, answers)):
            whole = len(prompt) + len(answer) + 1
            ids[i, :whole] = torch.tensor(prompt + answer + [self.end])
            labels[i, len(prompt):whole] = ids[i, len(prompt):whole]
        return dict(input_ids=ids, **media, **self.task.inputs_of_tokens(ids)), labels[:, 1:]


class Training:
    """First the tower alone learns the characters, many a step for little; then the language model learns where to look,
    on texts that grow to their full length. The state is on disk every SAVE_EVERY steps: a kill costs a minute."""
    SAVE_EVERY = 50

    def __init__(self, task: Task, flags):
        torch.manual_seed(0)
        self.task, self.flags, self.state = task, flags, flags.output / "training.pt"
        self.model, self.batches, self.rng = task.make_model(), Batches(task), random.Random(1)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=flags.lr, betas=(0.9, 0.98), weight_decay=0.01)
        self.step = 0
        if self.state.exists():
            saved = torch.load(self.state, weights_only=False)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.rng.setstate(saved["rng"])
            self.step = saved["step"]

    def save(self) -> None:
        part = self.state.with_suffix(".tmp")
        torch.save(dict(model=self.model.state_dict(), optimizer=self.optimizer.state_dict(), rng=self.rng.getstate(),
                        step=self.step), part)
        part.replace(self.state)

    def texts(self, share: float) -> list[str]:
        return [self.task.draw("train", share, self.rng) for _ in range(self.flags.batch)]

    def tower_loss(self) -> torch.Tensor:
        texts = self.texts(1.0)
        media, counts = self.task.inputs([self.task.make(text, self.rng) for text in texts])
        return self.task.tower_loss(self.model, media, [self.batches.tokenizer.encode(text).ids for text in texts], counts)

    def answer_loss(self, done: float) -> torch.Tensor:
        inputs, labels = self.batches(self.texts(min(1.0, 0.1 + 1.8 * done)), self.rng)
        logits, kept = self.model(**inputs).logits[:, :-1], labels != -100
        return torch.nn.functional.cross_entropy(logits[kept], labels[kept])

    def run(self) -> torch.nn.Module:
        alone, together, start, recent = self.flags.tower_steps, self.flags.steps, time.process_time(), []
        self.model.train()
        while self.step < alone + together:
            since = self.step if self.step < alone else self.step - alone
            done = max(0, self.step - alone) / together
            rate = min(1, (since + 1) / 100) * (0.03 + 0.97 * (1 + math.cos(math.pi * done)) / 2)
            for group in self.optimizer.param_groups:
                group["lr"] = self.flags.lr * rate
            loss = self.tower_loss() if self.step < alone else self.answer_loss(done)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1
            recent = recent[-24:] + [loss.item()]
            if self.step % 25 == 0:
                print(f"step {self.step}{' (tower)' if self.step <= alone else ''}: loss {sum(recent) / len(recent):.3f}, "
                      f"{time.process_time() - start:.0f} s of processor time", flush=True)
            if self.step % self.SAVE_EVERY == 0:
                self.save()
        return self.model.eval()


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


def main(task: Task, description: str, tower_steps: int, steps: int, lines: int) -> None:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tower-steps", type=int, default=tower_steps)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--lines", type=int, default=lines, help="what the draft is trained on")
    flags = parser.parse_args()
    part = flags.output / "target.part"  # target/ is there when all of it is
    part.mkdir(parents=True, exist_ok=True)
    task.dialect.write_text_files(part)
    task.write_preprocessor(part)
    training, rng = Training(task, flags), random.Random(2)
    if training.step == 0:
        for split, count in {"train": flags.lines, **ROWS}.items():
            write_rows(task, flags.output, split, count, rng)
    parameters = sum(p.numel() for p in training.model.parameters())
    print(f"{parameters / 1e6:.1f} M parameters, {torch.get_num_threads()} threads, from step {training.step}", flush=True)
    model = training.run()
    wrong = errors(model, training.batches, [task.draw("heldout", 1.0, rng) for _ in range(100)])
    print(f"held out: {wrong:.2%} of the characters wrong, each after the right ones before it")
    model.to(torch.bfloat16).save_pretrained(part)
    (part / "generation_config.json").unlink(missing_ok=True)
    part.rename(flags.output / "target")
    training.state.unlink(missing_ok=True)
