"""The encoder on an NVIDIA card: for whoever has one. Where there is none it says so and ends with status 0.

    benches/gpu.py [--models FOLDER] [--products CSV] [--device cuda:0]

It builds the library (make gpu) and prints, for texts of `--products` (default: made up, see encoder.py):

* the largest difference of a vector's number to the CPU's f32 (wanted: at most 1e-4; otherwise status 1);
* texts a second in bulk, tokenising and pooling included, against PyTorch on the same card, in turns, medians;
* the same of three steps of training a low-rank classifier: the largest difference of a trained number to the CPU's, over the
  largest (wanted: at most 1e-2, as an optimiser takes steps by a gradient's sign more than by its size), and the time of a step
  on one CPU thread over the card's;
* how many processes, each with a context and the model of its own as a backend has, the card's memory holds.

PyTorch for CUDA comes from PyPI into the cache.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import encoder

MOST = 400


class Process:
    """The engine in a process of its own, with the library open."""

    def __init__(self, binary, models, library, device):
        self.process = subprocess.Popen(
            [binary, str(models), encoder.BUNDLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **encoder.ONE, "PERSONA_GPU_LIBRARY": str(library), "PERSONA_DEVICE": device})

    def ask(self, texts, engine, vectors=False):
        self.process.stdin.write(json.dumps(dict(texts=texts, engine=engine, threads=1, vectors=vectors)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise MemoryError("the process ended")
        answer = json.loads(answer)
        return answer["vectors"] if vectors else answer["ns"] / 1e9

    def end(self):
        self.process.stdin.close()
        self.process.wait(60)


def card():
    """Name and megabytes of the first card, or None."""
    if not shutil.which("nvidia-smi"):
        return None
    done = subprocess.run(["nvidia-smi", "--query-gpu=name,memory.total,memory.used", "--format=csv,noheader,nounits"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        return None
    name, total, used = done.stdout.splitlines()[0].split(", ")
    return name, int(total), int(used)


def pytorch(models, batches, device):
    """A function that embeds a batch with PyTorch on the card, from texts to vectors, and returns the seconds."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = pathlib.Path(models) / encoder.BUNDLE
    network = AutoModel.from_pretrained(folder).eval().to(device)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def run(batch):
        start = time.perf_counter()
        # as sentence-transformers does: sorted by length, in batches of 32 and more
        with torch.inference_mode():
            for at in range(0, len(batch), 256):
                part = sorted(batch, key=len)[at:at + 256]
                inputs = tokenizer(part, padding=True, truncation=True, max_length=256, return_tensors="pt").to(device)
                hidden = network(**inputs).last_hidden_state
                mask = inputs["attention_mask"].unsqueeze(-1)
                torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1)).cpu()
        return time.perf_counter() - start

    return run


def fits(start):
    """How many processes embed one text each and stay, until one more does not."""
    with contextlib.ExitStack() as stack:
        for count in range(MOST):
            one = start()
            stack.callback(one.end)
            try:
                one.ask(["a text"], "device")
            except MemoryError:
                return count
    return MOST


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    encoder.inputs(parser)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    found = card()
    if not found:
        print("gpu: no NVIDIA card here, skipped")
        return 0
    encoder.into_venv(__file__)
    built = subprocess.run([sys.executable, str(encoder.HARNESS / "gpu.py")], check=True, stdout=subprocess.PIPE, text=True)
    library = built.stdout.splitlines()[0]
    binary = encoder.build()
    queries, products = encoder.texts(arguments)
    start = lambda: Process(binary, arguments.models, library, arguments.device)  # noqa: E731
    ours = start()
    sample = queries + products[:400]
    cpu, gpu = (ours.ask(sample, engine, vectors=True) for engine in ("f32", "device"))
    off = max(abs(l - r) for left, right in zip(cpu, gpu) for l, r in zip(left, right))
    print(f"{found[0]}, {found[1]} MB")
    print(f"largest difference to the CPU's f32, {len(sample)} texts: {off:.1e} (wanted: at most 1e-4)")
    many = (products * (2048 // len(products) + 1))[:2048]
    peer = pytorch(arguments.models, many, arguments.device)
    times = {"ours": [], "PyTorch": []}
    for turn in range(arguments.rounds + 1):
        seconds = {"ours": ours.ask(many, "device"), "PyTorch": peer(many)}
        if turn:
            for name, value in seconds.items():
                times[name].append(value)
    rates = {name: len(many) / statistics.median(values) for name, values in times.items()}
    print(f"bulk, {len(many)} texts: {rates['ours']:.0f}/s, PyTorch {rates['PyTorch']:.0f}/s, ratio {rates['ours'] / rates['PyTorch']:.2f}")
    few = (products * (192 // len(products) + 1))[:192]
    here, there = (ours.ask(few, engine, vectors=True) for engine in ("train", "train device"))
    most = max(abs(x) for row in here for x in row)
    apart = max(abs(l - r) for left, right in zip(here, there) for l, r in zip(left, right)) / most
    seconds = {engine: statistics.median(ours.ask(few, engine) for _ in range(3)) for engine in ("train", "train device")}
    print(f"three steps of training: largest difference over the largest number {apart:.1e} (wanted: at most 1e-2); "
          f"a step on one CPU thread takes {seconds['train'] / seconds['train device']:.1f} times as long")
    ours.end()
    used = card()[2]
    held = fits(start)
    print(f"processes that fit beside {used} MB in use: {held}{' or more' if held == MOST else ''}")
    return 0 if off <= 1e-4 and apart <= 1e-2 else 1


if __name__ == "__main__":
    sys.exit(main())
