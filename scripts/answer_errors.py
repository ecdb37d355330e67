"""How well a small target reads or hears: characters to insert, delete or replace, as a share of the true ones.

usage: answer_errors.py PROMPTS.jsonl ANSWERS.jsonl      rows of the first with "truth", of the second by the same ids
"""
import json
import sys


def distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def main() -> None:
    truth, answers = ({row["id"]: row for row in map(json.loads, open(file))} for file in sys.argv[1:3])
    pairs = [(row["truth"], answers[name]["conversations"][-1]["content"]) for name, row in truth.items() if name in answers]
    wrong = sum(distance(*pair) for pair in pairs)
    print(f"{len(pairs)} of {len(truth)} answers: {wrong / sum(len(a) for a, _ in pairs):.2%} of the characters wrong, "
          f"{sum(a == b for a, b in pairs) / len(pairs):.0%} of the lines right")
    for true, said in pairs[:3]:
        print(f"  {true!r}\n  {said!r}")


if __name__ == "__main__":
    main()
