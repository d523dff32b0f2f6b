"""What understanding a query is worth: spelling, entities, intent, what it does to ranking, and how long it takes.

How the test sets are made, all from a seed, none of it tuned on (spelling and entities were tuned on other seeds and on
items with even ids; what is reported comes from odd ones):

* clean queries: a run of two to four words of a title, half of them behind the brand, a third before the type; lower case.
* typos: other such queries, each with one slip in a word of four letters or more, kinds in turn: a letter left out, put in,
  doubled, replaced (half of the time by its neighbour on the keyboard), two swapped, a space put in, a space left out.
  Right is the very query that it was made from; a slip that makes another word of the catalog counts as missed.
* entities: two to four of brand, color, type, a price bound and a model number (the first word of the title that mixes five
  or more letters and digits) of 300 items that are deleted from the catalog first, in changing order.
* intents: tests/data/intents.csv, labelled by hand before examples and classifier.
"""

from __future__ import annotations

import csv
import random
import re
import time

from driver import CHECKOUT
from figures import mean, ndcg, percentile
from protocols import ranked

KINDS = ("delete", "insert", "double", "replace", "swap", "split", "join")
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SEED = 2026
TYPOS_PER_QUERY = 5


def neighbour(letter: str, rng) -> str:
    """A letter beside it on the keyboard."""
    row = next(row for row in ROWS if letter in row)
    at = row.index(letter)
    return rng.choice([row[place] for place in (at - 1, at + 1) if 0 <= place < len(row)])


def slip(query: str, kind: str, rng) -> str | None:
    """The query with one slip of a kind; None where it has no place for it."""
    words = query.split(" ")
    long = [at for at, word in enumerate(words) if len(word) >= 4 and word.isascii() and word.isalpha()]
    if kind == "join":
        pairs = [at for at in range(len(words) - 1) if words[at].isalpha() and words[at + 1].isalpha() and at in long]
        if not pairs:
            return None
        at = rng.choice(pairs)
        return " ".join(words[:at] + [words[at] + words[at + 1]] + words[at + 2:])
    if kind == "split":
        long = [at for at in long if len(words[at]) >= 6]
    if not long:
        return None
    at = rng.choice(long)
    word = words[at]
    place = rng.randrange(len(word))
    if kind == "delete":
        made = word[:place] + word[place + 1:]
    elif kind == "insert":
        made = word[:place] + rng.choice(LETTERS) + word[place:]
    elif kind == "double":
        made = word[:place] + word[place] + word[place:]
    elif kind == "replace":
        other = neighbour(word[place], rng) if rng.random() < 0.5 else rng.choice(LETTERS)
        made = word[:place] + other + word[place + 1:]
    elif kind == "swap":
        place = rng.randrange(len(word) - 1)
        made = word[:place] + word[place + 1] + word[place] + word[place + 2:]
    else:
        place = rng.randrange(3, len(word) - 2)
        made = word[:place] + " " + word[place:]
    return " ".join(words[:at] + [made] + words[at + 1:]) if made != word else None


def composed(items: list, rng) -> str | None:
    """A query of an item's own words."""
    title, brand, kind = rng.choice(items)
    words = re.findall(r"[a-z0-9][a-z0-9-]*", re.sub(r"\(.*?\)", " ", title.lower()))[:8]
    length = rng.randint(2, 4)
    if len(words) < length:
        return None
    start = rng.randrange(len(words) - length + 1)
    words = words[start:start + length]
    if brand and rng.random() < 0.5 and words[0] != brand.lower().split()[0]:
        words = re.findall(r"[a-z0-9-]+", brand.lower()) + words
    if kind and rng.random() < 0.33 and re.search("[A-Za-z]", kind):
        words += re.findall(r"[a-z0-9-]+", kind.lower())
    return " ".join(words)


def understood(c, query: str) -> dict:
    """What `persona.understand` says."""
    return c.execute("SELECT persona.understand('electronics', %s)", (query,)).fetchone()[0]


def read(c, query: str) -> dict:
    """The same without the vector."""
    return c.execute("SELECT persona._understand('electronics'::regclass, %s, false)", (query,)).fetchone()[0]


