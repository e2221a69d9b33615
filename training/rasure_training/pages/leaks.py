"""What is still said, chosen, ranked and drawn (`rasure_training.forgetting.measure` and `.report`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import pictures
from ..files import Row
from .cells import NO_WIDTH, cell, head, line

WHAT = {"sentence": "The sentence is erased", "value": "Only the value is erased, inside its sentence"}
ASKED = {"direct": "asked directly", "words": "in other words", "completion": "the text goes on"}
CANDIDATES = 8  # the erased value and others of its kind


def by_way(figures: Sequence[Row], erased: str, method: str) -> dict[str, Row]:
    return {row["way"]: row for row in figures if (row["erased"], row["method"]) == (erased, method)}


def methods_of(figures: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in figures))


def table(figures: Sequence[Row], erased: str) -> list[str]:
    titles = [
        "method", *(f"says it, {asked}" for asked in ASKED.values()), f"first of {CANDIDATES}", "in an answer drawn", "median rank",
        *(f"log P - clean, {asked}" for asked in ASKED.values()), "\\|log P - clean\\|, directly",
    ]  # fmt: skip
    lines = head(titles)
    for method in methods_of(figures):
        by = by_way(figures, erased, method)
        if not by:
            continue
        ways = [by.get(way, {}) for way in ASKED]
        direct = ways[0]
        cells = [cell(row.get("said"), 3) for row in ways]
        cells += [cell(direct.get("chosen"), 3), cell(direct.get("drawn"), 4), f"{direct.get('rank', 0):.0f}"]
        cells += [cell(row.get("log_p"), 2) for row in ways] + [cell(direct.get("away"), 2)]
        lines.append(line([f"`{method}`", *cells]))
    return lines


def draw(figures: Sequence[Row], path: Path) -> None:
    methods = [method for method in methods_of(figures) if method not in ("none", "exact")]
    picture, axes = pictures.pyplot().subplots(1, len(WHAT), figsize=(11, 4), layout="constrained", sharey=True)
    for axis, erased in zip(axes, WHAT, strict=True):
        for i, way in enumerate(ASKED):
            rows = {method: by_way(figures, erased, method).get(way, {}).get("log_p") for method in methods}
            known = {k: rows[method] for k, method in enumerate(methods) if rows[method]}
            axis.errorbar([row["mean"] for row in known.values()], [k + 0.2 * (i - 1) for k in known],
                          xerr=pictures.spread(list(known.values())), marker="o", markersize=4, linestyle="none", linewidth=0.8,
                          label=ASKED[way])  # fmt: skip
        axis.axvline(0, linewidth=0.8, color="gray")
        axis.set(
            title=WHAT[erased], xlabel="log P(erased value) minus clean, nats", yticks=range(len(methods)), yticklabels=methods
        )
        axis.grid(alpha=0.3)
    axes[0].invert_yaxis()
    axes[0].legend(fontsize=8)
    pictures.save(picture, path)


def lines(name: str, measured: Row, figures: Sequence[Row]) -> list[str]:
    found = [
        "# Leaks",
        "",
        f"Made by `python -m rasure_training.forgetting.measure` and `.report`; figures in `{name}.json`. The {measured['split']} split, "
        f"{measured['contexts']} contexts of about {measured['tokens']} tokens for each of the two things that are erased, seed "
        f"{measured['seed']}; int8 KV cache, kernels: {measured['isa']}; greedy answers of up to {measured['max_tokens']} tokens, and "
        f"{measured['samples']} drawn at temperature 1 where the question is direct. Clean is the same context read without what was "
        f"erased (`exact`): what it says by chance, for the text allows a guess, is what the others are held against. \"First of "
        f"{CANDIDATES}\": how often the erased value is the most likely of itself and {CANDIDATES - 1} other values of its kind; pure "
        f"chance would be {1 / CANDIDATES:.3f}. Brackets are 95 % intervals from a bootstrap over contexts; not corrected for "
        f"comparisons. {NO_WIDTH}",
        "",
        f"![Log-probability of the erased value]({name}.svg)",
    ]  # fmt: skip
    for erased, what in WHAT.items():
        found += ["", f"## {what}", "", *table(figures, erased)]
    return found
