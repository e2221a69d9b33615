"""Means of outcomes, with how sure they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

import numpy as np

from .files import Row

RESAMPLES = 10_000
SEED = 20


def clustered(values: Sequence[float], clusters: Sequence[str]) -> Row:
    """Mean, n, number of clusters, and the 95 % percentile interval of a bootstrap that draws whole clusters."""
    sums: dict[str, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster].append(float(value))
    totals = np.array([sum(group) for group in sums.values()])
    counts = np.array([len(group) for group in sums.values()])
    rng = np.random.default_rng(SEED)
    means = np.empty(RESAMPLES)
    for i in range(0, RESAMPLES, 1000):  # bounds the memory
        drawn = rng.integers(0, len(totals), (1000, len(totals)))
        means[i : i + 1000] = totals[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "mean": float(totals.sum() / counts.sum()), "low": float(low), "high": float(high), "n": int(counts.sum()),
        "clusters": len(totals),
    }  # fmt: skip


def over(rows: Sequence[Row], value: str) -> Row:
    """The same of a value that all rows have, by their contexts."""
    return clustered([float(row[value]) for row in rows], [row["context"] for row in rows])


def median_ms(rows: Sequence[Row]) -> float | None:
    """Of the erases; None where nothing was erased."""
    milliseconds = [row["erase_ms"] for row in rows if row["erase_ms"] is not None]
    return median(milliseconds) if milliseconds else None
