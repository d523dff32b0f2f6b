"""What the moment, the device, the country and the session are worth where they matter: in the simulated shop.

One log of clicks, one ranker that learns from it. Its searches, which come after the log, are held against what the shoppers
truly want then and there: as they are, and with the part of the score left out that knows the moment, or the session. What
a shopper clicks in these searches is logged, so the second search of a session knows what came of the first.
"""

from __future__ import annotations

import random

import debias
import simulated
from figures import interval, mean

LEFT_OUT = {"moment, device and country": "context", "this session": "session"}


def measure(c, report, searches: int = 20_000, count: int = 1000, seed: int = 1) -> None:
    """A line for each part that is left out."""
    shop = simulated.shop(c, seed, "position", searches, table="contextual")
    rng = random.Random(f"asked {seed}")
    asked = debias.after(shop, rng, count)
    groups = [one.user for one in asked]
    ranker = debias.train(c, report, shop)
    for one in asked:
        ranked = debias.found(c, shop, one, ranker)
        shop.log(c, shop.rows(one, ranked, shop.click(one.user, one.query, ranked, one.context, rng)))
    whole = debias.quality(c, shop, asked, ranker)
    fixed = debias.quality(c, shop, asked, 0)
    report.line("simulated", "true NDCG@10, trained, everything known", mean(whole), count, interval(whole, groups), shown=True)
    report.line("simulated", "true NDCG@10, fixed weights", mean(fixed), count, interval(fixed, groups))
    for what, dimension in LEFT_OUT.items():
        gap = [a - b for a, b in zip(whole, debias.quality(c, shop, asked, ranker, without=[dimension]))]
        report.line("simulated", f"gain from {what}", mean(gap), count, interval(gap, groups), shown=True, key=f"{dimension} gain")
