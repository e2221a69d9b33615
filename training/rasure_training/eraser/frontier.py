"""The frontier as a picture: KL against cost, one panel for each kind of cases."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from .. import pictures
from .measured import GROUPS, Measured, mean_of

MARKERS = "os^vD<>PX*"


def _looks(methods: list[str]) -> dict[str, tuple[str, str]]:
    """Colour, by family, and marker, within the family, of each method."""
    looks: dict[str, tuple[str, str]] = {}
    for method in methods:
        colour = (
            "tab:red"
            if method == "adaptive"
            else "tab:orange"
            if "bridge" in method
            else "tab:green"
            if "steer" in method
            else "tab:blue"
        )
        used = sum(other == colour for other, _ in looks.values())
        looks[method] = (colour, MARKERS[used % len(MARKERS)])
    return looks


def draw(measured: Measured, path: Path) -> None:
    """KL against cost, one panel for each kind of cases."""
    plt = pictures.pyplot()
    names = [name for name, tasks in GROUPS.items() if any(row["task"] in tasks for row in measured.rows)]
    columns = 4
    lines = (len(names) + columns - 1) // columns
    figure, axes = plt.subplots(lines, columns, figsize=(4 * columns, 3.6 * lines), layout="constrained", squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    looks = _looks([method for method in measured.methods() if method not in ("none", "exact")])
    seen: dict[str, Any] = {}
    for axis, name in zip(axes.flat, names, strict=False):
        for method, (colour, marker) in looks.items():
            rows = measured.select(GROUPS[name], method)
            kl = mean_of(rows, "kl")
            times = [row["erase_ms"] for row in rows if row.get("erase_ms") is not None]
            if kl is None or not times:
                continue
            spread = [[max(0.0, kl["mean"] - kl["low"])], [max(0.0, kl["high"] - kl["mean"])]]
            seen[method] = axis.errorbar(median(times), kl["mean"], yerr=spread, marker=marker, markersize=6, color=colour,
                                         markerfacecolor="white", linewidth=0.8, linestyle="none")  # fmt: skip
        nothing = mean_of(measured.select(GROUPS[name], "none"), "kl")
        if nothing:
            axis.axhline(nothing["mean"], linestyle="--", linewidth=0.8, color="gray")
            axis.text(0.99, nothing["mean"], "nothing erased", ha="right", va="bottom", fontsize=6, color="gray",
                      transform=axis.get_yaxis_transform())  # fmt: skip
        axis.set(xscale="log", yscale="log", title=name, xlabel="erase, ms, median")
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("KL(exact || method), nats")
    figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=8, fontsize=8)
    pictures.save(figure, path)
