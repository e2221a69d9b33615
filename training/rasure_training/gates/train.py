"""Learns gates: a warm start on lifetimes that the model's own attention shows, then end to end.

End to end the loss is half of KL(model || gated model) and next-token loss, and the capacity loss (arXiv 2605.09649; the form of its
code). The weights of the model stay as they are.
"""

from __future__ import annotations

import copy
import math
import platform
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from ..eraser.documents import Encoder
from ..files import sha256
from ..gguf_model import load_model
from ..heads.samples import Sample, Source, draw_sample
from ..runs import TrainingError, load_state, save_state
from ..text import load_split
from ..training_loop import Loop, TrainingLoop
from ..world import World
from .config import GatesConfig
from .evict import Rule
from .forms import Gates
from .loss import Divergence, capacity, lifetime_loss, soft_cache
from .model import GatedModel
from .plot import plot_gates
from .sidecar import load_weights, write_sidecar

RISE = 0.25  # share of the end-to-end steps over which the capacity loss comes to its weight, from a tenth of it
SEARCHES = 24  # of the bias that meets the budget


@dataclass(frozen=True)
class Outcome:
    """One sequence of a step, for the log."""

    kl: float = 0.0
    nll: float = 0.0
    lifetime: float = 0.0
    capacity: float = 0.0
    held: float = 0.0  # entries of the soft cache of a stream, at the end


