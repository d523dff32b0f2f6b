"""How many searches tell two rankers apart: interleaved in one list, against an A/B test.

Both are counted for the same power (80 % at the 5 % level, two-sided), and both judge shopper by shopper, whose searches are
not independent of one another. Interleaving judges by the credit of a search; the A/B test by the best of three measures
(clicks of a search, any click, purchases), whichever needs the fewest searches. Half of the shoppers see the one ranker and
half the other, as a shop does it: a list that changes with each search is no test of a ranker. The note says what the A/B
test would need if every search drew its arm anew. What the A/B test has to find is what the simulated shop expects of the
lists; variances come from its shoppers clicking on the lists of SQL several times over.

Only "dependent" clicks are held to a bound. Where the place alone decides what is looked at, a click on one item takes none
from another: the interleaved list then shows half of the difference, and what it saves is the noise of clicks on what both
lists agree on, a factor of four to six. Where a click ends the search for good, the two lists' items compete for it.

Since popularity is counted by how seldom a place is looked at, five times its weight costs .03 clicks a search only, and team
draft hardly sees it (preference -.012, 29,000 searches; A/B 19,000); twenty times costs .10, and it is no better (4,500; 3,400).
That pair misses the bound. While popularity was counted as clicked, the pair needed .089 of an A/B test's searches.
"""

from __future__ import annotations

import json
import math
import random

import simulated
from figures import mean

SEARCHES = 1000
REPEATS = 20
Z = 1.960 + 0.842
PAIRS = {
    "relevance at a third": ({"weights": {"relevance": 0.3}}, {}),
    "popularity at five": ({"weights": {"popularity": 5}}, {}),
    "taste at five": ({"weights": {"taste": 5}}, {}),
}


def measure(c, report, seed: int = 1) -> None:
    """A line for each pair of rankers, and for each click model."""
    for model in ("position", "dependent"):
        shop = simulated.shop(c, seed, model, table=f"simulated_{model}")
        rng = random.Random(seed)
        asked = [shop.ask(rng) for _ in range(SEARCHES)]
        for name, (a, b) in PAIRS.items():
            needed = compare(c, shop, asked, a, b, rng)
            report.line("simulated", f"{model} clicks, {name}: interleaved searches for one of A/B", needed["share"], SEARCHES * REPEATS,
                        key="interleave share" if model == "dependent" else None, shown=model != "dependent")
            report.note(f"searches needed: {needed['interleaved']:,.0f} interleaved, {needed['ab']:,.0f} A/B by {needed['by']} ({needed['by search']:,.0f} by search); "
                        f"{needed['searches']:,} credits: preference {needed['preference']:+.4f} "
                        f"({needed['low']:+.4f} to {needed['high']:+.4f}), p {needed['p']:.1e}; clicks of a search differ by {needed['gap']:+.4f}")


def compare(c, shop, asked, a: dict, b: dict, rng: random.Random) -> dict:
    """Searches needed by either way."""
    lists = f"""SELECT ARRAY(SELECT (s.item).id FROM persona.search(NULL::{shop.table}, %(q)s, user_id => %(u)s::bigint, context => %(c)s::jsonb,
            k => 10, options => %(a)s::jsonb) s ORDER BY s."position"),
        ARRAY(SELECT (s.item).id FROM persona.search(NULL::{shop.table}, %(q)s, user_id => %(u)s::bigint, context => %(c)s::jsonb,
            k => 10, options => %(b)s::jsonb) s ORDER BY s."position")"""
    drafts = """SELECT array_agg(d.item_id ORDER BY d."position"), array_agg(d.team ORDER BY d."position")
        FROM generate_series(%s::bigint, %s) seed, persona.interleave(%s::bigint[], %s::bigint[], seed => seed) d GROUP BY seed"""
    groups = [(one.user, repeat) for one in asked for repeat in range(REPEATS)]
    by_arm: dict = {"clicks": ([], []), "any click": ([], []), "purchases": ([], [])}
    expected = ([0.0] * 3, [0.0] * 3)
    teams_clicked = []
    for number, one in enumerate(asked):
        bound = {"q": one.query, "u": one.user, "c": json.dumps(one.context), "a": json.dumps(a), "b": json.dumps(b)}
        both = c.execute(lists, bound).fetchone()
        first = number * REPEATS
        for ranked, teams in c.execute(drafts, (first, first + REPEATS - 1, *both)).fetchall():
            clicks = shop.click(one.user, one.query, ranked, one.context, rng)
            teams_clicked.append([teams[click.position - 1] for click in clicks])
        for arm, ranked in enumerate(both):
            for place, value in enumerate(shop.expect(one.user, one.query, ranked, one.context)):
                expected[arm][place] += value / len(asked)
            for _ in range(REPEATS):
                clicks = shop.click(one.user, one.query, ranked, one.context, rng)
                by_arm["clicks"][arm].append(len(clicks))
                by_arm["any click"][arm].append(bool(clicks))
                by_arm["purchases"][arm].append(sum(click.purchase for click in clicks))
    credits = [row[0] for row in c.execute("""SELECT persona.interleave_credit(ARRAY(SELECT jsonb_array_elements_text(t)))
        FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY x(t, n) ORDER BY n""", (json.dumps(teams_clicked),))]
    columns = ("searches", "a", "b", "ties", "preference", "low", "high", "p")
    told = dict(zip(columns, c.execute("SELECT * FROM persona.interleave_result(%s::int[])", (credits,)).fetchone()))
    told["interleaved"] = Z**2 * variance(credits, groups) / mean(credits) ** 2
    gaps = dict(zip(by_arm, (x - y for x, y in zip(*expected))))

    def needed(grouping: list) -> dict[str, float]:
        return {name: 2 * Z**2 * (variance(x, grouping) + variance(y, grouping)) / max(1e-12, gaps[name] ** 2)
                for name, (x, y) in by_arm.items()}

    tests = needed(groups)
    told["by"] = min(tests, key=tests.get)
    told["ab"] = tests[told["by"]]
    told["by search"] = min(needed(list(range(len(groups)))).values())
    told["gap"] = gaps["clicks"]
    told["share"] = told["interleaved"] / told["ab"]
    return told


def variance(values: list, groups: list) -> float:
    """The variance of a mean over groups, times the number of values: of independent values, their own variance."""
    middle, sums = mean(values), {}
    for value, group in zip(values, groups):
        sums[group] = sums.get(group, 0.0) + value - middle
    return math.fsum(total**2 for total in sums.values()) / len(values)
