"""Prints bench.json as a table.

usage: results_table.py BENCH_JSON        exits with 1 where speculation changed an output
"""
import json
import sys


def main() -> int:
    with open(sys.argv[1]) as file:
        runs = json.load(file)["runs"]
    print(f"{'decoder':<16}{'drafted':>8}{'batch':>7}{'tokens/s':>10}{'speed-up':>10}{'accepted':>10}   outputs")
    for run in runs:
        speculative = run["decoder"] != "autoregressive"
        print(f"{run['decoder']:<16}{run['draft_tokens'] if speculative else '-':>8}{run['concurrency']:>7}"
              f"{run['tokens_per_second']:>10.1f}{run['speedup']:>9.2f}x"
              f"{run['acceptance_length'] or 1:>10.2f}   {'identical' if run['identical_outputs'] else 'DIFFERENT'}")
    print("accepted: tokens per forward pass of the target, averaged; 1 is autoregressive decoding")
    different = [run["decoder"] for run in runs if not run["identical_outputs"]]
    if different:
        print(f"error: the outputs of {', '.join(different)} are not those of autoregressive decoding: please report this",
              file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