@contextmanager
def multiplying_in(dtype: str) -> Iterator[None]:
    """Within the block, float32 matrices are multiplied as if of this type, with sums in float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if dtype == "bfloat16" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Trainer(TrainingLoop):
    log_columns = ("step", "stage", "lr", "kl", "nll", "lifetime", "capacity", "held", "grad_norm", "seconds")
    validation_columns = ("step", "task", "n", "nll_full", "nll_soft", "nll_evicted", "kl_soft", "kl_evicted", "held")

    def __init__(self, config: GatesConfig, model: Path, data: Path, out: Path, world: World) -> None:
        super().__init__(Loop(config.name, config.steps, config.checkpoint, config.validate), out, world)
        self.config = config
        loaded = load_model(model)
        self.base = loaded.file
        shape = loaded.config
        self.gates = Gates(config.form, shape.n_layer, shape.n_kv_head, shape.d_model, config.width, config.head_features,
                           config.initial, config.seed)  # fmt: skip
        self.model = GatedModel(loaded, self.gates, getattr(torch, config.dtype))
        encoder = Encoder(loaded.file)
        self.sources = {split: Source(encoder, load_split(data, split), split, config.answer_weight)
                        for split in ("train", "validation")}  # fmt: skip
        self.data_hashes = {path.name: sha256(path) for path in sorted(data.glob("wiki_paragraphs.jsonl.gz"))}
        self.optimizer = torch.optim.AdamW(
            self.gates.parameters(), lr=config.lr, betas=tuple(config.betas), eps=config.eps, weight_decay=config.weight_decay
        )

    # ------------------------------------------------------------------------------------------------- a step

    def stage(self, step: int) -> int:
        """0: the warm start; then 1, 2, ..."""
        ends = list(accumulate((self.config.warm_steps, *self.config.stage_steps)))
        return sum(step >= end for end in ends[:-1])

    def tokens(self, step: int) -> int:
        return self.config.stage_tokens[max(0, self.stage(step) - 1)]

    def progress_end_to_end(self, step: int) -> float:
        """0 to 1 over the end-to-end steps."""
        c = self.config
        return (step - c.warm_steps) / max(1, c.steps - c.warm_steps)

    def learning_rate(self, step: int) -> float:
        """Of step 0, 1, ...: constant in the warm start; then a linear warm-up and a line down."""
        c = self.config
        if step < c.warm_steps:
            return c.warm_lr
        done = self.progress_end_to_end(step + 1)
        if done < c.warmup:
            return c.lr * done / c.warmup
        return c.lr * (1.0 - (1.0 - c.final) * (done - c.warmup) / max(1e-9, 1.0 - c.warmup))

    def capacity_weight(self, step: int) -> float:
        return self.config.capacity * min(1.0, 0.1 + 0.9 * self.progress_end_to_end(step) / RISE)

    def draw_sample(self, split: str, key: str, n_tokens: int) -> Sample:
        c, random_ = self.config, random.Random(f"{self.config.seed} {key}")
        return draw_sample(self.sources[split], random_, c.tasks, c.answers_only, n_tokens)

    def warm(self, sample: Sample) -> tuple[Tensor, Outcome]:
        """The error of lifetimes. No gradient goes through the model."""
        tokens = torch.tensor(sample.tokens[:-1])
        with torch.no_grad(), self.model.in_mode("watch"):
            inputs: list[Tensor] = []
            self._listen(tokens, inputs)
        ages = self.model.ages
        lambdas = [self.gates(layer, x) for layer, x in enumerate(inputs)]
        loss = torch.stack([lifetime_loss(values, *age) for values, age in zip(lambdas, ages, strict=True)]).mean()
        held = soft_cache(torch.cat(lambdas).detach(), torch.tensor([len(tokens) - 1])).mean().item()
        return loss, Outcome(lifetime=loss.item(), held=held)

    def _listen(self, tokens: Tensor, inputs: list[Tensor]) -> None:
        """Notes what the gates hear, layer by layer."""
        hook = self.gates.register_forward_pre_hook(lambda _, args: inputs.append(args[1]))
        try:
            self.model.forward(tokens)
        finally:
            hook.remove()

    def compare(self, hidden: Tensor, wanted: Tensor, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of the gated model's hidden states against the model's, and its two parts: of the tokens that count, by weight."""
        weights = torch.tensor(sample.weights[1:])
        counted = weights.nonzero()[:, 0]
        labels, share = torch.tensor(sample.tokens[1:])[counted], weights[counted] / weights.sum()
        return Divergence.apply(hidden[counted], wanted[counted], labels, share, self.model.head)

    def end_to_end(self, sample: Sample, step: int, index: int) -> tuple[Tensor, Outcome]:
        tokens = torch.tensor(sample.tokens[:-1])
        with torch.no_grad():
            wanted = self.model.forward(tokens)
        with self.model.in_mode("soft"):
            hidden = self.model.forward(tokens)
        lambdas = torch.cat(self.model.lambdas)
        both, kl, nll = self.compare(hidden, wanted, sample)
        seed = random.Random(f"{self.config.seed} rows {step} {index}").getrandbits(63)
        order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))
        rows = order[: max(1, round(self.config.capacity_rows * len(tokens)))]
        above = capacity(lambdas, self.config.budget, self.config.scope, rows)
        loss = both + self.capacity_weight(step) * above
        held = soft_cache(lambdas.detach(), torch.tensor([len(tokens) - 1])).mean().item()
        return loss, Outcome(kl.item(), nll.item(), 0.0, above.item(), held)

    def losses_of_step(self, step: int) -> list[Outcome]:
        """Adds the gradients of step `step` (0, 1, ...), summed over this process's sequences."""
        outcomes = []
        for i in range(self.world.rank, self.config.sequences, self.world.size):
            sample = self.draw_sample("train", f"train {step} {i}", self.tokens(step))
            loss, outcome = self.warm(sample) if step < self.config.warm_steps else self.end_to_end(sample, step, i)
            loss.backward()
            outcomes.append(outcome)
        return outcomes

    def do_step(self) -> dict[str, Any]:
        begin = time.monotonic()
        step, lr = self.step, self.learning_rate(self.step)
        parameters = list(self.gates.parameters())
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        with multiplying_in(self.config.dtype):
            mine = self.losses_of_step(step)
        outcomes = [outcome for part in self.world.gather(mine) for outcome in part]
        self.world.sum_gradients(parameters)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= len(outcomes)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.clip).item()
        if math.isnan(norm):
            raise TrainingError(f"the gradient of step {step + 1} is not a number")
        self.optimizer.step()
        self.step += 1
        if self.step == self.config.warm_steps:
            self.meet_budget()
        seconds = time.monotonic() - begin
        self.seconds += seconds
        means = {key: f"{fmean(getattr(o, key) for o in outcomes):.6f}" for key in ("kl", "nll", "lifetime", "capacity", "held")}
        return {"step": self.step, "stage": self.stage(step), "lr": f"{lr:.3e}"} | means | {
            "grad_norm": f"{norm:.5e}", "seconds": f"{seconds:.3f}",
        }  # fmt: skip

    @torch.no_grad()
    def meet_budget(self) -> None:
        """Behind the warm start: the bias at which the soft cache is what the budget says. The same in all processes."""
        inputs: list[Tensor] = []
        n_tokens = self.config.stage_tokens[0]
        sample = self.draw_sample("train", "budget", n_tokens)
        with self.model.in_mode("watch"):
            self._listen(torch.tensor(sample.tokens[:-1]), inputs)
        last = torch.tensor([len(inputs[0]) - 1])
        start = [bias.clone() for bias in self.gates.out_bias]
        low, high = -30.0, 30.0
        for _ in range(SEARCHES):
            shift = (low + high) / 2.0
            for bias, old in zip(self.gates.out_bias, start, strict=True):
                bias.copy_(old + shift)
            held = soft_cache(torch.cat([self.gates(layer, x) for layer, x in enumerate(inputs)]), last).mean().item()
            low, high = (shift, high) if held < self.config.budget else (low, shift)

    # -------------------------------------------------------------------------------------------- what is left

    @property
    def sidecar_path(self) -> Path:
        return self.out / f"{self.config.name}.gguf"

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must have been made with to be gone on from."""
        return {"config": self.config.as_dict(), "fingerprint": self.base.fingerprint(), "data": self.data_hashes}

    def save(self) -> None:
        save_state(self.checkpoint_path, self.identity() | {
            "step": self.step, "seconds": self.seconds, "gates": self.gates.state_dict(), "optimizer": self.optimizer.state_dict(),
        })  # fmt: skip
        write_sidecar(self.sidecar_path, self.base, self.config.name, self.gates, self.config.scope, self.config.budget,
                      self.config.stage_tokens[-1], self.record())  # fmt: skip

    def record(self) -> dict[str, Any]:
        """How the gates came about, for their file."""
        return {
            "config": self.config.as_dict(), "steps": self.step, "seed": self.config.seed, "seconds": round(self.seconds),
            "processes": self.world.size, "threads": torch.get_num_threads(), "data": self.data_hashes,
            "model_sha256": self.base.sha256(), "machine": platform.machine(),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "gguf", "tokenizers")},
        }  # fmt: skip

    def resume(self) -> bool:
        state = load_state(self.checkpoint_path, self.identity())
        if state is None:
            return False
        self.step, self.seconds = state["step"], state["seconds"]
        self.gates.load_state_dict(state["gates"])
        self.optimizer.load_state_dict(state["optimizer"])
        return True

    @torch.no_grad()
    def validate(self) -> list[dict[str, Any]]:
        """By task: the model itself, the gated model, and with entries evicted by the gates as their file has them."""
        c = self.config
        rule = Rule(c.scope, c.budget, c.floor, c.sinks, c.window)
        as_filed = copy.deepcopy(self.gates)
        write_sidecar(self.sidecar_path, self.base, c.name, self.gates, c.scope, c.budget, c.stage_tokens[-1], self.record())
        load_weights(self.sidecar_path, as_filed)
        found: dict[str, list[tuple[float, ...]]] = {}
        for i in range(c.validation_sequences):
            sample = self.draw_sample("validation", f"validation {i}", c.stage_tokens[-1])
            tokens = torch.tensor(sample.tokens[:-1])
            full = self.model.forward(tokens)
            with self.model.in_mode("soft"):
                soft = self.model.forward(tokens)
            held = soft_cache(torch.cat(self.model.lambdas), torch.tensor([len(tokens) - 1])).mean().item()
            self.model.gates = as_filed
            evicted = self.model.forward_evicting(tokens, rule, c.chunk)
            self.model.gates = self.gates
            _, _, nll_full = self.compare(full, full, sample)
            _, kl_soft, nll_soft = self.compare(soft, full, sample)
            _, kl_evicted, nll_evicted = self.compare(evicted, full, sample)
            figures = (nll_full, nll_soft, nll_evicted, kl_soft, kl_evicted)
            found.setdefault(sample.task, []).append((*(f.item() for f in figures), held))
        names = self.validation_columns[3:]
        return [{"step": self.step, "task": task, "n": len(rows)}
                | {name: f"{fmean(column):.6f}" for name, column in zip(names, zip(*rows, strict=True), strict=True)}
                for task, rows in sorted(found.items())]  # fmt: skip

    def progress(self, row: dict[str, Any]) -> str:
        if row["stage"] == 0:
            return f"error of log lifetimes {row['lifetime']}, held {float(row['held']):.0f}"
        return f"KL {row['kl']}, held {float(row['held']):.0f} of {self.config.budget}"

    @torch.no_grad()
    def plot(self) -> None:
        sample = self.draw_sample("validation", "plot", self.config.stage_tokens[-1])
        with self.model.in_mode("soft"):
            self.model.forward(torch.tensor(sample.tokens[:-1]))
        held = soft_cache(torch.cat(self.model.lambdas), torch.tensor([len(sample.tokens) - 2]))
        plot_gates(self.out, held.view(self.gates.n_layer, self.gates.n_kv_head), self.config.budget)
