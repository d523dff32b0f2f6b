"""The protocols: whose queries, what counts as found, what is left out. Every ranking comes out of SQL.

The weights of the default score are constants in the source: nothing is fitted here, so no fold and no shopper of a
reported line is tuned on. They were chosen on even user ids (games) and on splits up to August (gifts), which is why odd
user ids and September are reported. On electronics the fields' weights and the share of the dense part were chosen with all
41 queries in sight; the line "dense weight tuned on four folds, measured on the fifth" says what is left of the figure
when that choice is taken away from the queries that are measured.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from figures import folds, interval, mean, ndcg
from shops import Asked, refresh

WEIGHTS = Path(__file__).resolve().parents[2] / "src" / "rank" / "weights.rs"
TRIED = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0)
SHUFFLES = 20


def dense_weight() -> float:
    """The weight of the cosine in relevance where every word is there, as the source has it."""
    return float(re.search(r"pub const DENSE: f64 = ([0-9.]+);", WEIGHTS.read_text())[1])


def ranked(c, table: str, key: str, query: str, user: str | None = None, context: dict | None = None, **options) -> list:
    """The ten best keys of a search, by a bound query and user id, with options of the search."""
    user_type = "text" if user is None else "bigint"
    sql = f"""SELECT (s.item).{key} FROM persona.search(NULL::{table}, %s, user_id => %s::{user_type}, context => %s::jsonb,
        k => 10, options => %s::jsonb) s ORDER BY s."position" """
    return [row[0] for row in c.execute(sql, (query, user, json.dumps(context or {}), json.dumps(options)))]


def quality(c, table: str, key: str, one: Asked, user: str | None = None, context: dict | None = None, **options) -> float:
    """NDCG@10 of one query, with options of the search."""
    return ndcg(ranked(c, table, key, one.query, user, context, **options), dict.fromkeys(one.relevant, 1))


def electronics(c, report, judged: dict[str, dict[int, int]]) -> None:
    """Judged queries, nobody known."""
    queries = sorted(judged)

    def figure(**options) -> list[float]:
        return [ndcg(ranked(c, "electronics", "id", query, **options), judged[query]) for query in queries]

    values = figure()
    report.line("electronics", "NDCG@10, search, default weights", mean(values), len(values), interval(values), key="electronics")
    parts = folds(queries, 5, seed=1)
    of = dict(zip(queries, values))
    by_fold = " ".join(f"{mean(of[query] for query in part):.3f}" for part in parts)
    report.note(f"five folds of the queries: {by_fold}; constants of the source, nothing is fitted here")
    tuned(c, report, judged, queries)
    for name, sources in (("lexical", ["lexical"]), ("dense", ["dense"])):
        values = figure(sources=sources)
        report.line("electronics", f"NDCG@10, search, source {name} only", mean(values), len(values), interval(values), shown=True)


def tuned(c, report, judged, queries) -> None:
    """Cross-validation: the dense weight that is best on four folds, measured on the fifth; over several shuffles."""
    sql = """SELECT (s.item).id, (s.parts->>'relevance')::float8,
            greatest(0, 1 - (p.embedding <=> persona.embed(%s, 'query')::halfvec))
        FROM persona.search(NULL::electronics, %s, k => 600) s JOIN electronics_persona p ON p.key = (s.item).id"""
    default = dense_weight()
    by_weight: dict[float, dict[str, float]] = {weight: {} for weight in TRIED}
    for query in queries:
        found = [(item, relevance - default * cosine, cosine) for item, relevance, cosine in c.execute(sql, (query, query))]
        for weight in TRIED:
            best = sorted(found, key=lambda row: -(row[1] + weight * row[2]))[:10]
            by_weight[weight][query] = ndcg([row[0] for row in best], judged[query])
    means, picked = [], set()
    for seed in range(1, SHUFFLES + 1):
        values = []
        for part in folds(queries, 5, seed):
            rest = [query for query in queries if query not in part]
            weight = max(TRIED, key=lambda w: mean(by_weight[w][query] for query in rest))
            picked.add(weight)
            values += [by_weight[weight][query] for query in part]
        means.append(mean(values))
    means.sort()
    report.line("electronics", "NDCG@10, dense weight tuned on four folds, measured on fifth", mean(means), len(queries),
                key="electronics tuned")
    report.note(f"mean of {SHUFFLES} shuffles, from {means[0]:.3f} to {means[-1]:.3f}; weights picked {sorted(picked)}, default {default}")


def personal(c, report, data: str, table: str, key: str, asked: list[Asked], what: str, **options) -> None:
    """The same queries with the shopper known and withheld."""
    seen = "their past left out" if options.get("exclude_seen") else "their past among the results"
    with_user, without = [], []
    for one in asked:
        with_user.append(quality(c, table, key, one, one.user_id, **options))
        without.append(quality(c, table, key, one))
    groups = [one.user_id for one in asked]
    gap = [a - b for a, b in zip(with_user, without)]
    report.line(data, f"NDCG@10, search with user_id, {what}", mean(with_user), len(asked), interval(with_user, groups), key=data)
    report.note(f"{seen}; {len(set(groups)):,} shoppers")
    report.line(data, "NDCG@10, the same, user withheld", mean(without), len(asked), interval(without, groups), shown=True)
    report.line(data, "gain from the user", mean(gap), len(asked), interval(gap, groups), key=f"{data} gap")


def recommend(c, report, every: int) -> None:
    """The last purchase of shoppers with four or more, held out of events, statistics and pairs; its rank among ten recommended."""
    name = "persona.recommend(anyelement,text,jsonb,jsonb,integer,jsonb)"
    if c.execute("SELECT to_regprocedure(%s)", (name,)).fetchone()[0] is None:
        report.note("games        persona.recommend is not there, its protocol is skipped")
        return
    recommended(c, report, hold_out(c), every, "recommend")


def hold_out(c) -> list[tuple]:
    """Takes the last purchase of shoppers with four or more out of what the games' catalog knows; the odd shoppers' (id, item)."""
    if c.execute("SELECT to_regclass('games_past')").fetchone()[0] is None:
        c.execute("""CREATE TABLE games_past AS SELECT user_id, item_id, at FROM
            (SELECT *, row_number() OVER newest AS n, count(*) OVER (PARTITION BY user_id) AS total FROM games_events
             WINDOW newest AS (PARTITION BY user_id ORDER BY at DESC)) e WHERE n > 1 OR total < 4""")
        c.execute("CREATE INDEX ON games_past (user_id, at)")
        c.execute("ANALYZE games_past")
        c.execute("SELECT persona.drop_events('games', 'games_events')")
        c.execute("SELECT persona.add_events('games', 'games_past', user_id => 'user_id', item_id => 'item_id', at => 'at')")
        refresh(c, "games")
    held = c.execute("""SELECT DISTINCT ON (user_id) user_id, item_id FROM games_events
        WHERE user_id IN (SELECT user_id FROM games_events GROUP BY 1 HAVING count(*) >= 4) ORDER BY user_id, at DESC""").fetchall()
    return [row for row in held if row[0] % 2]


def recommended(c, report, held: list[tuple], every: int, what: str) -> None:
    """Recall and NDCG of held-out purchases among ten recommended."""
    held = held[::every]
    sql = """SELECT (s.item).id FROM persona.recommend(NULL::games, user_id => %s::bigint, k => 10, options => '{"exclude_seen": true}') s
        ORDER BY s."position" """
    recalls, gains = [], []
    for user, item in held:
        found = [row[0] for row in c.execute(sql, (user,))]
        recalls.append(float(item in found))
        gains.append(ndcg(found, {item: 1}))
    report.line("games", f"recall@10, {what}, last purchase held out, odd ids, 1 in {every}", mean(recalls), len(held),
                interval(recalls), key=f"{what} recall")
    report.line("games", "NDCG@10, the same", mean(gains), len(held), interval(gains), key=f"{what} ndcg")
