"""Position bias in the simulated shop: what weighting clicks by how seldom their place is looked at brings.

One log of clicks, three old rankers' lists. On it a ranker is trained twice: naively, and with the propensities that
`persona.refresh` (for statistics) and `persona.train` estimate from the log. The bound is a ranker trained on a second log:
the same lists in an order of chance, where the place says nothing and clicks need no weight. All three are held against what
the shoppers truly want, in searches that come after the log, each by its catalog's own statistics. The gap is what the bound
is better by than the naive one. With clicks by position it is measured once more with four times the searches, where
few clicks far down that stand for many are less of a matter.
"""

from __future__ import annotations

import json
import random
from datetime import timedelta

import protocols
import simulated
from figures import interval, mean

SEARCHES, ASKED = 20_000, 600
# Click models, each with the times that the log is as long.
RUNS = (("position", 1), ("position", 4), ("dependent", 1))
OPTIONS = {"anew": True, "deploy": "never", "samples": 20_000, "epochs": 14}


def measure(c, report, searches: int = SEARCHES, count: int = ASKED, seed: int = 1,
            runs: tuple = RUNS) -> None:
    """Lines for each run."""
    for model, times in runs:
        much = "" if times == 1 else f", {times} times the log"

        def logged(name: str, **how) -> simulated.Shop:
            return simulated.shop(c, seed, model, times * searches, table=f"{name}_{model}_{times}", **how)

        shop = logged("biased")
        asked = after(shop, random.Random(f"asked {seed}"), count)

        def trained(by: simulated.Shop, debias: bool) -> list[float]:
            by.moods, by.facets = shop.moods, shop.facets
            return quality(c, by, asked, train(c, report, by, debias=debias, samples=times * OPTIONS["samples"]))

        fixed = quality(c, shop, asked, 0)
        naive = trained(logged("naive", debias=False), False)
        debiased = trained(shop, True)
        bound = trained(logged("fair", debias=False, shuffled=True), False)
        groups = [one.user for one in asked]

        def line(what: str, values: list[float], key: str | None = None, shown: bool = False) -> None:
            report.line("simulated", f"{model} clicks{much}, {what}", mean(values), count, interval(values, groups), key=key, shown=shown)

        for what, values in (("fixed weights", fixed), ("trained naively", naive), ("trained with propensities", debiased),
                             ("trained on lists in an order of chance", bound)):
            line(f"true NDCG@10, {what}", values, shown=True)
        line("with propensities against naively, gain", [a - b for a, b in zip(debiased, naive)],
             key="debias dependent gain" if model == "dependent" else None, shown=True)
        closed = (mean(debiased) - mean(naive)) / (mean(bound) - mean(naive))
        report.line("simulated", f"{model} clicks{much}, share of the gap closed", closed, count,
                    key="debias closed" if (model, times) == ("position", 1) else None)


def after(shop: simulated.Shop, rng: random.Random, count: int) -> list[simulated.Asked]:
    """Searches that come after the log."""
    begin = simulated.START + timedelta(days=shop.days)
    return [shop.ask(rng, begin + timedelta(minutes=7 * number)) for number in range(count)]


def train(c, report, shop: simulated.Shop, **options) -> int:
    """Trains a ranker that is not deployed; its number."""
    c.execute("SELECT count(*) FROM persona.train(%s::regclass, %s::jsonb)", (shop.table, json.dumps({**OPTIONS, **options}))).fetchone()
    ranker, propensities, lists = c.execute("""SELECT ranker, data->>'propensities', data->>'lists' FROM persona.rankers
        WHERE items = %s::regclass ORDER BY ranker DESC LIMIT 1""", (shop.table,)).fetchone()
    report.note(f"{shop.table}, {options}: lists {lists}, propensities {propensities[:110]}")
    return ranker


def quality(c, shop: simulated.Shop, asked: list[simulated.Asked], ranker: int, **options) -> list[float]:
    """True NDCG@10 of each search by a ranker, with options of the search."""
    return [shop.ndcg(one.user, one.query, one.context, found(c, shop, one, ranker, **options)) for one in asked]


def found(c, shop: simulated.Shop, one: simulated.Asked, ranker: int, **options) -> list[int]:
    """The ten best items of a search."""
    return protocols.ranked(c, shop.table, "id", one.query, one.user, one.context, ranker=ranker, blend=0, **options)
