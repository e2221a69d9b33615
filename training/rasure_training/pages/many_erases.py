"""What many erases, one after another, add up to (`rasure_training.forgetting.many`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import pictures
from ..files import Row
from .cells import NO_WIDTH, cell, head, line

WHAT = {
    "kl_erased": ("The erased fact is asked for: KL to exact", 4),
    "kl_kept": ("A fact that stays is asked for: KL to exact", 4),
    "above": ("Log-probability of the erased value above that of exact, nats", 2),
    "right": ("The fact that stays is answered right", 3),
}


def one_by_one(figures: Sequence[Row], method: str) -> list[Row]:
    return [row for row in figures if row["method"] == method and row["calls"] == row["erases"]]


def methods_of(figures: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in figures))


def counts_of(figures: Sequence[Row]) -> list[int]:
    return list(dict.fromkeys(row["erases"] for row in figures))


def draw(figures: Sequence[Row], path: Path) -> None:
    counts = counts_of(figures)
    picture, axes = pictures.pyplot().subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for axis, name in zip(axes, ("kl_erased", "kl_kept"), strict=True):
        for method in methods_of(figures):
            rows = [row for row in one_by_one(figures, method) if row[name]["mean"] > 0]
            axis.errorbar([row["erases"] for row in rows], [row[name]["mean"] for row in rows],
                          yerr=pictures.spread([row[name] for row in rows]), marker="o", markersize=4, linewidth=1,
                          label=method)  # fmt: skip
        axis.set(xscale="log", yscale="log", xlabel="erases, one after another", title=WHAT[name][0])
        axis.set_xticks(counts, map(str, counts))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("nats")
    axes[1].legend(fontsize=7, ncols=2)
    pictures.save(picture, path)


def table(figures: Sequence[Row], name: str) -> list[str]:
    title, digits = WHAT[name]
    counts = counts_of(figures)
    columns = [f"{n} erases" if n > 1 else "1 erase" for n in counts] + [f"{counts[-1]}, in one call"]
    lines = ["", f"## {title}", "", *head(["method", *columns])]
    for method in methods_of(figures):
        cells = [cell(row[name], digits) for row in figures if row["method"] == method]
        lines.append(line([f"`{method}`", *cells, *[""] * (len(columns) - len(cells))]))
    return lines


def cost_table(figures: Sequence[Row]) -> list[str]:
    lines = head(["method", *map(str, counts_of(figures))])
    for method in methods_of(figures):
        cells = []
        for row in one_by_one(figures, method):
            calls = 1 if method == "exact" else row["erases"]
            if row["ms"] is not None:
                cells.append(f"{row['recomputed']['mean'] / calls:.0f}; {row['ms'] / calls:.1f} ms")
        if cells:
            lines.append(line([f"`{method}`", *cells]))
    return lines


def lines(name: str, measured: Row, figures: Sequence[Row]) -> list[str]:
    most = counts_of(figures)[-1]
    found = [
        "# Many erases, one after another", "",
        f"Made by `python -m rasure_training.forgetting.many`; figures in `{name}.json`. The {measured['split']} split, "
        f"{measured['contexts']} contexts of {figures[0]['n_context']:.0f} tokens on average with {most + 1} facts, seed "
        f"{measured['seed']}; int8 KV cache, kernels: {measured['isa']}. Of the same context 1 to {most} facts are erased, each by a "
        "call of its own, the first one first; `exact`, which the others are held against, takes all in one call, for what it leaves "
        "does not depend on that. The same erased fact is asked for in every column, and one that always stays. Brackets are 95 % "
        f"intervals from a bootstrap over contexts; not corrected for comparisons. {NO_WIDTH}",
        "", f"![KL to exact against the number of erases]({name}.svg)",
    ]  # fmt: skip
    for what in WHAT:
        found += table(figures, what)
    return [
        *found, "", "## Cost of an erase", "",
        "Tokens encoded again, and median milliseconds on one thread of a machine with other work to do, an erase; `exact` all in one.",
        "", *cost_table(figures),
    ]  # fmt: skip
