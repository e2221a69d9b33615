"""How near to exact a suffix comes by how much of it is encoded again (`rasure_training.eraser.curve`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import pictures
from ..files import Row
from .cells import NO_WIDTH, cell, head, line

SHARES = (2, 5, 10, 15, 30, 50)  # ticks, per cent


def table(figures: Sequence[Row], kind: str) -> list[str]:
    lines = head(["chosen by", "method", "share of the suffix", "KL to exact", "cases"])
    for figure in figures:
        if figure["kind"] == kind:
            kl, share = figure["kl"], figure["share"]
            lines.append(line([figure["way"] or "nothing", f"`{figure['method']}`", cell(share, 3), cell(kl, 4), str(kl["n"])]))
    return lines


def draw(figures: Sequence[Row], path: Path) -> None:
    ways = [way for way in dict.fromkeys(figure["way"] for figure in figures) if way]
    picture, axes = pictures.pyplot().subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for axis, (kind, title) in zip(axes, (("all", "all tasks"), ("far", "tasks where dropping is far off")), strict=True):
        for way in ways:
            points = [figure for figure in figures if figure["kind"] == kind and figure["way"] == way]
            kl = [figure["kl"] for figure in points]
            axis.errorbar([100 * figure["share"]["mean"] for figure in points], [row["mean"] for row in kl],
                          yerr=pictures.spread(kl), marker="o", markersize=4, linewidth=1, elinewidth=0.6,
                          label=way)  # fmt: skip
        for figure in figures:
            if figure["kind"] == kind and figure["method"] == "shift":
                axis.axhline(figure["kl"]["mean"], linestyle="--", linewidth=0.8, color="gray", label="nothing (shift)")
        axis.set(xscale="log", yscale="log", title=title, xlabel="encoded again, % of the suffix")
        axis.set_xticks(SHARES, labels=map(str, SHARES))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("KL(exact || method), nats")
    axes[0].legend(fontsize=8)
    pictures.save(picture, path)


def lines(name: str, measured: Row, figures: Sequence[Row]) -> list[str]:
    found = [
        "# What to encode again", "",
        f"Made by `python -m rasure_training.eraser.curve`; figures in `{name}.json`. The {measured['split']} split, "
        f"{measured['contexts']} contexts of about {measured['tokens']} tokens a task, seed {measured['seed']}; tasks: "
        f"{', '.join(measured['tasks'])}. PyTorch, bfloat16 weights, float32 keys and values. The gap is closed, and then some of the "
        "suffix is encoded again, chosen in one of these ways. All but the first and the last need to compute every token of the "
        "suffix, in two layers or in all, before they can choose; that is not counted in their share. Brackets are 95 % intervals from "
        f"a bootstrap over contexts; not corrected for comparisons. {NO_WIDTH}",
        "", f"![KL by share encoded again]({name}.svg)",
        "", "## All tasks",
        "", *table(figures, "all"),
    ]  # fmt: skip
    far = next((figure["tasks"] for figure in figures if figure["kind"] == "far"), [])
    if far:
        found += ["", f"## Where dropping is {measured['far']} nats from exact or more",
                  "", f"{', '.join(far)}.", "", *table(figures, "far")]  # fmt: skip
    return found
