"""Protocols of what stands around the score: complements of a basket, and how long such lists take."""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict

from figures import interval, mean, percentile

K = 10
MOST = 100  # keys that options.basket takes


def bought_together(c, report, past: list[list[str]], invoices: list[list[str]], every: int) -> None:
    """One item of an invoice withheld: is it among the ten that go with another item of it, or with all the others?
    Beside raw co-occurrence: the ten that most invoices before the split hold together with it, summed over the basket."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for codes in past:
        for code in codes:
            counts[code].update(codes)
    rng = random.Random(1)
    asked = [rng.sample(codes, len(codes)) for codes in invoices if len(codes) > 1][::every]
    for what, most in (("one item of the invoice known", 1), ("the rest of the invoice known", MOST)):
        ours, raw = [], []
        for withheld, first, *others in asked:
            known = [first, *others][:most]
            ours.append(float(withheld in together(c, first, known[1:])))
            raw.append(float(withheld in co_occurrence(counts, known)))
        gap = [a - b for a, b in zip(ours, raw)]
        key = "bought_together" if most == 1 else "bought_together basket"
        report.line("gifts", f"recall@{K}, bought_together, {what}", mean(ours), len(asked), interval(ours), shown=True)
        report.line("gifts", "the same by raw co-occurrence", mean(raw), len(asked), interval(raw))
        report.line("gifts", "gain over raw co-occurrence", mean(gap), len(asked), interval(gap), key=f"{key} gain")


def together(c, code: str, others: list[str]) -> list[str]:
    """The ten best of bought_together."""
    return [row[0] for row in c.execute("""SELECT (r.item).code FROM gifts g, persona.bought_together(g, k => %s, options => %s::jsonb) r
        WHERE g.code = %s ORDER BY r."position" """, (K, json.dumps({"basket": others}), code))]


def co_occurrence(counts: dict[str, Counter], known: list[str]) -> list[str]:
    """The ten that stand most often in one invoice with what is known."""
    total: Counter = Counter()
    for code in known:
        total.update(counts[code])
    best = sorted((code for code in total if code not in known), key=lambda code: (-total[code], code))
    return best[:K]


def latency(c, report, count: int = 200) -> None:
    """recommend, similar and bought_together on the games, warm, one client: statement sent until the last row is read."""
    users = [row[0] for row in c.execute("SELECT user_id FROM games_events GROUP BY 1 ORDER BY md5(user_id::text) LIMIT %s", (count,))]
    items = [row[0] for row in c.execute("SELECT id FROM games ORDER BY md5(id::text) LIMIT %s", (count,))]
    for name, sql, bound in (
        ("recommend", "SELECT (s.item).id, s.score FROM persona.recommend(NULL::games, user_id => %s::bigint, k => 20) s", users),
        ("similar", "SELECT (s.item).id, s.score FROM games g, persona.similar(g, k => 20) s WHERE g.id = %s", items),
        ("bought_together", "SELECT (s.item).id, s.score FROM games g, persona.bought_together(g, k => 20) s WHERE g.id = %s", items),
    ):
        for value in bound[:20]:
            c.execute(sql, (value,)).fetchall()
        times = []
        for value in bound:
            start = time.perf_counter()
            c.execute(sql, (value,)).fetchall()
            times.append(1000 * (time.perf_counter() - start))
        report.line("games", f"{name}, warm, p50, ms", percentile(times, 0.5), len(times), digits=2, key=f"{name} p50 ms")
        report.line("games", f"{name}, warm, p95, ms", percentile(times, 0.95), len(times), digits=2)
