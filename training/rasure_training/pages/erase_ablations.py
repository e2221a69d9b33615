"""What matters in training and settings of erasers (`rasure_training.eraser.ablations`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import pictures
from ..files import Row
from .cells import NO_WIDTH, cell, head, line

TRAININGS = "Trained otherwise"
DRAWN = ("whole sentences", "values", "stale then fresh, reciting")  # of its columns


def named(figures: Sequence[Row], section: str) -> dict[str, dict[str, Row]]:
    """A section's entries by row and column, in the order that they have."""
    found: dict[str, dict[str, Row]] = {}
    for entry in figures:
        if entry["section"] == section:
            found.setdefault(entry["row"], {})[entry["column"]] = entry
    return found


def text_of(entry: Row | None) -> str:
    """The figure, and behind it the difference to another row's, case by case, where there is one."""
    if entry is None:
        return "-"
    difference = entry.get("difference")
    return cell(entry["figure"], entry["digits"]) + (f"; {cell(difference, entry['digits'])}" if difference else "")


def table(rows: dict[str, dict[str, Row]]) -> list[str]:
    columns = list(dict.fromkeys(column for entries in rows.values() for column in entries))
    lines = head(["", *columns])
    return lines + [line([row, *(text_of(entries.get(column)) for column in columns)]) for row, entries in rows.items()]


def draw(figures: Sequence[Row], path: Path) -> None:
    rows = named(figures, TRAININGS)
    picture, axes = pictures.pyplot().subplots(1, len(DRAWN), figsize=(11, 4), layout="constrained", sharey=True)
    for axis, column in zip(axes, DRAWN, strict=True):
        known = [(i, entries[column]["figure"]) for i, entries in enumerate(rows.values()) if column in entries]
        axis.errorbar([figure["mean"] for _, figure in known], [i for i, _ in known],
                      xerr=pictures.spread([figure for _, figure in known]), marker="o", markersize=4, linestyle="none",
                      linewidth=0.8)  # fmt: skip
        axis.set(xscale="log", xlabel="KL to exact, nats", yticks=range(len(rows)), yticklabels=list(rows))
        axis.set_title(column, fontsize=8)
        axis.tick_params(axis="y", labelsize=7)
        axis.grid(alpha=0.3)
    axes[0].invert_yaxis()
    pictures.save(picture, path)


def lines(name: str, measured: Row, figures: Sequence[Row]) -> list[str]:
    found = [
        "# What matters", "",
        f"Made by `python -m rasure_training.eraser.ablations` as `training/configs/ablations.toml` says; figures in `{name}.json`. "
        f"Measured in the runtime on {measured['n']} validation contexts a task, of about {measured['tokens']} tokens where nothing else "
        f"is said; int8 KV cache, kernels: {measured['isa']}; adapters as shipped: {measured['adapters']}. KL(exact || method) in nats, "
        f"in brackets 95 % intervals from a bootstrap over contexts, not corrected for comparisons. {NO_WIDTH}",
        "", f"![KL to exact by training]({name}.svg)",
    ]  # fmt: skip
    for section in dict.fromkeys(entry["section"] for entry in figures):
        found += ["", f"## {section}", ""]
        if section == TRAININGS:
            found += ["One seed each; behind the semicolon the difference to the first run of the kind, case by case.", ""]
        found += table(named(figures, section))
    return found
