"""Diversity: how unlike the ten results of a search are, and what that costs in relevance."""

from __future__ import annotations

from figures import interval, mean, ndcg
from protocols import ranked

TRIED = (0.3, 0.4, 0.5, 0.6, 0.7)
COST = 0.01  # of NDCG


def games(c, report, asked: list, every: int) -> None:
    """The diversity that costs no more than 1 % of NDCG@10 on even user ids, measured on odd ones: the mean distance
    (1 − cosine) between any two of the ten results, against the same searches without."""
    even = [one for one in asked if int(one.user_id) % 2 == 0][::every]
    odd = [one for one in asked if int(one.user_id) % 2]
    gain, apart = measure(c, even, 0.0)
    chosen = 0.0
    for diversity in TRIED:
        now, further = measure(c, even, diversity)
        if mean(now) >= (1 - COST) * mean(gain):
            chosen = diversity
        report.note(f"even ids, diversity {diversity}: NDCG {mean(now) / mean(gain) - 1:+.1%}, distance {mean(further) / mean(apart) - 1:+.1%}")
    gain, apart = measure(c, odd, 0.0)
    now, further = measure(c, odd, chosen)
    cost = [b - a for a, b in zip(gain, now)]
    report.line("games", f"distance within a list, diversity {chosen} against none, gain", mean(further) / mean(apart) - 1, len(odd), key="diversity gain")
    low, high = interval(cost)
    report.line("games", "NDCG@10, the same, lost, share", -mean(cost) / mean(gain), len(odd), (-high / mean(gain), -low / mean(gain)), key="diversity cost")


def measure(c, asked: list, diversity: float) -> tuple[list[float], list[float]]:
    """NDCG@10 and the mean distance of each search."""
    gains, apart = [], []
    for one in asked:
        found = ranked(c, "games", "id", one.query, one.user_id, exclude_seen=True, diversity=diversity)
        gains.append(ndcg(found, dict.fromkeys(one.relevant, 1)))
        distance = c.execute("""SELECT avg(a.embedding <=> b.embedding)::float8 FROM games_persona a, games_persona b
            WHERE a.key = ANY(%s) AND b.key = ANY(%s) AND a.key < b.key""", (found, found)).fetchone()[0]
        apart.append(distance or 0.0)
    return gains, apart
