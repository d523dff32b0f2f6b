"""The encoder against ONNX Runtime, PyTorch and candle: one run, the same texts, one thread, in turns, medians.

    benches/encoder.py [--models FOLDER] [--rounds N] [--products CSV --queries CSV]

The peers come from PyPI into a virtual environment in ${PERSONA_CACHE:-~/.cache/pg_persona} (a few GB, once), and the ONNX
file is exported from the bundle's own weights. FOLDER holds `all-MiniLM-L6-v2` (default: $PERSONA_MODEL_DIR, else the
cache's). Texts are those of $PERSONA_DATA, where it is set.

What is timed: for this project everything from texts to vectors, tokenising and pooling included; for the peers the
network alone, on tokens that are ready. The contestants take turns in blocks of a few calls: call by call they would only
measure how they evict one another's weights from the cache. Without the two files texts are made up, of as many tokens
as real ones have.
"""

import argparse
import csv
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import time
import venv

HARNESS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "harness"
sys.path.insert(0, str(HARNESS))

import wheel  # noqa: E402

sys.path.remove(str(HARNESS))  # its names are common ones

BUNDLE = "all-MiniLM-L6-v2"
READING = "reading the network's weights once, f32"
PEERS = ["numpy", "onnx", "onnxruntime==1.32.0", "onnxscript", "tokenizers", "torch==2.15.0", "transformers==5.23.0"]
ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("PERSONA_CACHE")
                     or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pg_persona")
