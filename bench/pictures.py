"""Pictures as SVG that are the same bytes from the same figures."""

from __future__ import annotations

from typing import Any


def pyplot() -> Any:
    """matplotlib's."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "rasure"
    from matplotlib import pyplot

    return pyplot
