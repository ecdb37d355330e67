"""Write and read throughput of the hidden-state store, of one plain file, and of a file a document by torch.save and by
safetensors, which is how other trainers keep hidden states. All on the same disk, one after the other, in one run.

usage: .venv/bin/python scripts/benchmark_store.py [--directory DIR] [--hidden 576] [--rows 300] [--megabytes 1000]
"""
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "build/release/benchmark_store"


def forget_pages(files):
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure(directory: Path, documents: int, document: dict, save, load) -> dict:
    """MB/s of writing a file a document, synced, and of reading them in random order."""
    directory.mkdir(parents=True)
    files = [directory / f"{i}" for i in range(documents)]
    size = documents * sum(tensor.nbytes for tensor in document.values()) / 1e6

    def timed(work) -> float:
        start = time.perf_counter()
        work()
        return size / (time.perf_counter() - start)

    def write():
        for file in files:
            save(document, file)
        for file in files:  # the store syncs what it wrote, so this must
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def read():
        for file in order:
            for tensor in load(file).values():
                tensor.clone()  # as the store does: out of any map, ready to use

    order = random.Random(1).sample(files, len(files))
    result = {"write": timed(write)}
    forget_pages(files)
    result["read_cold"] = timed(read)
    result["read_warm"] = timed(read)
    shutil.rmtree(directory)
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to measure; default: a temporary one")
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--megabytes", type=int, default=1000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    subprocess.run(["cmake", "--build", PROGRAM.parent, "--target", PROGRAM.name], check=True, stdout=sys.stderr)
    directory = Path(tempfile.mkdtemp(prefix="aerie-store-", dir=given.directory))
    try:
        done = subprocess.run([PROGRAM, directory, str(given.hidden), str(given.rows), str(given.megabytes)],
                              check=True, capture_output=True, text=True)
        ours = json.loads(done.stdout)
        shutil.rmtree(directory / "store")
        shutil.rmtree(directory / "plain")
        document = {
            "input_ids": torch.randint(1000, (given.rows,)), "loss_mask": torch.ones(given.rows, dtype=torch.long),
            "aux_hidden_state": torch.randn(given.rows, 3 * given.hidden).bfloat16(),
            "hidden_state": torch.randn(given.rows, given.hidden).bfloat16()}
        table = {
            "plain file": {k: ours[f"plain_{k}"] for k in ("write", "read_cold", "read_warm")},
            "aerie store": {k: ours[f"store_{k}"] for k in ("write", "read_cold", "read_warm")},
            "aerie store, each shard verified once": {"write": ours["store_write"], "read_cold": ours["verified_read_cold"],
                                                      "read_warm": ours["verified_read_warm"]},
            "torch.save, a file a document": measure(directory / "torch", ours["documents"], document, torch.save, torch.load),
            "safetensors, a file a document": measure(directory / "safetensors", ours["documents"], document, save_file, load_file)}
    finally:
        shutil.rmtree(directory)
    print(f"{ours['documents']} documents of {given.rows} rows, {ours['megabytes']:.0f} MB; MB/s (share of the plain file)\n")
    print("| | write, synced | read, cold | read, warm |\n|---|---|---|---|")
    for name, row in table.items():
        cells = (f"{row[k]:.0f} ({row[k] / table['plain file'][k]:.2f})" for k in ("write", "read_cold", "read_warm"))
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
