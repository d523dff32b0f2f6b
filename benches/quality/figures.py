"""Figures: NDCG, recall, their bootstrap intervals, folds. Plain Python, no package needed."""

from __future__ import annotations

import math
import random

DRAWS = 2000


def ndcg(ranked: list, gains: dict, k: int = 10) -> float:
    """NDCG at k: gain 2^rating − 1, discount log2(rank + 1), ideal over all that is rated; what is not rated counts 0."""
    total = sum((2 ** gains.get(item, 0) - 1) / math.log2(place + 2) for place, item in enumerate(ranked[:k]))
    best = sorted((2**rating - 1 for rating in gains.values()), reverse=True)[:k]
    ideal = sum(gain / math.log2(place + 2) for place, gain in enumerate(best))
    return total / ideal if ideal else 0.0


def mean(values) -> float:
    """The arithmetic mean; NaN of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else math.nan


def interval(values: list[float], groups: list | None = None, seed: int = 1) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean. With `groups` (one label a value), whole groups are drawn: the queries
    of one shopper are not independent of one another."""
    rng = random.Random(seed)
    sums: dict = {}
    for label, value in zip(groups if groups is not None else range(len(values)), values):
        total, count = sums.get(label, (0.0, 0))
        sums[label] = (total + value, count + 1)
    parts = list(sums.values())
    means = []
    for _ in range(DRAWS):
        drawn = rng.choices(parts, k=len(parts))
        means.append(sum(total for total, _ in drawn) / sum(count for _, count in drawn))
    means.sort()
    return means[int(0.025 * DRAWS)], means[int(0.975 * DRAWS) - 1]


def folds(names: list, count: int, seed: int) -> list[list]:
    """`names` dealt into `count` parts after a shuffle that the seed decides."""
    names = sorted(names)
    random.Random(seed).shuffle(names)
    return [names[place::count] for place in range(count)]


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
