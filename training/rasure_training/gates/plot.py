"""The course of a run as a picture: losses, the soft cache, and how long heads keep what they hold."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from .. import pictures
from ..runs import rows_of


def plot_gates(folder: Path, held: Tensor, budget: int) -> None:
    """Writes `gates.svg` from `log.csv` in `folder`; held [n_layer, n_kv_head]: entries of the soft cache at the end of a text."""
    plt = pictures.pyplot()
    log = rows_of(folder / "log.csv")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    steps = [int(row["step"]) for row in log]
    for key in ("kl", "lifetime"):
        left.plot(steps, [float(row[key]) for row in log], linewidth=0.8, label=key)
    left.set(xlabel="step", ylabel="nats", title="KL to the model; error of log lifetimes")
    left.legend()
    middle.plot(steps, [float(row["held"]) for row in log], linewidth=0.8)
    middle.axhline(budget, color="grey", linewidth=0.8)
    middle.set(xlabel="step", title="soft cache of a stream, and the budget")
    image = right.imshow(held.T.numpy(), aspect="auto", cmap="viridis")
    right.set(xlabel="layer", ylabel="KV head", title="entries held at the end", yticks=range(held.shape[1]))
    figure.colorbar(image, ax=right)
    pictures.save(figure, folder / "gates.svg")
