"""Figures in the cells of a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..files import Row

# What a page says of its intervals, behind what they are.
NO_WIDTH = (
    "Where all n contexts are alike, as in 0.00 (0.00 to 0.00), a bootstrap has no width: with 95 %, at most about 3 / n of all "
    "contexts are then otherwise, and a share is within that of the truth (rule of three)."
)
# And of contexts that are cut from the same texts.
SHARED_TEXT = (
    "It takes contexts for independent of each other, which they are not quite: all draw on the same prose and passages of the split, "
    "and the longer they are, the more of it they share, so that intervals are too narrow by what that makes alike."
)


def cell(figure: Row | None, digits: int) -> str:
    """Mean and interval."""
    if figure is None:
        return "-"
    return f"{figure['mean']:.{digits}f} ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def head(titles: Sequence[str]) -> list[str]:
    """The first two lines of a table."""
    return [line(titles), "|---" * len(titles) + "|"]


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [*head(titles), *map(line, rows)]
