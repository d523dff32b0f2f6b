"""What retrieval must not lose: the nearest vectors, and rows that a filter leaves. The oracle is plain SQL."""

from __future__ import annotations

import json

from figures import mean

K = 10
FILTERED_K = 20


def dense(c, report, queries: list[str]) -> None:
    """The ten nearest by exact cosine among the ten nearest of what the dense source brings, beside it through a 1 % filter."""
    for what, filtered, where in (("", {}, "true"), (", through a 1 % filter", *band(c, 0.01))):
        values = []
        for query in queries:
            exact = nearest(c, query, f"SELECT id FROM electronics WHERE {where}")
            found = c.execute("""SELECT array_agg((s.item).id) FROM persona.search(NULL::electronics, %s, k => 100,
                filter => %s::jsonb, options => '{"sources": ["dense"]}') s""", (query, json.dumps(filtered))).fetchone()[0] or []
            brought = nearest(c, query, "SELECT unnest(%s::bigint[])", found)
            values.append(len(set(exact) & set(brought)) / max(1, len(exact)))
        report.line("electronics", f"dense recall@{K} against exact{what}", mean(values), len(values), key="dense recall")


def nearest(c, query: str, ids: str, *bound) -> list[int]:
    """The nearest of some items, by comparing every one: no index."""
    with c.transaction():
        c.execute("SET LOCAL enable_indexscan = off")
        sql = f"""SELECT p.key FROM electronics_persona p WHERE p.key IN ({ids}) AND p.embedding IS NOT NULL
            ORDER BY p.embedding <=> persona.embed(%s, 'query')::halfvec, p.key LIMIT {K}"""
        return [row[0] for row in c.execute(sql, (*bound, query))]


def band(c, share: float) -> tuple[dict, str]:
    """A price range from the median up that holds about this share of the items: as a filter, and as SQL."""
    low, high = c.execute("""SELECT m.price, (SELECT price FROM electronics e WHERE e.price >= m.price ORDER BY price
            OFFSET (SELECT %s * count(*) FROM electronics) LIMIT 1)
        FROM (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY price) AS price FROM electronics) m""", (share,)).fetchone()
    return {"price": {"ge": float(low), "le": float(high)}}, f"price >= {low} AND price <= {high}"


def brand(c, share: float) -> tuple[dict, str]:
    """The brand whose share of the items is nearest: as a filter, and as SQL."""
    name = c.execute("""SELECT brand FROM electronics WHERE brand IS NOT NULL GROUP BY 1
        ORDER BY abs(ln(count(*)::float8 / (SELECT count(*) FROM electronics) / %s)), 1 LIMIT 1""", (share,)).fetchone()[0]
    return {"brand": name}, "brand = '" + name.replace("'", "''") + "'"


def filters(c, report, queries: list[str]) -> None:
    """k rows whenever k match; nothing that a plain WHERE would not give; the ranking of a full sort by persona.score."""
    for share in (0.1, 0.01, 0.002):
        for kind, made in (("price", band), ("brand", brand)):
            filtered, where = made(c, share)
            allowed = {row[0] for row in c.execute(f"SELECT id FROM electronics WHERE {where}")}
            whole, obeyed, same = [], [], []
            for query in queries:
                found = [row[0] for row in c.execute("""SELECT (s.item).id FROM persona.search(NULL::electronics, %s,
                    filter => %s::jsonb, k => %s) s ORDER BY s."position" """, (query, json.dumps(filtered), FILTERED_K))]
                whole.append(len(found) == min(FILTERED_K, len(allowed)) == len(set(found)))
                obeyed.append(allowed.issuperset(found))
                sorted_all = c.execute(f"""SELECT id FROM electronics p WHERE {where}
                    ORDER BY persona.score(p, %s) DESC LIMIT {K}""", (query,)).fetchall()
                same.append(len({row[0] for row in sorted_all} & set(found[:K])) / max(1, len(sorted_all)))
            size = f"{kind} filter, {len(allowed) / total(c):.1%} of the items"
            report.line("electronics", f"{size}: searches with all {FILTERED_K} rows", mean(whole), len(whole), key="filter rows")
            report.line("electronics", f"{size}: within plain SQL's WHERE", mean(obeyed), len(obeyed), key="filter oracle")
            report.line("electronics", f"{size}: top {K} of a full sort by score", mean(same), len(same))


def total(c) -> int:
    """How many items there are."""
    return c.execute("SELECT count(*) FROM electronics").fetchone()[0]
