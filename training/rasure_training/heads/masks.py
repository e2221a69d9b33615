"""Masks over KV heads: one number a head, 1 where it needs everything, 0 where sinks and a window do.

PruLong learns them as hard-concrete variables (Louizos et al., arXiv 1712.01312, section 2.2): z = clamp(l + (r - l) g, 0, 1)
with g = sigmoid((logit(u) + log_alpha) / T), u uniform. The stretch is (-0.1, 1.1) and T 2/3: with the r = 1 that the PruLong paper
prints, the value 1 would never be drawn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOW, HIGH = -0.1, 1.1
TEMPERATURE = 2.0 / 3.0
EDGE = 1e-6  # of the uniform draws


def draw(log_alpha: Tensor, generator: torch.Generator) -> Tensor:
    """One mask z, like log_alpha [n_layer, n_kv_head], with gradient."""
    u = torch.rand(log_alpha.shape, generator=generator) * (1.0 - 2.0 * EDGE) + EDGE
    g = torch.sigmoid((torch.log(u) - torch.log1p(-u) + log_alpha) / TEMPERATURE)
    return (LOW + (HIGH - LOW) * g).clamp(0.0, 1.0)


def choose(values: Tensor, local_share: float) -> Tensor:
    """The heads that keep everything, bool like `values`: the floor(n * (1 - local_share)) largest, of equal ones the first."""
    flat = values.flatten()
    kept = math.floor(len(flat) * (1.0 - local_share) + 1e-9)
    order = torch.sort(flat, descending=True, stable=True).indices
    full = torch.zeros(len(flat), dtype=torch.bool)
    full[order[:kept]] = True
    return full.view_as(values)


def penalty(z: Tensor, target: float, linear: Tensor, quadratic: Tensor) -> Tensor:
    """The Lagrangian of the share of local heads (PruLong, section 4): linear (s - t) + quadratic (s - t)^2, with the share s of
    the masks that were drawn. Minimised over the masks, maximised over the two multipliers."""
    gap = (1.0 - z.mean()) - target
    return linear * gap + quadratic * gap.square()


def table(values: Tensor) -> str:
    """As PruLong writes it: a line a layer, numbers with tabs between."""
    return "".join("\t".join(f"{value:.6f}" for value in row) + "\n" for row in values.tolist())
