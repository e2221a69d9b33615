"""Learns masks: sequences that follow from the step's number, checkpoints, a log, a table of heads.

prulong: next-token loss of the model whose heads are mixed by masks that are drawn anew for each sequence, and a Lagrangian that
holds the share of local heads to a target (arXiv 2506.17121, section 4). duo: the squared difference of the last hidden states to
the full model's, and a penalty on the masks (arXiv 2410.10819, section 3.2). The weights stay as they are.
"""

from __future__ import annotations

import math
import platform
import random
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..eraser.documents import Encoder
from ..files import sha256
from ..gguf_model import load_model
from ..runs import TrainingError, load_state, save_state
from ..text import load_split
from ..training_loop import Loop, TrainingLoop
from ..world import World
from . import masks
from .config import HeadsConfig
from .model import HeadsModel, Mix, Streaming
from .plot import plot_masks
from .samples import Sample, Source, draw_sample
from .sidecar import write_sidecar

SLOPE = 0.25  # of the sigmoid that makes a table's values of log_alpha: they still differ where masks have saturated


@dataclass(frozen=True)
class Outcome:
    """One sequence of a step, for the log."""

    local: float  # share of the masks drawn
    loss: float
    task_loss: float


class Trainer(TrainingLoop):
    log_columns = ("step", "lr", "target", "local", "loss", "task_loss", "linear", "quadratic", "grad_norm", "seconds")
    validation_columns = ("step", "mask", "task", "n", "loss")

    def __init__(self, config: HeadsConfig, model: Path, data: Path, out: Path, world: World) -> None:
        super().__init__(Loop(config.name, config.steps, config.checkpoint, config.validate), out, world)
        self.config = config
        loaded = load_model(model)
        self.base = loaded.file
        self.model = HeadsModel(loaded, getattr(torch, config.dtype))
        self.streaming = Streaming(config.sinks, config.window)
        encoder = Encoder(loaded.file)
        self.sources = {split: Source(encoder, load_split(data, split), split, config.answer_weight)
                        for split in ("train", "validation")}  # fmt: skip
        self.data_hashes = {path.name: sha256(path) for path in sorted(data.glob("wiki_paragraphs.jsonl.gz"))}
        shape = (loaded.config.n_layer, loaded.config.n_kv_head)
        self.values = nn.Parameter(torch.full(shape, config.initial))
        self.multipliers = nn.Parameter(torch.zeros(2))
        self.parameters = [self.values, self.multipliers]
        self.optimizer = torch.optim.AdamW(
            [{"params": [self.values]}, {"params": [self.multipliers], "maximize": True}],
            lr=config.lr, betas=tuple(config.betas), weight_decay=config.weight_decay,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------- a step

    def learning_rate(self, step: int) -> float:
        """Of step 0, 1, ...: a linear warm-up, then a line down."""
        c = self.config
        warm = max(1, round(c.warmup * c.steps))
        if step < warm:
            return c.lr * (step + 1) / warm
        return c.lr * (1.0 - (1.0 - c.final) * (step - warm) / max(1, c.steps - warm))

    def target(self, step: int) -> float:
        """The share of local heads that step 0, 1, ... aims at."""
        return self.config.local_share * min(1.0, step / max(1.0, self.config.rise * self.config.steps))

    def draw_sample(self, split: str, key: str) -> Sample:
        c, random_ = self.config, random.Random(f"{self.config.seed} {key}")
        return draw_sample(self.sources[split], random_, c.tasks, c.answers_only, c.tokens)

    def next_token_loss(self, hidden: Tensor, sample: Sample) -> Tensor:
        """Mean cross-entropy, weighted; hidden [n, d] are the states of all tokens but the last."""
        weights = torch.tensor(sample.weights[1:])
        counted = weights.nonzero()[:, 0]
        logits = self.model.logits(hidden[counted])
        losses = F.cross_entropy(logits, torch.tensor(sample.tokens[1:])[counted], reduction="none")
        return (losses * weights[counted]).sum() / weights.sum()

    @torch.no_grad()
    def loss_with(self, z: Tensor, sample: Sample) -> float:
        """The next-token loss with these masks."""
        with self.model.mixed(Mix(z, self.streaming)):
            hidden = self.model.forward(torch.tensor(sample.tokens[:-1]))
        return self.next_token_loss(hidden, sample).item()

    def _prulong(self, sample: Sample, step: int, index: int) -> tuple[Tensor, Outcome]:
        seed = random.Random(f"{self.config.seed} masks {step} {index}").getrandbits(63)
        generator = torch.Generator().manual_seed(seed)
        z = masks.draw(self.values, generator)
        with self.model.mixed(Mix(z, self.streaming)):
            hidden = self.model.forward(torch.tensor(sample.tokens[:-1]))
        task_loss = self.next_token_loss(hidden, sample)
        loss = task_loss + masks.penalty(z, self.target(step), *self.multipliers)
        return loss, Outcome(1.0 - z.mean().item(), loss.item(), task_loss.item())

    def _duo(self, sample: Sample) -> tuple[Tensor, Outcome]:
        tokens = torch.tensor(sample.tokens[:-1])
        with torch.no_grad(), self.model.keeping() as full:
            wanted = self.model.forward(tokens)
        with self.model.mixed(Mix(self.values, self.streaming, full)):
            hidden = self.model.forward(tokens)
        counted = torch.tensor(sample.weights[1:]) > 0
        task_loss = (hidden - wanted)[counted].square().mean()
        loss = task_loss + self.config.sparsity * self.values.abs().mean()
        return loss, Outcome(1.0 - self.values.mean().item(), loss.item(), task_loss.item())

    def losses_of_step(self, step: int) -> list[Outcome]:
        """Adds the gradients of step `step` (0, 1, ...), summed over this process's sequences."""
        outcomes = []
        for i in range(self.world.rank, self.config.sequences, self.world.size):
            sample = self.draw_sample("train", f"train {step} {i}")
            loss, outcome = self._prulong(sample, step, i) if self.config.objective == "prulong" else self._duo(sample)
            loss.backward()
            outcomes.append(outcome)
        return outcomes

    def do_step(self) -> dict[str, Any]:
        begin = time.monotonic()
        lr = self.learning_rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self.config.objective == "duo":
            with torch.no_grad():
                self.values.clamp_(0.0, 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        mine = self.losses_of_step(self.step)
        outcomes = [outcome for part in self.world.gather(mine) for outcome in part]
        self.world.sum_gradients(self.parameters)
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad /= len(outcomes)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip).item()
        if math.isnan(norm):
            raise TrainingError(f"the gradient of step {self.step + 1} is not a number")
        self.optimizer.step()
        self.step += 1
        seconds = time.monotonic() - begin
        self.seconds += seconds
        linear, quadratic = self.multipliers.tolist()
        return {
            "step": self.step, "lr": f"{lr:.3e}", "target": f"{self.target(self.step - 1):.4f}",
            "local": f"{fmean(o.local for o in outcomes):.4f}", "loss": f"{fmean(o.loss for o in outcomes):.6f}",
            "task_loss": f"{fmean(o.task_loss for o in outcomes):.6f}", "linear": f"{linear:.4f}",
            "quadratic": f"{quadratic:.4f}", "grad_norm": f"{norm:.5f}", "seconds": f"{seconds:.3f}",
        }  # fmt: skip

    # -------------------------------------------------------------------------------------------- what is left

    @property
    def table_path(self) -> Path:
        return self.out / f"{self.config.name}.tsv"

    def table_values(self) -> Tensor:
        """What a head's need is worth, 0 to 1."""
        values = self.values.detach()
        return torch.sigmoid(SLOPE * values) if self.config.objective == "prulong" else values.clamp(0.0, 1.0)

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must have been made with to be gone on from."""
        return {"config": self.config.as_dict(), "fingerprint": self.base.fingerprint(), "data": self.data_hashes}

    def save(self) -> None:
        state = self.identity() | {
            "step": self.step, "seconds": self.seconds, "values": self.values.detach(),
            "multipliers": self.multipliers.detach(), "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip
        save_state(self.checkpoint_path, state)
        self.export()

    def record(self) -> dict[str, Any]:
        """How the heads came about, for their file."""
        return {
            "config": self.config.as_dict(), "steps": self.step, "seed": self.config.seed, "seconds": round(self.seconds),
            "processes": self.world.size, "threads": torch.get_num_threads(), "data": self.data_hashes,
            "model_sha256": self.base.sha256(), "machine": platform.machine(),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "gguf", "tokenizers")},
        }  # fmt: skip

    def export(self) -> None:
        """The values as a table and as a sidecar."""
        config = self.config
        self.table_path.write_text(masks.table(self.table_values()), encoding="utf-8")
        write_sidecar(self.table_path.with_suffix(".gguf"), self.base, config.name, self.table_values(), config.sinks,
                      config.window, self.record())  # fmt: skip

    def resume(self) -> bool:
        state = load_state(self.checkpoint_path, self.identity())
        if state is None:
            return False
        self.step, self.seconds = state["step"], state["seconds"]
        with torch.no_grad():
            self.values.copy_(state["values"])
            self.multipliers.copy_(state["multipliers"])
        self.optimizer.load_state_dict(state["optimizer"])
        return True

    def validate(self) -> list[dict[str, Any]]:
        """Next-token loss by task: all heads full, all local, the learned choice, and random ones of its size."""
        share = self.config.local_share
        shuffled = torch.rand(self.values.shape, generator=torch.Generator().manual_seed(self.config.seed))
        choices = {
            "full": torch.ones_like(self.values), "local": torch.zeros_like(self.values),
            "learned": masks.choose(self.values, share).float(), "random": masks.choose(shuffled, share).float(),
        }  # fmt: skip
        found: dict[tuple[str, str], list[float]] = {}
        for i in range(self.config.validation_sequences):
            sample = self.draw_sample("validation", f"validation {i}")
            for name, z in choices.items():
                found.setdefault((name, sample.task), []).append(self.loss_with(z, sample))
        return [{"step": self.step, "mask": mask, "task": task, "n": len(losses), "loss": f"{fmean(losses):.6f}"}
                for (mask, task), losses in sorted(found.items())]  # fmt: skip

    def progress(self, row: dict[str, Any]) -> str:
        return f"loss {row['task_loss']}, local {row['local']} of {row['target']}"

    def plot(self) -> None:
        plot_masks(self.out, self.table_values())
