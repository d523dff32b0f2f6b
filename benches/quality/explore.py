"""Exploration in the simulated shop: good new items found, and what that costs.

Two shops begin alike; ten thousand searches are made in each, one with a share of places left to chance, one without. What
the shoppers click is logged, with the propensities that `source` tells, and folded in by a refresh after each thousand
searches. An item is found once it was clicked five times; the reward is the number of clicks that the shop's truth expects
of the lists, so that luck is no part of it.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import datetime, timedelta

import simulated

SEARCHES, EVERY, FOUND = 10_000, 1_000, 5
SHARE = 0.1


def run(c, report, share: float = SHARE, searches: int = SEARCHES, seed: int = 1) -> None:
    """Both shops, and the lines of the report."""
    none, reward = searched(c, 0.0, searches, seed, "none")
    some, explored = searched(c, share, searches, seed, "some")
    report.line("simulated", f"good new items found, explore {share}, share", some, searches, shown=True)
    report.line("simulated", "the same without exploration", none, searches)
    report.line("simulated", "good new items found, times those without", some / max(none, 1e-9), searches, key="explore times")
    report.line("simulated", "reward lost, share", 1 - explored / reward, searches, key="explore cost", digits=4)


def searched(c, share: float, searches: int, seed: int, name: str) -> tuple[float, float]:
    """The share of the good new items that were found, and the expected clicks."""
    shop = simulated.shop(c, seed, table=f"explored_{name}")
    rng, reward, clicked = random.Random(seed), 0.0, Counter()
    begin = simulated.START + timedelta(days=shop.days)
    for number in range(searches):
        asked = shop.ask(rng, begin + timedelta(minutes=number))
        rows = c.execute(f"""SELECT (s.item).id, persona.propensity(s.source) FROM persona.search(NULL::{shop.table}, %s,
            user_id => %s::bigint, context => %s::jsonb, k => {simulated.SHOWN}, options => %s::jsonb) s ORDER BY s."position" """,
            (asked.query, asked.user, context(asked), json.dumps({"explore": share, "seed": number}))).fetchall()
        ranked = [row[0] for row in rows]
        reward += shop.expect(asked.user, asked.query, ranked, asked.context)[0]
        clicks = shop.click(asked.user, asked.query, ranked, asked.context, random.Random(f"{seed} {number}"))
        clicked.update(click.item for click in clicks)
        shop.log(c, shop.rows(asked, ranked, clicks, [row[1] for row in rows]))
        if number % EVERY == EVERY - 1:
            c.execute("SELECT * FROM persona.refresh(%s::regclass)", (shop.table,))
    good = shop.good_new()
    return sum(clicked[item] >= FOUND for item in good) / len(good), reward


def context(asked) -> str:
    """The call's context: the moment is given, as the log lies in the past."""
    moment: datetime = asked.at
    return json.dumps(asked.context | {"at": moment.isoformat()})
