"""What was measured as pictures: score against footprint by task, and the lengths of the streams by layer and head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import pictures
from .measured import FULL, TEXT, Measured, plain_mean
from .tables import score_points

MARKERS = "os^vD<>PX*"


def draw_scores(measured: Measured, path: Path) -> None:
    """One panel for each task that counts, one line for each arm; the full cache's score and nine tenths of it dashed."""
    pyplot = pictures.pyplot()
    tasks = measured.eligible_tasks()
    figure, axes = pyplot.subplots(
        1, max(1, len(tasks)), figsize=(3.6 * max(1, len(tasks)), 4.2), layout="constrained", squeeze=False
    )
    seen: dict[str, Any] = {}
    for axis, task in zip(axes[0], tasks, strict=False):
        for i, arm in enumerate(arm for arm in measured.arms() if arm != FULL):
            points = sorted(score_points(measured, arm, task))
            if points:
                (seen[arm],) = axis.plot(*zip(*points, strict=True), marker=MARKERS[i % len(MARKERS)], markersize=5, linewidth=1,
                                         color=f"C{i % 10}", linestyle="-" if i < 10 else ":")  # fmt: skip
        ((_, full),) = score_points(measured, FULL, task)
        axis.axhline(full, color="gray", linewidth=0.8)
        axis.axhline(0.9 * full, color="gray", linewidth=0.8, linestyle="--")
        axis.set(title=task, xlabel="KV footprint", ylim=(-0.02, 1.02))
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("right answers")
    figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=7, fontsize=8)
    pictures.save(figure, path)


def mean_streams(measured: Measured, arm: str, budget: str) -> list[float] | None:
    """Entries of each stream in the longest texts, layer by layer, on average."""
    at = (arm, budget, measured.lengths()[-1])
    found = {record["task"]: record["streams"] for record in measured.records
             if (record["arm"], record["budget"], record["tokens"]) == at and "streams" in record}  # fmt: skip
    return found.get(TEXT) or next(iter(found.values()), None)


def draw_streams(measured: Measured, path: Path, budget: str, n_layers: int) -> None:
    """One panel for each arm whose streams differ: layers down, heads across, as shares of the context."""
    pyplot = pictures.pyplot()
    found = {arm: streams for arm in measured.arms() if (streams := mean_streams(measured, arm, budget))}
    found = {arm: streams for arm, streams in found.items() if max(streams) > min(streams)}
    if not found:
        path.unlink(missing_ok=True)
        return
    longest = measured.lengths()[-1]
    length = plain_mean([row for row in measured.rows if row["tokens"] == longest], "n_context")
    figure, axes = pyplot.subplots(1, len(found), figsize=(1.2 + 1.3 * len(found), 6.0), layout="constrained", squeeze=False)
    image = None
    for axis, (arm, streams) in zip(axes[0], found.items(), strict=True):
        n_heads = len(streams) // n_layers
        shares = [[streams[layer * n_heads + head] / length for head in range(n_heads)] for layer in range(n_layers)]
        image = axis.imshow(shares, vmin=0.0, vmax=1.0, aspect="auto", cmap="viridis")
        axis.set_title(arm, fontsize=8)
        axis.set_xlabel("KV head")
    axes[0][0].set_ylabel("layer")
    figure.colorbar(image, ax=axes[0].tolist(), label="entries, share of the context")
    pictures.save(figure, path)
