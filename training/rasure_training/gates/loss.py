"""What gates are trained with."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

HALF = math.log(0.5)


def soft_cache(lambdas: Tensor, rows: Tensor) -> Tensor:
    """Sum over i <= t of beta_i^(t - i) for each position t of rows [r]: [streams, r], of lambdas [streams, n]."""
    age = (rows[:, None] - torch.arange(lambdas.shape[1])[None, :]).float()
    held = torch.exp(lambdas[:, None, :] * age.clamp(min=0.0))
    return (held * (age >= 0.0)).sum(-1)


def capacity(lambdas: Tensor, budget: int, scope: str, rows: Tensor) -> Tensor:
    """How far the soft cache is above the budget, as a share of how far a full cache would be; the mean over those positions (and
    streams, with scope "head") where it is. The form of the authors' code. lambdas [streams, n]; rows [r]: positions."""
    held, streams = soft_cache(lambdas, rows), len(lambdas)
    at_most = rows.float()
    if scope == "global":
        held, budget, at_most = held.sum(0), budget * streams, at_most * streams
    above = F.relu((held - budget) / (at_most - budget).clamp(min=1.0))
    counted = above > 0.0
    return above[counted].mean() if bool(counted.any()) else above.sum()


def lifetimes(attention: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Of attention [n_head, n, n]: the last age at which any query head of a group gives an entry at least 1 / (4 t), at least 1,
    and whether that is at the very end, so that nobody knows how much longer it would have been: both [n_kv_head, n]."""
    n = attention.shape[-1]
    queries, keys = torch.arange(n)[:, None], torch.arange(n)[None, :]
    seen = attention.view(-1, groups, n, n).amax(1) * 4.0 * (queries + 1.0) >= 1.0
    last = torch.where(seen, queries, keys).amax(1)
    return (last - torch.arange(n)).clamp(min=1).float(), last >= n - 1


def lifetime_loss(lambdas: Tensor, age: Tensor, censored: Tensor) -> Tensor:
    """Huber loss of log lifetimes, a lifetime being that in which an entry's worth halves. Where the true one is only known to be
    longer, a longer one is no error. All [n_kv_head, n]."""
    predicted = (HALF / lambdas.clamp(max=-1e-30)).log()
    error = predicted - age.log()
    error = torch.where(censored, error.clamp(max=0.0), error)
    return F.huber_loss(error, torch.zeros_like(error))