def spelling(c, report, parity: int = 1, seed: int = SEED, count: int = 500, shown: bool = False) -> None:
    """Right corrections of planted slips, wrong changes of clean queries."""
    rng = random.Random(seed)
    items = c.execute("SELECT title, brand, type FROM electronics WHERE id %% 2 = %s ORDER BY id", (parity,)).fetchall()
    by_kind: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    place = 0
    while sum(map(len, by_kind.values())) < count:
        clean = composed(items, rng)
        kind = KINDS[place % len(KINDS)]
        typed = clean and slip(clean, kind, rng)
        if not typed:
            continue
        place += 1
        said = read(c, typed)["corrected"]
        by_kind[kind].append(said == clean)
        if shown and said != clean:
            print(f"  {kind}: {typed!r} -> {said!r}, meant {clean!r}")
    right = [good for kind in by_kind.values() for good in kind]
    report.line("electronics", "one slip a query: right correction", mean(right), len(right), key="spelling")
    report.note(", ".join(f"{kind} {mean(good):.2f}" for kind, good in by_kind.items()))
    wrong = []
    while len(wrong) < count:
        if clean := composed(items, rng):
            changes = read(c, clean)["corrections"]
            wrong.append(bool(changes))
            if shown and changes:
                print(f"  clean {clean!r}: {changes}")
    report.line("electronics", "clean queries: wrong change", mean(wrong), len(wrong), key="spelling wrong")


def model_number(title: str) -> str | None:
    """The first word of a title that mixes five or more letters and digits, and is no measure."""
    for word in re.findall(r"[a-z0-9][a-z0-9-]*", title.lower()):
        mixed = re.search("[a-z]", word) and re.search("[0-9]", word)
        if mixed and len(word) >= 5 and not re.fullmatch(r"\d+(\.\d+)?[a-z]{1,4}", word):
            return word
    return None


def entities(c, report, parity: int = 1, seed: int = SEED, count: int = 300, shown: bool = False) -> None:
    """Micro F1 over brand, color, type, price and model number, of items that the catalog has never seen."""
    rng = random.Random(seed)
    rows = c.execute("""SELECT id, title, brand, color, type, price FROM electronics
        WHERE id %% 2 = %s AND brand IS NOT NULL ORDER BY id""", (parity,)).fetchall()
    rng.shuffle(rows)
    asked = []
    for item, title, brand, color, kind, price in rows:
        parts = {"brand": (brand.lower(), brand)}
        if color:
            parts["color"] = (color.lower().replace(",", " "), color)
        if kind and re.search("[A-Za-z]", kind):
            parts["type"] = (kind.lower(), kind)
        if price:
            bound = int(price) + 1
            parts["price"] = (rng.choice(["under {}", "below ${}", "less than {}", "under {} dollars"]).format(bound), str(bound))
        if number := model_number(title):
            parts["model"] = (number, number)
        # An item with neither color nor type makes dull queries: they are most of the data.
        if len(parts) < 3 or not ("color" in parts or "type" in parts):
            continue
        chosen = rng.sample(sorted(parts), rng.randint(2, min(4, len(parts))))
        asked.append((item, " ".join(parts[name][0] for name in chosen), {(name, parts[name][1].lower()) for name in chosen}))
        if len(asked) == count:
            break
    held = [item for item, _, _ in asked]
    c.execute("CREATE TEMP TABLE held AS SELECT * FROM electronics WHERE id = ANY (%s)", (held,))
    c.execute("DELETE FROM electronics WHERE id = ANY (%s)", (held,))
    c.execute("SELECT persona.refresh('electronics')")
    good = found = wanted = 0
    of: dict[str, list[int]] = {}
    for _, query, gold in asked:
        said = read(c, query)
        seen = set()
        spans = set()
        for entity in said["entities"]:
            span = (entity["from"], entity["to"])
            kind = "type" if entity["kind"] == "category" else entity["kind"]
            # the likeliest reading of each span, among the kinds that the queries are made of
            if span not in spans and kind in ("brand", "color", "type", "model"):
                seen.add((kind, entity["value"].lower()))
            spans.add(span)
        for bound in (said["price"] or {}).values():
            seen.add(("price", f"{bound:g}"))
        good, found, wanted = good + len(seen & gold), found + len(seen), wanted + len(gold)
        for kind, _ in gold:
            of.setdefault(kind, [0, 0, 0])
        for kind, value in seen | gold:
            one = of.setdefault(kind, [0, 0, 0])
            one[0] += (kind, value) in seen & gold
            one[1] += (kind, value) in seen
            one[2] += (kind, value) in gold
        if shown and seen != gold:
            print(f"  {query!r}: missed {gold - seen}, wrong {seen - gold}")
    c.execute("INSERT INTO electronics SELECT * FROM held")
    c.execute("DROP TABLE held")
    c.execute("SELECT persona.refresh('electronics')")
    report.line("electronics", "entities of held-out items: micro F1", 2 * good / max(1, found + wanted), len(asked), key="entities")
    report.note("precision/recall: " + ", ".join(f"{kind} {a / max(1, b):.2f}/{a / max(1, d):.2f}" for kind, (a, b, d) in sorted(of.items())))


