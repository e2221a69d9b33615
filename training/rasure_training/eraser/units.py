"""One unit of a document: what the clean context answers, what a method leaves of that, and the losses between the two."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .config import TrainingConfig
from .documents import EncodedUnit
from .engine import Engine, Rows
from .loss import LossOptions, ProbeLoss, probe_loss
from .tails import Tail, greedy, make_tail, score


@dataclass(frozen=True)
class CleanUnit:
    """A unit with the answers of the context that never held its spans."""

    unit: EncodedUnit
    tail: Tail
    logprob: list[list[torch.Tensor]]  # of the tail's answers: first the target, then the erased value if there is one


@torch.no_grad()
def clean_unit(engine: Engine, context: Rows, unit: EncodedUnit, answer_tokens: int, ends: set[int]) -> CleanUnit:
    """Reads the context without the unit's spans. Probes without a target get what the clean model says itself."""
    clean = engine.erase(context, unit.spans, "exact")
    probes = []
    for probe in unit.probes:
        target = probe.target or greedy(engine, clean, probe.stem, answer_tokens, ends)
        probes.append((probe.stem, [target, probe.leak_target] if probe.leak_target else [target]))
    tail = make_tail(probes)
    return CleanUnit(unit, tail, score(engine, clean, tail))


def unit_losses(
    engine: Engine, context: Rows, clean: CleanUnit, method: str, options: LossOptions
) -> Iterator[tuple[str, ProbeLoss]]:
    """The loss of each probe after an erase by `method`, under the probe's name."""
    rows = engine.erase(context, clean.unit.spans, method)
    scores = score(engine, rows, clean.tail)
    for probe, p, q, branches in zip(clean.unit.probes, clean.logprob, scores, clean.tail.branches, strict=True):
        leak = (p[1], q[1], branches[1][1]) if len(branches) > 1 else None
        yield probe.probe.name, probe_loss(p[0], q[0], branches[0][1], options, leak)


def training_method(random_: random.Random, config: TrainingConfig) -> str:
    """How a unit of the training is erased."""
    erase = config.erase
    if config.adapter.kind == "steer":
        return "steer:full" if random_.random() < erase.full_share else "steer"
    method = f"bridge:{random_.choice(erase.bridge_tokens)}"
    return f"{method}+shift" if random_.random() < erase.shift_share else method
