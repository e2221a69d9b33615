"""New text in place of old (`rasure_training.eraser.replace`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import pictures
from ..files import Row
from .cells import NO_WIDTH, cell, head, line

WHAT = {
    "value": "The value is replaced by another one",
    "longer": "The sentence is replaced by a longer text with another value",
    "shorter": "Two sentences are replaced by a shorter one with another value",
}
OVERWRITTEN = "drop"  # the new text is read, and nothing else done


def by_method(figures: Sequence[Row], kind: str) -> dict[str, Row]:
    return {row["method"]: row for row in figures if row["kind"] == kind}


def draw(figures: Sequence[Row], path: Path) -> None:
    picture, axes = pictures.pyplot().subplots(1, len(WHAT), figsize=(11, 3.6), layout="constrained", sharey=True)
    for axis, kind in zip(axes, WHAT, strict=True):
        by = by_method(figures, kind)
        methods = [method for method in by if method != "exact"]
        for i, (name, label) in enumerate((("kl", "the new value is asked for"), ("kl_bystander", "another fact is"))):
            rows = [by[method][name] for method in methods]
            axis.errorbar([row["mean"] for row in rows], [k + 0.2 * i - 0.1 for k in range(len(methods))],
                          xerr=pictures.spread(rows), marker="o", markersize=4, linestyle="none", linewidth=0.8,
                          label=label)  # fmt: skip
        axis.set(xscale="log", xlabel="KL to exact, nats", yticks=range(len(methods)), yticklabels=methods)
        axis.set_title(WHAT[kind], fontsize=8)
        axis.grid(alpha=0.3)
    axes[0].invert_yaxis()
    axes[0].legend(fontsize=7)
    pictures.save(picture, path)


def table(by: dict[str, Row]) -> list[str]:
    titles = ["method", "the new value is asked for: KL", f"of `{OVERWRITTEN}`", "right", "says the old value", "log P(old) - clean",
              "another fact is: KL", "tokens read", "ms"]  # fmt: skip
    lines = head(titles)
    for method, row in by.items():
        share = row["kl"]["mean"] / by[OVERWRITTEN]["kl"]["mean"]
        cells = [cell(row["kl"], 4), f"{share:.2f}", cell(row["right"], 3), cell(row["said"], 3), cell(row["above"], 2),
                 cell(row["kl_bystander"], 4), f"{row['recomputed']['mean']:.0f}",
                 "-" if row["ms"] is None else f"{row['ms']:.1f}"]  # fmt: skip
        lines.append(line([f"`{method}`", *cells]))
    return lines


def lines(name: str, measured: Row, figures: Sequence[Row]) -> list[str]:
    found = [
        "# New text in place of old", "",
        f"Made by `python -m rasure_training.eraser.replace`; figures in `{name}.json`. The {measured['split']} split, "
        f"{measured['contexts']} contexts of each kind, of about {figures[0]['n_context']:.0f} tokens, seed {measured['seed']}; int8 KV "
        f"cache, kernels: {measured['isa']}. `exact` is the context that is read anew from the new text on; KL(exact || method) in nats "
        f"along the answer. `{OVERWRITTEN}` reads the new text and does nothing else, `none` leaves the old one. Brackets are 95 % "
        f"intervals from a bootstrap over contexts; not corrected for comparisons. {NO_WIDTH} Milliseconds: medians on one "
        "thread of a machine with other work to do.",
        "", f"![KL to exact]({name}.svg)",
    ]  # fmt: skip
    for kind, what in WHAT.items():
        found += ["", f"## {what}", "", *table(by_method(figures, kind))]
    return found
