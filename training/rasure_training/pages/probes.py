"""Whether the rows that stay still hold what was erased, and whether they show it (`rasure_training.forgetting.probe`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import pictures
from ..files import Row
from .cells import NO_WIDTH, cell, head, line

WHAT = {"sentence": "the sentence is erased", "value": "only the value is erased"}
CITIES = 8


def probes_of(figures: Sequence[Row]) -> list[Row]:
    return [row for row in figures if "layers" in row]


def members_of(figures: Sequence[Row]) -> list[Row]:
    return [row for row in figures if "auc" in row]


def draw(figures: Sequence[Row], path: Path) -> None:
    picture, axes = pictures.pyplot().subplots(1, len(WHAT), figsize=(11, 4), layout="constrained", sharey=True)
    for axis, erased in zip(axes, WHAT, strict=True):
        for row in probes_of(figures):
            if row["erased"] != erased:
                continue
            layers = range(len(row["layers"]))
            (drawn,) = axis.plot(layers, [figure["mean"] for figure in row["layers"]], linewidth=1.2, label=row["method"])
            axis.fill_between(layers, [figure["low"] for figure in row["layers"]], [figure["high"] for figure in row["layers"]],
                              color=drawn.get_color(), alpha=0.12, linewidth=0)  # fmt: skip
        axis.axhline(1 / CITIES, linewidth=0.8, color="gray", linestyle=":")
        axis.set(title=WHAT[erased], xlabel="layer", ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("right city of eight")
    axes[0].legend(fontsize=8)
    pictures.save(picture, path)


def lines(name: str, measured: Row, figures: Sequence[Row]) -> list[str]:
    adapters = ", ".join(f"`{adapter}` (SHA-256 `{digest[:16]}...`)" for adapter, digest in measured["adapters"].items())
    found = [
        "# What the rows that stay still hold", "",
        f"Made by `python -m rasure_training.forgetting.probe`; figures in `{name}.json`. {measured['train']:,} training contexts of the "
        f"training split and {measured['contexts']:,} of the {measured['split']} split for each of the two things that are erased, of "
        f"about {measured['tokens']} tokens, seed {measured['seed']}; int8 KV cache, kernels: {measured['isa']}; adapters {adapters}. "
        "Brackets and bands are 95 % intervals from a bootstrap over the contexts that were tested; not corrected for "
        f"comparisons. {NO_WIDTH}",
        "", "## Linear probes", "",
        f"Which of eight cities it was (chance: {1 / CITIES:.3f}), by a ridge classifier on keys and values of one layer, averaged "
        f"over the first {measured['near']} rows from where the span began, up to {measured['next']}, and the rest. \"Best layer\": the "
        "one that was best on training contexts held out. \"Together\": the scores of all layers, added.",
        "", f"![Right answers by layer]({name}.svg)", "",
        *head(["erased", "method", "best layer", "right there", "all layers together"]),
    ]  # fmt: skip
    for row in probes_of(figures):
        found.append(
            line([row["erased"], f"`{row['method']}`", str(row["layer"]), cell(row["best"], 3), cell(row["together"], 3)])
        )
    found += [
        "", "## Does it show that something was erased, and where?", "",
        f"Somebody reads the file's tokens again with other kernels ({measured['other_isa']}), which round otherwise, and looks for the "
        "row that is farthest from it. AUC: how often that distance is larger than in the same context after `exact`, which is what was "
        f"never erased from; 0.5 is chance. Found: that row is among the {measured['where']} from where the span was. With the same "
        "kernels: the share of contexts in which any byte of a key or value differs from reading the tokens anew, and in which the "
        "first that does is where the span was. `drop` and `bridge` without `+shift` leave a gap in the positions, and `steer` tokens "
        "that are none: they show it without any reading.",
        "", *head(["erased", "method", "AUC", "found", "any byte differs", "first of them at the span"]),
    ]  # fmt: skip
    for row in members_of(figures):
        cells = [cell(row[key], 3) for key in ("auc", "found", "differs", "first")]
        found.append(line([row["erased"], f"`{row['method']}`", *cells]))
    return found
