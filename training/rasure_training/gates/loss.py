"""What gates are trained with."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

HALF = math.log(0.5)
BLOCK = 128  # positions whose scores of all tokens are in memory at once


class Divergence(torch.autograd.Function):
    """Half of KL(model || gated model) and of the gated model's next-token loss, of hidden states: means over positions, each with its
    share. Works out the gradient on the way, block by block, so that the scores of all positions are never there together.

    hidden, wanted [n, d]: of the gated model and of the model; labels int64 [n]; share [n], of sum 1; head [n_vocab, d]. Returns the
    loss, and KL and next-token loss by themselves, which have no gradient."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, wanted: Tensor, labels: Tensor, share: Tensor, head: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        kl, nll, slopes = [], [], []
        for rows in torch.arange(len(hidden)).split(BLOCK):
            log_q = F.linear(hidden[rows], head).log_softmax(-1)
            log_p = F.linear(wanted[rows], head).log_softmax(-1)
            p, label = log_p.exp(), labels[rows, None]
            kl.append((p * (log_p - log_q)).sum(-1))
            nll.append(-log_q.gather(-1, label)[:, 0])
            if ctx.needs_input_grad[0]:
                slope = log_q.exp_().sub_(p, alpha=0.5)  # of the scores: q - (p + the label's one) / 2
                slope.scatter_add_(-1, label, torch.full(label.shape, -0.5))
                slopes.append(slope @ head * share[rows, None])
        if slopes:
            ctx.save_for_backward(torch.cat(slopes))
        means = [(torch.cat(parts) * share).sum() for parts in (kl, nll)]
        ctx.mark_non_differentiable(*means)
        return 0.5 * (means[0] + means[1]), *means

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return grad * slopes, None, None, None, None


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
