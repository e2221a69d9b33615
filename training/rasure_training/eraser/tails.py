"""Questions with their answers as one short pass over a cache.

Several probes are asked at once, and each of them may be answered in more than one way: all of it is a small tree of tokens
(cache, stem, branches), laid out in a row, in which a token sees the cache, its own stem and its own branch up to itself. One
forward pass then scores all answers to all probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..reference import Cache
from .engine import Engine, Rows


@dataclass(frozen=True)
class Tail:
    """tokens, offsets: int64 [n]; mask: bool [n, n]. branches[p][b]: of probe p, for its b-th answer, the indices of the tokens
    after which its tokens are predicted, and these tokens, both int64 [length of the answer]."""

    tokens: Tensor
    offsets: Tensor
    mask: Tensor
    branches: list[list[tuple[Tensor, Tensor]]]


def make_tail(probes: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]]) -> Tail:
    """probes: for each of them its stem and the answers to it, as token ids. A stem has at least one token."""
    tokens: list[int] = []
    offsets: list[int] = []
    sees: list[list[int]] = []  # by token: indices that it sees, itself included
    branches: list[list[tuple[Tensor, Tensor]]] = []
    for stem, answers in probes:
        path: list[int] = []
        for i, token in enumerate(stem):
            path.append(len(tokens))
            tokens.append(token)
            offsets.append(i)
            sees.append(list(path))
        branches.append([])
        for answer in answers:
            branch = list(path)
            for i, token in enumerate(answer[:-1]):  # nothing is predicted after the last one
                branch.append(len(tokens))
                tokens.append(token)
                offsets.append(len(stem) + i)
                sees.append(list(branch))
            rows = branch[len(path) - 1 :] if answer else []
            branches[-1].append((torch.tensor(rows, dtype=torch.int64), torch.tensor(list(answer), dtype=torch.int64)))
    mask = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    for i, seen in enumerate(sees):
        mask[i, seen] = True
    return Tail(torch.tensor(tokens, dtype=torch.int64), torch.tensor(offsets, dtype=torch.int64), mask, branches)


def score(engine: Engine, rows: Rows, tail: Tail) -> list[list[Tensor]]:
    """Log-probabilities [length of the answer, n_vocab], float32, of every answer to every probe of `tail`."""
    hidden = engine.ask(rows, tail.tokens, tail.offsets, tail.mask)
    wanted = sorted({int(i) for probe in tail.branches for indices, _ in probe for i in indices})
    logprob = engine.model.logits(hidden[wanted]).log_softmax(-1)
    place = {index: i for i, index in enumerate(wanted)}
    return [
        [logprob[[place[int(i)] for i in indices]] for indices, _ in probe]
        for probe in tail.branches
    ]  # fmt: skip


@torch.no_grad()
def greedy(engine: Engine, rows: Rows, stem: Sequence[int], n: int, ends: set[int]) -> list[int]:
    """The likeliest next tokens after `stem`, one by one: n of them, or fewer and then the token that ends the answer."""
    cache = Cache(list(rows.cache.k), list(rows.cache.v), rows.cache.positions)
    tokens = torch.tensor(list(stem), dtype=torch.int64)
    position = rows.next_position
    answer: list[int] = []
    while len(answer) < n and (not answer or answer[-1] not in ends):
        hidden = engine.model.forward(tokens, torch.arange(position, position + len(tokens)), cache)
        position += len(tokens)
        answer.append(int(engine.model.logits(hidden[-1:]).argmax()))
        tokens = torch.tensor(answer[-1:])
    return answer
