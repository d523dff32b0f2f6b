"""What int8 queries lose on documents in f32, which is an ordinary deployment.

Forty-one queries cannot tell a loss of 0.3 % from chance: int8 swaps near ties, and a swap near the top of one query moves the
mean by as much. So the paired change is given with its interval, and each judged query is asked in five wordings that mean
the same (whole queries are drawn for the interval).
"""

from __future__ import annotations

import random
import re

from figures import interval, mean, ndcg
from protocols import ranked
from retrieval import K, nearest

WORDINGS = ("{}", "a {}", "{} to buy", "good {}", "{} online")
TITLES = 2000
MADE = 300


def precision(c, report, judged: dict[str, dict[int, int]]) -> None:
    """Cosines of int8 to f32, recall of f32's ten nearest, and the change of NDCG, exact dense and through search."""
    titles = [row[0] for row in c.execute("SELECT title FROM electronics WHERE title IS NOT NULL ORDER BY hashint8(id) LIMIT %s", (TITLES,))]
    cosines = [cosine for text in (titles, sorted(judged)) for cosine in cosine_of(c, text)]
    report.line("electronics", "cosine of int8 to f32, titles and judged queries: mean", mean(cosines), len(cosines), digits=4, key="int8 mean cosine")
    report.line("electronics", "the same: least", min(cosines), len(cosines), digits=4, key="int8 least cosine")
    made = from_titles(titles)
    exact = in_both(c, made, lambda query: nearest(c, query, "SELECT id FROM electronics"))
    recalls = [len(set(left) & set(right)) / K for left, right in zip(*exact)]
    report.line("electronics", f"f32's {K} nearest among int8's, queries of title words", mean(recalls), len(recalls), interval(recalls))
    asked = [(wording.format(query), query) for query in sorted(judged) for wording in WORDINGS]
    ways = (("exact dense", lambda query: nearest(c, query, "SELECT id FROM electronics")),
            ("search", lambda query: ranked(c, "electronics", "id", query)))
    for name, rank in ways:
        left, right = ([ndcg(found, judged[query]) for found, (_, query) in zip(lists, asked)] for lists in in_both(c, [text for text, _ in asked], rank))
        change = [100 * (after - before) / mean(left) for before, after in zip(left, right)]
        swapped = sum(value != 0 for value in change)
        report.line("electronics", f"int8 queries on f32 documents, {name}: NDCG@10, change in %", mean(change), len(change),
                    interval(change, [query for _, query in asked]), digits=2, shown=True)
        alone = mean(value for value, (text, query) in zip(change, asked) if text == query)
        report.note(f"f32 {mean(left):.4f}, int8 {mean(right):.4f}; {swapped} of {len(change)} changed; the {len(judged)} judged wordings alone: {alone:+.2f} %")


def in_both(c, queries: list[str], rank) -> list[list]:
    """What `rank` returns for each query in f32 and in int8."""
    lists = []
    for name in ("f32", "int8"):
        c.execute(f"SET persona.precision = {name}")
        lists.append([rank(query) for query in queries])
    c.execute("RESET persona.precision")
    return lists


def cosine_of(c, texts: list[str]) -> list[float]:
    """The cosine between each text's vectors in int8 and in f32."""
    made = []
    for name in ("f32", "int8"):
        c.execute(f"SET persona.precision = {name}")
        made.append(c.execute("SELECT persona.embed(%s::text[])::text[]", (texts,)).fetchone()[0])
    c.execute("RESET persona.precision")
    rows = c.execute("SELECT 1 - (l::vector <=> r::vector) FROM unnest(%s::text[], %s::text[]) t(l, r)", made)
    return [row[0] for row in rows]


def from_titles(titles: list[str]) -> list[str]:
    """Queries of one to three words that stand together in a title."""
    dice, made = random.Random(3), []
    for title in titles:
        words = re.findall(r"[a-z0-9]+", title.lower())
        if words and len(made) < MADE:
            count = dice.choice([1, 1, 2, 2, 3])
            start = dice.randrange(max(1, len(words) - count + 1))
            made.append(" ".join(words[start:start + count]))
    return made
