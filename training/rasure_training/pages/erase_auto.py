"""What `auto` expects, and what comes of it (`rasure_training.eraser.calibrate`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import pictures
from ..files import Row
from .cells import NO_WIDTH, cell, head, line

ESTIMATED = ("shift", "repair", "adaptive")  # what may be taken, and something left
SHARES = {
    "above": "above the bound",
    "above_twice": "above twice the bound",
    "late": "slower than asked",
    "time": "time within 2x of the estimate",
    "within_2x": "KL within 2x, all",
    "within_2x_estimated": "KL within 2x, where it is estimated",
    "below_median": "below the median expected",
    "below_most": "below the 95 % expected",
}


def table(figures: Sequence[Row]) -> list[str]:
    taken = (*ESTIMATED, "exact")
    lines = head(["asked for", "took " + ", ".join(f"`{name}`" for name in taken), "tokens encoded again", "KL to exact",
                  *SHARES.values()])  # fmt: skip
    for row in figures:
        cells = [", ".join(f"{row['taken'][name]:.2f}" for name in taken), cell(row["tokens"], 0), cell(row["kl"], 4)]
        lines.append(line([f"`{row['method']}`", *cells, *(cell(row[key], 3) for key in SHARES)]))
    return lines


def draw(figures: Sequence[Row], path: Path) -> None:
    """What came of it against what was expected; each case once for each method that was taken."""
    picture, axes = pictures.pyplot().subplots(1, len(ESTIMATED), figsize=(12, 4), layout="constrained", sharex=True, sharey=True)
    for axis, name in zip(axes, ESTIMATED, strict=True):
        points = {point[0]: point for row in figures for point in row["points"].get(name, [])}.values()
        axis.scatter([expected for _, expected, _ in points], [kl for _, _, kl in points], s=4, alpha=0.3, linewidths=0)
        ends = [1e-3, 1.0]
        axis.plot(ends, ends, linewidth=0.8, color="gray", label="as expected")
        for factor in (0.5, 2):
            axis.plot(ends, [factor * x for x in ends], linewidth=0.6, color="gray", linestyle=":")
        axis.set(title=f"{name}, n = {len(points):,}", xscale="log", yscale="log", xlabel="expected KL, nats")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("KL to exact, nats")
    axes[0].legend(fontsize=8)
    pictures.save(picture, path)


def lines(name: str, measured: Row, figures: Sequence[Row]) -> list[str]:
    return [
        "# What `auto` expects, and what comes of it", "",
        f"Made by `python -m rasure_training.eraser.calibrate report`; figures in `{name}.json`, the fit in `erase_calibration.json`. "
        f"The {measured['split']} split, {measured['contexts']:,} contexts of about "
        f"{', '.join(f'{n:,}' for n in measured['tokens'])} tokens (as asked), {measured['cases']:,} cases of {measured['tasks']} tasks; "
        f"kernels: {measured['isa']}. Fitted to another split. Brackets are 95 % intervals from a bootstrap over contexts. "
        f"{NO_WIDTH} A KL of less than {measured['least_kl']:g} counts as that. \"All\" counts `exact`, of which nothing has to "
        "be estimated, as right.",
        "", *table(figures), "", f"![KL against what was expected]({name}.svg)",
    ]  # fmt: skip
