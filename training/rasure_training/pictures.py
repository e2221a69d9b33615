"""Pictures as SVG that are the same bytes from the same figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def pyplot() -> Any:
    """matplotlib's, which is loaded by those alone who draw."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "rasure"
    from matplotlib import pyplot

    return pyplot


def spread(figures: Sequence[dict[str, Any]]) -> list[list[float]]:
    """Error bars of figures with `mean`, `low` and `high`."""
    below = [max(0.0, figure["mean"] - figure["low"]) for figure in figures]
    return [below, [max(0.0, figure["high"] - figure["mean"]) for figure in figures]]


def save(figure: Any, path: Path) -> None:
    """Writes the figure and forgets it."""
    figure.savefig(path, metadata={"Date": None})
    pyplot().close(figure)
