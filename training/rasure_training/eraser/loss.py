"""How far the answers after an erase are from those of a context that never held the span.

Shapes: log-probabilities [n, n_vocab] at the n tokens of an answer; p: clean, without gradient; q: of the method.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LossOptions:
    kl: float = 1.0  # mean KL(clean || method) over the answer's tokens
    first_kl: float = 0.0  # the same of the first token alone
    nll: float = 0.0  # mean negative log-likelihood of the answer: the published loss (arXiv 2606.17034, eq. 6)
    leak: float = 0.0  # how far log P(erased value) is above its clean value; nothing where it is below


@dataclass(frozen=True)
class ProbeLoss:
    """total has gradient, the parts are for the log."""

    total: Tensor
    kl: float
    first_kl: float
    nll: float
    leak: float | None  # log P(erased value), method minus clean, of either sign; None where no value was erased


def kl_by_token(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats, [n]."""
    return (p.exp() * (p - q)).sum(-1)


def log_likelihood(logprob: Tensor, tokens: Tensor) -> Tensor:
    """Sum of the log-probabilities of tokens [n]; a scalar."""
    return logprob.gather(-1, tokens[:, None]).sum()


def leak_penalty(p_erased: Tensor, q_erased: Tensor) -> Tensor:
    """One-sided: suppressing a value below its clean probability would tell as much as leaking it, so it earns nothing."""
    return torch.relu(q_erased - p_erased)


def probe_loss(
    clean: Tensor,
    method: Tensor,
    answer: Tensor,
    options: LossOptions,
    leak: tuple[Tensor, Tensor, Tensor] | None = None,
) -> ProbeLoss:
    """Loss of one probe. answer: int64 [n]. leak: clean and method's log-probabilities along the erased value, and its tokens."""
    by_token = kl_by_token(clean, method)
    kl, first = by_token.mean(), by_token[0]
    nll = -log_likelihood(method, answer) / len(answer)
    total = options.kl * kl + options.first_kl * first + options.nll * nll
    difference = None
    if leak is not None:
        p_erased, q_erased = log_likelihood(leak[0], leak[2]), log_likelihood(leak[1], leak[2])
        total = total + options.leak * leak_penalty(p_erased, q_erased)
        difference = (q_erased - p_erased).item()
    return ProbeLoss(total, kl.item(), first.item(), nll.item(), difference)
