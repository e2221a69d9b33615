"""The course of a training as pictures: loss by step, KL by task on the validation split."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from .. import pictures
from ..runs import rows_of

MEAN_OVER = 50  # steps


def _running_mean(values: list[float], n: int) -> list[float]:
    return [sum(values[max(0, i + 1 - n) : i + 1]) / min(n, i + 1) for i in range(len(values))]


def plot_training(folder: Path) -> None:
    """Writes `loss.png` and `loss.svg` from `log.csv` and `validation.csv` in `folder`."""
    log = rows_of(folder / "log.csv")
    validation = rows_of(folder / "validation.csv")
    if not log:
        return
    figure, (left, right) = pictures.pyplot().subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    steps = [int(row["step"]) for row in log]
    for key, label in (("loss", "loss"), ("kl", "KL over the answer"), ("first_kl", "KL of its first token")):
        values = [float(row[key]) for row in log]
        (line,) = left.plot(steps, _running_mean(values, MEAN_OVER), label=f"{label}, mean of {MEAN_OVER} steps")
        left.plot(steps, values, color=line.get_color(), alpha=0.15, linewidth=0.5)
    left.set(xlabel="step", ylabel="nats", yscale="log", title="training")
    left.legend()
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in validation:
        if row["task"] == "all":
            curves[row["method"]].append((int(row["step"]), float(row["kl"])))
    for method, points in curves.items():
        if len(points) == 1:  # a method that does not learn
            right.axhline(points[0][1], linestyle="--", linewidth=1, color="gray")
            right.text(0.99, points[0][1], method, ha="right", va="bottom", transform=right.get_yaxis_transform(), fontsize=8)
        else:
            right.plot(*zip(*points, strict=True), marker="o", label=method)
    right.set(xlabel="step", ylabel="KL(clean || method), nats", title="validation, all probes")
    if right.get_legend_handles_labels()[0]:
        right.legend()
    figure.savefig(folder / "loss.png", dpi=120)
    pictures.save(figure, folder / "loss.svg")
