"""What fine-tuning brings, through SQL: accuracy on intents, NDCG of a catalog's vectors; and what it costs."""

from __future__ import annotations

import json
import random
import statistics
import time
from pathlib import Path

import figures
import shops

HELD = 10  # one row in so many is held out, whole, before anything is learnt


def intents(c, report, folder: Path, few_only: bool = False) -> None:
    """77 intents: the head alone, low-rank matrices, and both from ten texts a label. One row in ten was never seen."""
    if not (folder / "intents" / "train.csv").exists():
        return
    c.execute("CREATE TABLE intents (id int, text text, label text)")
    rows = [(i, row["text"], row["label"]) for i, row in enumerate(shops.rows(folder, "intents/train.csv"))]
    random.Random(7).shuffle(rows)
    shops.copy(c, "intents", ["id", "text", "label"], rows)
    held = len(rows) // HELD
    names = [(f"intents_{kind}", sql) for kind, sql in {
        "held": f"SELECT * FROM intents WHERE ctid IN (SELECT ctid FROM intents ORDER BY md5(id::text) LIMIT {held})",
        "train": "SELECT * FROM intents EXCEPT SELECT * FROM intents_held",
        "few": """SELECT id, text, label FROM (SELECT *, row_number() OVER (PARTITION BY label ORDER BY md5(id::text)) AS n
            FROM intents_train) t WHERE n <= 10"""}.items()]
    for name, sql in names:
        c.execute(f"CREATE TABLE {name} AS {sql}")
    runs = [("head", "intents_train", {"method": "head"}), ("lora", "intents_train", {"method": "lora"}),
            ("head, 10 texts a label", "intents_few", {"method": "head", "validation": 0, "adopt": "always"}),
            ("lora, 10 texts a label", "intents_few", {"method": "lora", "validation": 0, "adopt": "always", "epochs": 20})]
    for number, (what, source, options) in enumerate(runs):
        if few_only and "few" not in source:
            continue
        name = f"bench-{number}"
        start = time.monotonic()
        c.execute("SELECT count(*) FROM persona.fine_tune('classify', %s::regclass, %s::jsonb)",
                  (source, json.dumps({"name": name, **options})))
        seconds = time.monotonic() - start
        right = [row[0] for row in c.execute(
            "SELECT l.label = t.label FROM intents_held t, LATERAL (SELECT label FROM persona.classify(t.text, %s) LIMIT 1) l", (name,))]
        report.line("intents", f"accuracy, {what}", figures.mean(right), len(right),
                    figures.interval([float(x) for x in right]), key=f"intents {what}")
        report.line("intents", f"seconds of fine_tune, {what}", seconds, 1)
        size = c.execute("SELECT bytes FROM persona.adapters WHERE name = %s", (name,)).fetchone()[0]
        report.line("intents", f"MB of the adapter's row, {what}", size / 1e6, 1, key="tuned MB")
    if not few_only:
        cost(c, report, "bench-1")


def private_mb(c) -> float:
    """Private memory of the connection's backend."""
    pid = c.execute("SELECT pg_backend_pid()").fetchone()[0]
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def cost(c, report, name: str) -> None:
    """Latency of a query's vector over the base model's, each text new to both; interleaved, as the machine is shared."""
    texts = [row[0] for row in c.execute("SELECT text FROM intents_held LIMIT 400")]
    base = c.execute("SHOW persona.model").fetchone()[0]
    times: dict[str, list[float]] = {base: [], name: []}
    for model in times:
        c.execute("SELECT persona.embed('warm', model => %s)", (model,))
    for turn, text in enumerate(texts):
        for model in (sorted(times) if turn % 2 else sorted(times, reverse=True)):
            start = time.perf_counter()
            c.execute("SELECT persona.embed(%s, model => %s)", (text, model))
            times[model].append(time.perf_counter() - start)
    ratio = statistics.median(b / a for a, b in zip(times[base], times[name]))
    report.line("intents", "latency of a fine-tuned vector over the base model's", ratio, len(texts), key="tuned latency")


def memory(server, report, connect) -> None:
    """Private memory of a fresh backend with an adapter, above one that has embedded with the base model alone."""
    with connect(server.dsn()) as c:
        c.execute("SELECT persona.embed('one', 'query')")
        before = private_mb(c)
        c.execute("SELECT * FROM persona.classify('one', 'bench-1')")
        report.line("intents", "MB of private memory above the shared base", private_mb(c) - before, 1, key="tuned memory")


def ranked(c, model: str, query: str) -> list[int]:
    """The ten nearest items by exact cosine of the catalog's own vectors."""
    with c.transaction():
        c.execute("SET LOCAL enable_indexscan = off")
        return [row[0] for row in c.execute("""SELECT p.key FROM electronics_persona p WHERE p.embedding IS NOT NULL
            ORDER BY p.embedding <=> persona.embed(%s, 'query', %s)::halfvec, p.key LIMIT 10""", (query, model))]


def electronics(c, report, judged: dict, options: dict | None = None) -> None:
    """Self-supervised from the item table: NDCG@10 of the vectors alone, before and after the catalog changes its model."""
    base = c.execute("SELECT model FROM persona.catalogs WHERE items = 'electronics'::regclass").fetchone()[0]
    before = {query: figures.ndcg(ranked(c, base, query), gains) for query, gains in judged.items()}
    start = time.monotonic()
    c.execute("SELECT count(*) FROM persona.fine_tune('embed', 'electronics', %s::jsonb)",
              (json.dumps({"name": "bench-shop", "adopt": "always", **(options or {})}),))
    seconds = time.monotonic() - start
    metrics, reason = c.execute("SELECT metrics, reason FROM persona.adapters WHERE name = 'bench-shop'").fetchone()
    c.execute("""SELECT persona.create_catalog('electronics', title => 'title', body => '{description}',
        attributes => '{attributes,color}', brand => 'brand', category => 'type', price => 'price', model => 'bench-shop')""")
    c.execute("CALL persona.work('refresh', 'electronics')")
    after = {query: figures.ndcg(ranked(c, "bench-shop", query), gains) for query, gains in judged.items()}
    queries = sorted(judged)
    for what, values in (("base model", before), ("fine-tuned on the catalog", after)):
        report.line("electronics", f"NDCG@10 of vectors alone, {what}", figures.mean(values.values()), len(queries),
                    figures.interval([values[q] for q in queries]), shown=True)
    gains = [after[q] - before[q] for q in queries]
    report.line("electronics", "the difference", figures.mean(gains), len(gains), figures.interval(gains), key="tuned electronics")
    report.line("electronics", "seconds of fine_tune", seconds, 1)
    report.line("electronics", "probe before", metrics["probe"]["before"], 1)
    report.line("electronics", "probe after", metrics["probe"]["after"], 1)
    report.line("electronics", f"gain on held-out items ({reason or 'adopted'})", metrics["gain"], metrics["rows"]["held_out"],
                (metrics["low"], metrics["high"]))