ONE = {name: "1" for name in ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"]}


def into_venv(script=__file__):
    """Runs a script again with the peers' Python, made first if need be."""
    home = CACHE / "bench-venv"
    python = home / "bin" / "python"
    if pathlib.Path(sys.prefix) == home:
        return
    if not (home / "ready").exists():
        print("fetching the peers (PyTorch, ONNX Runtime) into", home, file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
        (home / "ready").touch()
    os.execve(python, [str(python), script, *sys.argv[1:]], {**os.environ, **ONE})


def inputs(parser):
    """The options that say what to embed and with what."""
    data = os.environ.get("PERSONA_DATA")
    there = {name: f"{data}/electronics/{name}.csv" if data else None for name in ("products", "judgments")}
    parser.add_argument("--models", default=os.environ.get("PERSONA_MODEL_DIR") or wheel.models())
    parser.add_argument("--products", default=there["products"])
    parser.add_argument("--queries", default=there["judgments"])


def texts(arguments):
    """(queries, products)"""
    if arguments.products and arguments.queries:
        rows = list(csv.DictReader(open(arguments.products)))
        products = [f"{row['title']} {row.get('description') or ''}"[:300] for row in rows[:: max(1, len(rows) // 400)]]
        return sorted({row["query"] for row in csv.DictReader(open(arguments.queries))}), products
    dice = random.Random(7)
    things = ["laser printer", "wireless mouse", "monitor 27 inch", "usb cable", "laptop bag", "ink cartridge", "board game"]
    words = ("black compact fast with warranty for office home energy saving high resolution quiet paper tray network "
             "adapter battery colour display keyboard stand carrying case includes two year support easy setup").split()
    queries = [f"{dice.choice(words)} {dice.choice(things)} {dice.choice(words)}" for _ in range(60)]
    products = [" ".join([dice.choice(things), *(dice.choice(words) for _ in range(dice.randint(30, 65)))]) for _ in range(400)]
    return queries, products


def export(bundle, to):
    """The ONNX files, f32 and dynamic int8, from the bundle's weights."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModel

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = AutoModel.from_pretrained(bundle, attn_implementation="eager").eval()

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.inner(input_ids=input_ids, attention_mask=attention_mask,
                              token_type_ids=token_type_ids).last_hidden_state

    to.mkdir(parents=True, exist_ok=True)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.ones(2, 8, dtype=torch.long)
    plain, small = to / "f32.onnx", to / "int8.onnx"
    if not small.exists():
        torch.onnx.export(Hidden(), (ids, ids, ids * 0), str(plain), input_names=names, output_names=["hidden"],
                          dynamic_axes={name: {0: "text", 1: "token"} for name in [*names, "hidden"]},
                          opset_version=17, dynamo=False)
        quantize_dynamic(str(plain), str(to / "part.onnx"), weight_type=QuantType.QInt8)
        (to / "part.onnx").rename(small)
    return plain, small


def build(name="encoder"):
    """A benchmark's program, compiled where make test compiles."""
    command = [sys.executable, HARNESS / "build.py", "cargo", "bench", "--no-default-features", "--bench", name,
               "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return next(m["executable"] for m in map(json.loads, lines) if m.get("executable") and m["target"]["name"] == name)


class Ours:
    def __init__(self, models):
        self.process = subprocess.Popen([build(), str(models), BUNDLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**os.environ, **ONE})

    def ask(self, batch, engine, threads=1, vectors=False):
        self.process.stdin.write(json.dumps(dict(texts=batch, engine=engine, threads=threads, vectors=vectors)) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.gap = answer["gap_ns"] / 1e6
        return answer["vectors"] if vectors else answer["ns"] / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    inputs(parser)
    arguments = parser.parse_args()
    into_venv()

    import numpy as np
    import onnxruntime
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    torch.set_num_threads(1)
    bundle = pathlib.Path(arguments.models) / BUNDLE
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
                for path in export(bundle, CACHE / "bench-onnx")]
    network = AutoModel.from_pretrained(bundle).eval()
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    ours = Ours(arguments.models)

    def tokens(batch):
        encoded = [e.ids for e in tokenizer.encode_batch(batch)]
        ids = np.zeros((len(batch), max(map(len, encoded))), np.int64)
        mask = np.zeros_like(ids)
        for row, one in enumerate(encoded):
            ids[row, : len(one)], mask[row, : len(one)] = one, 1
        return ids, mask

    def onnx(session):
        def run(batch):
            ids, mask = tokens(batch)
            start = time.perf_counter()
            session.run(None, dict(input_ids=ids, attention_mask=mask, token_type_ids=ids * 0))
            return (time.perf_counter() - start) * 1e3
        return run

    def pytorch(batch):
        ids, mask = map(torch.from_numpy, tokens(batch))
        with torch.inference_mode():
            start = time.perf_counter()
            network(input_ids=ids, attention_mask=mask)
            return (time.perf_counter() - start) * 1e3

    contestants = {
        "pg_persona f32": lambda batch: ours.ask(batch, "f32"),
        "ONNX Runtime f32": onnx(sessions[0]),
        "pg_persona int8": lambda batch: ours.ask(batch, "int8"),
        "ONNX Runtime int8": onnx(sessions[1]),
        "PyTorch f32": pytorch,
        "candle BertModel f32": lambda batch: ours.ask(batch, "candle"),
    }
    queries, products = texts(arguments)
    # Peers pad a batch to its longest text: of like lengths, they lose the least.
    by_length = sorted(products, key=len)
    batches = [by_length[i:i + 32] for i in range(0, len(by_length) - 31, 32)]
    kinds = {"query": ([[q] for q in queries], 10), "product": ([[p] for p in products], 5), "bulk": (batches, 2)}

    times = {}
    for kind, (work, block) in kinds.items():
        # No query can be quicker than its weights come from memory; what is larger waits for other things.
        running = contestants | ({READING: lambda batch: ours.ask(batch, "read")} if kind == "query" else {})
        for run in running.values():
            for batch in work[:3]:
                run(batch)
        for turn in range(arguments.rounds):
            batches_now = [work[(turn * block + i) % len(work)] for i in range(block)]
            for name, run in running.items():
                # A bulk time is a text's share of its batch.
                times.setdefault((name, kind), []).extend(run(batch) / len(batch) for batch in batches_now)

    def average(all_texts):
        return statistics.mean(len(e.ids) for e in tokenizer.encode_batch(all_texts))

    median = {key: statistics.median(values) for key, values in times.items()}
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
               platform.processor()) if os.path.exists("/proc/cpuinfo") else platform.processor()
    print(f"{cpu}, one thread, {arguments.rounds} rounds; tokens: query {average(queries):.1f}, product {average(products):.1f}")
    print(f"load average {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores at the end\n")
    print(f"{'':22}{'query p50':>12}{'product p50':>14}{'bulk of 32':>14}")
    for name in contestants:
        print(f"{name:22}{median[name, 'query']:9.3f} ms{median[name, 'product']:11.2f} ms"
              f"{1e3 / median[name, 'bulk']:12.1f}/s")
    print("\nratio to ONNX Runtime of the same precision (times: less is better; bulk: more is better)")
    goals = {"f32": (0.5, 0.95, 1.1), "int8": (0.8, 0.9, 1.1)}
    for precision, goal in goals.items():
        mine, peer = f"pg_persona {precision}", f"ONNX Runtime {precision}"
        ratios = [median[mine, "query"] / median[peer, "query"], median[mine, "product"] / median[peer, "product"],
                  median[peer, "bulk"] / median[mine, "bulk"]]
        told = "   ".join(f"{kind} {ratio:.2f} (goal {'>=' if kind == 'bulk' else '<='} {g})"
                          for kind, ratio, g in zip(kinds, ratios, goal))
        print(f"{precision:5} {told}")
    reading, query = median[READING, "query"], median["pg_persona f32", "query"]
    print(f"{READING}: {reading:.3f} ms; a query in f32 takes {query / reading:.2f} times that, ONNX Runtime's "
          f"{median['ONNX Runtime f32', 'query'] / reading:.2f}\n")

    sample = queries + products[:200]
    exact = np.array(ours.ask(sample, "f32", vectors=True))
    rough = np.array(ours.ask(sample, "int8", vectors=True))
    theirs = []
    for text in sample:
        ids, mask = tokens([text])
        hidden = sessions[1].run(None, dict(input_ids=ids, attention_mask=mask, token_type_ids=ids * 0))[0]
        theirs.append(hidden[0].mean(0) / np.linalg.norm(hidden[0].mean(0)))
    for name, vectors in [("pg_persona int8", rough), ("ONNX Runtime int8", np.array(theirs))]:
        cosines = (exact * vectors).sum(1)
        print(f"cosine to f32, {name}: mean {cosines.mean():.5f}, least {cosines.min():.5f} of {len(sample)} texts")

    for engine in ["f32", "int8"]:
        gaps = []
        for turn in range(5):
            ours.ask(products[:256], engine)
            gaps.append(ours.gap)
        print(f"longest time between two looks for a cancel, {engine}, 256 texts: {statistics.median(gaps):.1f} ms")

    if (os.cpu_count() or 1) > 1:
        rates = {}
        for turn in range(arguments.rounds // 2):
            for engine in ["f32", "int8"]:
                for threads in [1, 2]:
                    part = products[turn * 64 % 256:][:128]
                    rates.setdefault((engine, threads), []).append(len(part) / ours.ask(part, engine, threads) * 1e3)
        for engine in ["f32", "int8"]:
            one, two = (statistics.median(rates[engine, threads]) for threads in [1, 2])
            print(f"threads, {engine}, 128 texts: one {one:.0f}/s, two {two:.0f}/s, {two / one:.2f} times")


if __name__ == "__main__":
    main()
