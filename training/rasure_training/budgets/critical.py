"""The critical KV footprint ("Cache Me If You Can", arXiv 2506.17121, section 3): how little suffices for 90 % of the full cache's
score."""

from __future__ import annotations

from collections.abc import Sequence

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
