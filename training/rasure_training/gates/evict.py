"""What goes and what stays, as the C runtime decides it: the obvious way, on numbers alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rule:
    """budget: entries of a stream, on average (scope "global") or each (scope "head"). Every stream keeps what is pinned: positions
    below `sinks`, and the last `window`. floor: entries that each stream keeps of what it has, with scope "global"."""

    scope: str
    budget: int
    floor: int
    sinks: int
    window: int


def scores(lambdas: NDArray[np.float32], positions: NDArray[np.int64], now: int) -> NDArray[np.float32]:
    """lambda times the age that an entry has behind the newest, which is at `now`."""
    return lambdas.astype(np.float32) * (now + 1 - positions).astype(np.float32)


def keep(lambdas: list[NDArray[np.float32]], positions: list[NDArray[np.int64]], now: int, rule: Rule) -> list[NDArray[np.bool_]]:
    """Which entries stay, stream by stream (layer * n_kv_head + head). Of equal scores the older entry goes first, then that of the
    earlier stream. Nothing goes that need not."""
    kept = [(p < rule.sinks) | (p > now - rule.window) for p in positions]
    ranked = sorted(
        (float(score), int(position), stream, index)
        for stream, (values, places) in enumerate(zip(lambdas, positions, strict=True))
        for index, (score, position) in enumerate(zip(scores(values, places, now), places, strict=True))
    )
    best_first = ranked[::-1]
    if rule.scope == "head":
        for _, _, stream, index in best_first:
            if kept[stream].sum() < rule.budget:
                kept[stream][index] = True
        return kept
    for _, _, stream, index in best_first:
        if not kept[stream][index] and kept[stream].sum() < rule.floor:
            kept[stream][index] = True
    left = rule.budget * len(positions) - sum(int(k.sum()) for k in kept)
    for _, _, stream, index in best_first:
        if left > 0 and not kept[stream][index]:
            kept[stream][index] = True
            left -= 1
    return kept