def intents(c, report) -> None:
    """Accuracy and expected calibration error (ten bins of equal width) of the labelled set."""
    with open(CHECKOUT / "tests" / "data" / "intents.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for language, name in (("en", "English"), ("zh", "Chinese")):
        said = [(understood(c, row["text"])["intent"], row["label"]) for row in rows if row["language"] == language]
        right = [intent["is"] == label for intent, label in said]
        bins: dict[int, list] = {}
        for (intent, _), good in zip(said, right):
            bins.setdefault(min(9, int(intent["confidence"] * 10)), []).append((good, intent["confidence"]))
        error = sum(abs(sum(g for g, _ in b) - sum(p for _, p in b)) for b in bins.values()) / len(said)
        main = language == "en"
        report.line("intents", f"{name}: accuracy", mean(right), len(right), key="intents" if main else None, shown=True)
        report.line("intents", f"{name}: expected calibration error", error, len(right), key="intents error" if main else None, shown=True)
        labels = sorted({label for _, label in said})
        report.note(", ".join(f"{one} {mean(g for (_, label), g in zip(said, right) if label == one):.2f}" for one in labels))


def ranking(c, report, judged: dict[str, dict[int, int]]) -> None:
    """NDCG@10 with understanding on and off, of the judged queries as they are and with one slip each."""
    queries = sorted(judged)
    off = {"understand": False}
    clean = {query: ndcg(ranked(c, "electronics", "id", query, **off), judged[query]) for query in queries}
    on = {query: ndcg(ranked(c, "electronics", "id", query), judged[query]) for query in queries}
    loss = mean(clean[q] - on[q] for q in queries)
    report.line("electronics", "NDCG@10 lost by understanding, clean queries", loss, len(queries), digits=4, key="understanding loss")
    rng = random.Random(SEED)
    typed = []
    for query in queries:
        for n in range(TYPOS_PER_QUERY):
            for kind in KINDS[n % len(KINDS):] + KINDS[:n % len(KINDS)]:
                if made := slip(query, kind, rng):
                    typed.append((query, made))
                    break
    cost = mean(clean[q] for q, _ in typed)
    without = mean(ndcg(ranked(c, "electronics", "id", made, **off), judged[q]) for q, made in typed)
    with_it = mean(ndcg(ranked(c, "electronics", "id", made), judged[q]) for q, made in typed)
    report.line("electronics", "share of what a slip costs that is regained", (with_it - without) / (cost - without), len(typed), key="regained")
    report.note(f"NDCG@10: clean {cost:.3f}, with a slip {without:.3f}, corrected {with_it:.3f}")


def latency(c, report) -> None:
    """How long a call takes, by a client on the same machine; every query is new."""
    rng = random.Random(SEED + 1)
    items = c.execute("SELECT title, brand, type FROM electronics ORDER BY id").fetchall()
    queries = []
    while len(queries) < 600:
        if made := composed(items, rng):
            queries.append(f"{made} under {len(queries) + 20}" if len(queries) % 4 == 0 else made)

    def timed(sql: str, bound: list) -> list[float]:
        out = []
        for value in bound:
            start = time.perf_counter()
            c.execute(sql, (value,), prepare=True).fetchall()
            out.append((time.perf_counter() - start) * 1000)
        return out[20:]

    start = time.perf_counter()
    read(c, "a first call")
    report.note(f"first call of this connection with the lexicon as it is: {(time.perf_counter() - start) * 1000:.1f} ms")
    for name, sql, bound, key in (
        ("understand without the vector: p50, ms", "SELECT persona._understand('electronics'::regclass, %s, false)", queries[:300], "understand ms"),
        ("understand with the vector: p50, ms", "SELECT persona.understand('electronics', %s)", queries[300:], "understand vector ms"),
        ("suggest: p50, ms", "SELECT * FROM persona.suggest('electronics', %s)", [q[: 2 + n % 9] for n, q in enumerate(queries[:300])], "suggest ms"),
    ):
        values = timed(sql, bound)
        report.line("electronics", name, percentile(values, 0.5), len(values), key=key)
        report.note(f"p95 {percentile(values, 0.95):.2f} ms")
    size = c.execute("SELECT pg_catalog.octet_length(packed), (SELECT count(*) FROM electronics) FROM electronics_persona_lexicon").fetchone()
    report.note(f"the lexicon of {size[1]:,} items takes {size[0] / 1e6:.1f} MB")


def measure(c, report, judged: dict[str, dict[int, int]]) -> None:
    """All of it."""
    intents(c, report)
    spelling(c, report)
    ranking(c, report, judged)
    latency(c, report)
    entities(c, report)
