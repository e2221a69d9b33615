"""The critical KV footprint ("Cache Me If You Can", arXiv 2506.17121, section 3): how little suffices for 90 % of the full cache's
score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..figures import RESAMPLES, SEED

SHARE = 0.9


def critical_footprint(points: Sequence[tuple[float, float]], full: float, share: float = SHARE) -> str | float:
    """Of (footprint, score) pairs, where the line through them, seen from the largest footprint down, first falls below `share` of
    `full`. A string, "< f" or "> f", where no point, or the very first, is below."""
    wanted = share * full
    ordered = sorted(points, reverse=True)
    if not ordered:
        raise ValueError("there is no point")
    above = ordered[0]
    if above[1] < wanted:
        return f"> {above[0]:.2f}"
    for below in ordered[1:]:
        if below[1] < wanted:
            return below[0] + (wanted - below[1]) / (above[1] - below[1]) * (above[0] - below[0])
        above = below
    return f"< {above[0]:.2f}"


def surely_at_most(footprint: str | float, other: str | float) -> bool:
    """Whether one is at or below the other, of which "> f" says no more than that it is above f, and "< f" that it is below."""
    most = float(footprint[2:]) if isinstance(footprint, str) and footprint.startswith("<") else footprint
    least = float(other[2:]) if isinstance(other, str) and other.startswith(">") else other
    return not isinstance(most, str) and not isinstance(least, str) and most <= least


@lru_cache(maxsize=4)
def _resamples(contexts: int) -> np.ndarray:
    return np.random.default_rng(SEED).multinomial(contexts, [1 / contexts] * contexts, RESAMPLES).astype(float)


@dataclass(frozen=True)
class Curve:
    """An arm on one task. Sums over the items of each context: their number and the full cache's score [contexts], the arm's
    footprint and score [contexts, budgets]."""

    n: np.ndarray
    full: np.ndarray
    footprints: np.ndarray
    scores: np.ndarray

    def critical(self) -> str | float:
        """The critical footprint."""
        return self._of(np.ones((1, len(self.n))))[0]

    def resampled(self) -> list[str | float]:
        """That of contexts drawn anew, again and again: the same ones for every arm of a task."""
        return self._of(_resamples(len(self.n)))

    def _of(self, drawn: np.ndarray) -> list[str | float]:
        """drawn: how often each context counts [draws, contexts]."""
        n = drawn @ self.n
        full, footprints, scores = ((drawn @ sums / (n if sums.ndim == 1 else n[:, None])).tolist()
                                    for sums in (self.full, self.footprints, self.scores))  # fmt: skip
        return [critical_footprint(list(zip(f, s, strict=True)), whole)
                for f, s, whole in zip(footprints, scores, full, strict=True)]  # fmt: skip


def interval(resampled: Sequence[str | float]) -> tuple[str | float, str | float]:
    """The 95 % percentiles. What is beyond all that was tested is below or above everything else."""
    ordered = sorted(resampled, key=_place)
    least = round(0.025 * (len(ordered) - 1))
    return ordered[least], ordered[-1 - least]


def _place(footprint: str | float) -> float:
    if isinstance(footprint, str):
        return math.inf if footprint.startswith(">") else -math.inf
    return footprint


def share_at_most(resampled: Sequence[str | float], others: Sequence[str | float]) -> float:
    """Of two arms' footprints in the same resamples, how often the one is surely at or below the other."""
    return sum(map(surely_at_most, resampled, others)) / len(resampled)


def shown(footprint: str | float) -> str:
    return footprint if isinstance(footprint, str) else f"{footprint:.2f}"


def shown_with_interval(curve: Curve) -> str:
    """The critical footprint with its interval, which is left out where it is nothing but what is beyond the tested."""
    found, (low, high) = curve.critical(), interval(curve.resampled())
    if isinstance(found, str) and _place(low) == _place(high):
        return found
    return f"{shown(found)} ({shown(low)} to {shown(high)})"
