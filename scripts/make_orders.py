#!/usr/bin/env python3
"""Writes a narrow task whose answers hold few surprises: orders in plain words, to be answered as JSON.

usage: make_orders.py DIRECTORY [--train 900] [--seed 0]     writes train.jsonl, heldout.jsonl, bench.jsonl

No order of heldout.jsonl or bench.jsonl is in train.jsonl. bench.jsonl has the questions only.
"""
import argparse
import json
import random
from pathlib import Path

NAMES = "Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tina Victor".split()
CITIES = "Oslo Lima Rome Cairo Paris Delhi Berlin Madrid Tokyo Boston Dublin Vienna Lisbon Prague Athens Quebec".split()
ITEMS = ("pen ruler lamp chair desk book cup plate clock brush towel basket candle mirror notebook bottle pillow "
         "blanket kettle bowl").split()
COLOURS = "red blue green black white yellow brown grey".split()


def order(draw: random.Random) -> tuple[str, dict]:
    name, city = draw.choice(NAMES), draw.choice(CITIES)
    lines = [{"item": item, "colour": draw.choice(COLOURS), "count": draw.randint(1, 9)}
             for item in draw.sample(ITEMS, draw.randint(2, 4))]
    words = [f"{line['count']} {line['colour']} {line['item']}{'s' * (line['count'] > 1)}" for line in lines]
    text = f"{name} from {city} orders {', '.join(words[:-1])} and {words[-1]}."
    return text, {"customer": name, "city": city, "lines": lines, "total": sum(line["count"] for line in lines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--train", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    args.directory.mkdir(parents=True, exist_ok=True)
    seen = set()
    for name, count in (("bench", 24), ("heldout", 40), ("train", args.train)):
        rows = []
        while len(rows) < count:
            text, record = order(draw)
            if text in seen:
                continue
            seen.add(text)
            turns = [{"role": "user", "content": "Write this order as JSON. " + text}]
            if name != "bench":
                turns.append({"role": "assistant", "content": json.dumps(record, indent=1)})
            rows.append(json.dumps({"id": f"order-{name}-{len(rows)}", "conversations": turns}))
        (args.directory / f"{name}.jsonl").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
