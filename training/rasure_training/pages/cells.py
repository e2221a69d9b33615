"""Figures in the cells of a table."""

from __future__ import annotations

from ..files import Row


def cell(figure: Row | None, digits: int) -> str:
    """Mean and interval."""
    if figure is None:
        return "-"
    return f"{figure['mean']:.{digits}f} ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def head(titles: list[str]) -> list[str]:
    """The first two lines of a table."""
    return [line(titles), "|---" * len(titles) + "|"]
