"""KL in pictures, one panel for each kind of cases: against cost (the frontier), and by the length of the context."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from .. import pictures
from .measured import GROUPS, Measured, mean_of

MARKERS = "os^vD<>PX*"


def _looks(measured: Measured) -> dict[str, tuple[str, str]]:
    """Colour, by family, and marker, within the family, of each method."""
    looks: dict[str, tuple[str, str]] = {}
    for method in measured.methods():
        if method in ("none", "exact"):
            continue
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


def _panels(measured: Measured) -> tuple[Any, Any, list[str]]:
    """Figure, axes by line and column, and the kind of cases of each panel."""
    names = [name for name, tasks in GROUPS.items() if any(row["task"] in tasks for row in measured.rows)]
    columns = 4
    lines = (len(names) + columns - 1) // columns
    figure, axes = pictures.pyplot().subplots(
        lines, columns, figsize=(4 * columns, 3.6 * lines), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis in axes[:, 0]:
        axis.set_ylabel("KL(exact || method), nats")
    return figure, axes, names


def _finish(figure: Any, seen: dict[str, Any], path: Path) -> None:
    figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=8, fontsize=8)
    pictures.save(figure, path)


def draw(measured: Measured, path: Path) -> None:
    """KL against cost."""
    figure, axes, names = _panels(measured)
    looks = _looks(measured)
    seen: dict[str, Any] = {}
    for axis, name in zip(axes.flat, names, strict=False):
        for method in measured.everywhere():
            if method not in looks:
                continue
            colour, marker = looks[method]
            rows = measured.select(GROUPS[name], method)
            kl = mean_of(rows, "kl")
            times = [row["erase_ms"] for row in rows if row.get("erase_ms") is not None]
            if kl is None or not times:
                continue
            seen[method] = axis.errorbar(median(times), kl["mean"], yerr=pictures.spread([kl]), marker=marker, markersize=6, color=colour,
                                         markerfacecolor="white", linewidth=0.8, linestyle="none")  # fmt: skip
        nothing = mean_of(measured.select(GROUPS[name], "none"), "kl")
        if nothing:
            axis.axhline(nothing["mean"], linestyle="--", linewidth=0.8, color="gray")
            axis.text(0.99, nothing["mean"], "nothing erased", ha="right", va="bottom", fontsize=6, color="gray",
                      transform=axis.get_yaxis_transform())  # fmt: skip
        axis.set(xscale="log", yscale="log", title=name, xlabel="erase, ms, median")
        axis.grid(alpha=0.3)
    _finish(figure, seen, path)


def draw_lengths(measured: Measured, path: Path) -> None:
    """KL by the length of the context."""
    figure, axes, names = _panels(measured)
    seen: dict[str, Any] = {}
    sizes = {tokens: measured.length(tokens) for tokens in measured.lengths()}
    looks = _looks(measured)
    for axis, name in zip(axes.flat, names, strict=False):
        for method, (colour, marker) in looks.items():
            found = {size: mean_of(measured.select(GROUPS[name], method, tokens), "kl") for tokens, size in sizes.items()}
            known = {size: kl for size, kl in found.items() if kl}
            if known:
                seen[method] = axis.errorbar(known.keys(), [kl["mean"] for kl in known.values()],
                                             yerr=pictures.spread(list(known.values())), marker=marker, markersize=5, color=colour,
                                             markerfacecolor="white", linewidth=0.8)  # fmt: skip
        axis.set(xscale="log", yscale="log", title=name, xlabel="context, tokens",
                 xlim=(min(sizes.values()) / 1.1, max(sizes.values()) * 1.1))  # fmt: skip
        axis.set_xticks(list(sizes.values()), [f"{size:,.0f}" for size in sizes.values()], fontsize=8)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    _finish(figure, seen, path)
