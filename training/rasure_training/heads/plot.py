"""The course of a run as a picture: loss, share of local heads, and the masks by layer and head."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from .. import pictures
from ..runs import rows_of


def plot_masks(folder: Path, values: Tensor) -> None:
    """Writes `masks.svg` from `log.csv` in `folder` and the values [n_layer, n_kv_head]."""
    plt = pictures.pyplot()
    log = rows_of(folder / "log.csv")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    steps = [int(row["step"]) for row in log]
    left.plot(steps, [float(row["task_loss"]) for row in log], linewidth=0.8)
    left.set(xlabel="step", ylabel="nats", title="loss")
    for key in ("target", "local"):
        middle.plot(steps, [float(row[key]) for row in log], linewidth=0.8, label=key)
    middle.set(xlabel="step", title="share of local heads", ylim=(0, 1))
    middle.legend()
    image = right.imshow(values.T.numpy(), aspect="auto", vmin=0, vmax=1, cmap="viridis")
    right.set(xlabel="layer", ylabel="KV head", title="need of everything", yticks=range(values.shape[1]))
    figure.colorbar(image, ax=right)
    pictures.save(figure, folder / "masks.svg")
