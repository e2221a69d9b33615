"""The training of an adapter: documents that follow from the step's number, checkpoints, and the adapter file.

A step reads `documents` documents. Each of them is read once with its spans; then every unit is erased through the adapter and
asked, and its loss is taken back through the frozen model into the adapter. What a step sees depends on the seed and its number
alone, so a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import math
import platform
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from ..files import sha256
from ..gguf_model import load_model
from ..runs import Log, TrainingError, load_state, save_state
from ..text import DataError
from ..training_loop import Loop, TrainingLoop
from ..world import World
from .adapter_file import Adapter, write_adapter
from .config import Stage, TrainingConfig
from .corpus import Corpus
from .documents import Document, Encoder, encode_document, task_and_probe
from .draft import Style
from .engine import Engine, Settings
from .lora import EraserModel
from .loss import LossOptions, ProbeLoss
from .plot import plot_training
from .tasks import training_document
from .units import clean_unit, training_method, unit_losses

SHOWN = 10  # steps whose mean loss is shown
BASELINES = ("drop", "shift", "repair:16")


@dataclass(frozen=True)
class Outcome:
    """One probe of a step, for the log."""

    task: str
    loss: float
    kl: float
    first_kl: float
    nll: float
    leak: float | None


def weight_of(weights: dict[str, float], task: str, probe: str) -> float:
    return weights.get(task, 1.0) * (weights.get(probe, 1.0) if probe != task else 1.0)


def draw_document(corpus: Corpus, config: TrainingConfig, stage: Stage, key: str) -> tuple[Document, random.Random]:
    """The document of a key, and the random generator that has made it."""
    for attempt in range(100):
        random_ = random.Random(f"{config.seed} {key} {attempt}")
        lengths = config.step.lengths
        low, high, _ = random_.choices(lengths, [weight for *_, weight in lengths])[0]
        n_tokens = random_.randint(int(low), int(high))
        style = Style(config.step.echo, config.step.bystander, config.step.continuation)
        try:
            return training_document(random_, corpus, stage.tasks, n_tokens, config.step.units, style), random_
        except DataError as error:
            last = error
    raise TrainingError(f"no document can be made: {last}")


class Trainer(TrainingLoop):
    log_columns = ("step", "stage", "lr", "loss", "kl", "first_kl", "nll", "leak", "probes", "grad_norm", "seconds")
    validation_columns = ("step", "method", "task", "n", "kl", "first_kl", "leak")

    def __init__(self, config: TrainingConfig, model: Path, data: Path, out: Path, world: World) -> None:
        super().__init__(Loop(config.name, config.total_steps, config.output.checkpoint, config.output.validate), out, world)
        self.config = config
        loaded = load_model(model)
        self.base = loaded.file
        self.encoder = Encoder(loaded.file)
        self.corpus = Corpus.load(data, "train")
        self.validation = Corpus.load(data, "validation") if config.output.validate else None
        self.data_hashes = {path.name: sha256(path) for path in sorted(data.glob("*.jsonl.gz"))}
        adapter = config.adapter
        frozen = EraserModel(loaded, getattr(torch, config.erase.dtype))
        self.lora = frozen.fresh_lora(adapter.rank, adapter.alpha, config.seed)
        self.settings = Settings(adapter.kind, adapter.window, adapter.sinks, adapter.bridge_tokens)
        self.engine = Engine(frozen, self.settings, self.lora)
        self.parameters = self.lora.parameters()
        optimizer = config.optimizer
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=optimizer.lr, betas=tuple(optimizer.betas), weight_decay=optimizer.weight_decay
        )
        self.own_methods = ["bridge", "bridge+shift"] if adapter.kind == "bridge" else ["steer"]
        self.losses: list[float] = []

    # ------------------------------------------------------------------------------------------------- a step

    def learning_rate(self, step: int) -> float:
        """Of step 0, 1, ...: a linear warm-up, then a cosine."""
        o = self.config.optimizer
        if step < o.warmup:
            return o.lr * (step + 1) / o.warmup
        done = (step - o.warmup) / max(1, self.config.total_steps - o.warmup)
        return o.lr * (o.final + (1.0 - o.final) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))))

    def _document_losses(self, key: str, stage: Stage) -> Iterator[tuple[str, str, ProbeLoss]]:
        """Task, probe and loss of every probe of a document. The caller takes each unit's losses back before the next unit."""
        document, random_ = draw_document(self.corpus, self.config, stage, key)
        encoded = encode_document(self.encoder, document)
        context = self.engine.read(encoded.tokens)
        for unit in encoded.units:
            clean = clean_unit(self.engine, context, unit, self.config.step.answer_tokens, self.encoder.ends)
            method = training_method(random_, self.config)
            total = torch.zeros(())
            outcomes = []
            for probe, loss in unit_losses(self.engine, context, clean, method, self.config.loss):
                total = total + weight_of(self.config.task_weights, unit.unit.task, probe) * loss.total
                outcomes.append((task_and_probe(unit.unit.task, probe), probe, loss))
            if total.requires_grad:
                total.backward()
            yield from outcomes

    def losses_of_step(self, step: int) -> list[Outcome]:
        """Adds the gradients of step `step` (0, 1, ...) to the parameters, summed over this process's documents."""
        stage = self.config.stage_of(step)
        outcomes = []
        for i in range(self.world.rank, self.config.step.documents, self.world.size):
            for task, _, loss in self._document_losses(f"train {step} {i}", stage):
                outcomes.append(Outcome(task, loss.total.item(), loss.kl, loss.first_kl, loss.nll, loss.leak))
        return outcomes

    def do_step(self) -> dict[str, Any]:
        """One step of the optimizer; a row of the log."""
        begin = time.monotonic()
        lr = self.learning_rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        mine = self.losses_of_step(self.step)
        outcomes = [outcome for part in self.world.gather(mine) for outcome in part]
        self.world.sum_gradients(self.parameters)
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad /= len(outcomes)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.optimizer.clip).item()
        if not math.isfinite(norm):
            raise TrainingError(f"the gradient of step {self.step + 1} is not finite")
        self.optimizer.step()
        stage = self.config.stage_of(self.step)
        self.step += 1
        seconds = time.monotonic() - begin
        self.seconds += seconds
        loss = fmean(o.loss for o in outcomes)
        self.losses.append(loss)
        leaks = [o.leak for o in outcomes if o.leak is not None]
        row = {
            "step": self.step, "stage": stage.name, "lr": f"{lr:.3e}", "loss": f"{loss:.6f}",
            "kl": f"{fmean(o.kl for o in outcomes):.6f}", "first_kl": f"{fmean(o.first_kl for o in outcomes):.6f}",
            "nll": f"{fmean(o.nll for o in outcomes):.6f}", "leak": f"{fmean(leaks):.6f}" if leaks else "",
            "probes": len(outcomes), "grad_norm": f"{norm:.5f}", "seconds": f"{seconds:.3f}",
        }  # fmt: skip
        by_task = defaultdict(list)
        for outcome in outcomes:
            by_task[outcome.task].append(outcome.kl)
        return row | {"tasks": {task: fmean(kls) for task, kls in by_task.items()}}

    # -------------------------------------------------------------------------------------------- checkpoints

    @property
    def adapter_path(self) -> Path:
        return self.out / f"{self.config.name}.gguf"

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must have been made with to be gone on from."""
        return {"config": self.config.as_dict(), "fingerprint": self.base.fingerprint(), "data": self.data_hashes}

    def save(self) -> None:
        state = self.identity() | {
            "step": self.step, "seconds": self.seconds, "losses": self.losses, "lora": self.lora.state(),
            "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip
        save_state(self.checkpoint_path, state)
        self.export()

    def resume(self) -> bool:
        """Goes back to the last checkpoint, if there is one."""
        state = load_state(self.checkpoint_path, self.identity())
        if state is None:
            return False
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
        self.lora.load_state(state["lora"])
        self.optimizer.load_state_dict(state["optimizer"])
        return True

    def record(self) -> dict[str, Any]:
        """How the adapter came about, for its file."""
        last = self.losses[-100:]
        return {
            "config": self.config.as_dict(),
            "steps": self.step,
            "seed": self.config.seed,
            "seconds": round(self.seconds),
            "processes": self.world.size,
            "threads": torch.get_num_threads(),
            "loss_of_last_100_steps": fmean(last) if last else None,
            "data": self.data_hashes,
            "model_sha256": self.base.sha256(),
            "machine": platform.machine(),
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("torch", "gguf", "numpy", "tokenizers")},
        }

    def export(self) -> None:
        section = self.config.adapter
        adapter = Adapter(self.settings, self.lora, self.base.fingerprint(), section.name, section.license, self.record())
        write_adapter(self.adapter_path, self.base, adapter, section.a_type, section.b_type)

    # --------------------------------------------------------------------------------------------- validation

    @torch.no_grad()
    def validate(self, methods: list[str] | None = None) -> list[dict[str, Any]]:
        """By method (None: the adapter's own), the means over the probes of each task, and over all of them."""
        stage = self.config.stages[-1]
        found: dict[tuple[str, str], list[ProbeLoss]] = defaultdict(list)
        for i in range(self.config.output.validation_documents):
            document, _ = draw_document(self.validation, self.config, stage, f"validation {i}")
            encoded = encode_document(self.encoder, document)
            context = self.engine.read(encoded.tokens)
            for unit in encoded.units:
                clean = clean_unit(self.engine, context, unit, self.config.step.answer_tokens, self.encoder.ends)
                for method in methods or self.own_methods:
                    for probe, loss in unit_losses(self.engine, context, clean, method, LossOptions()):
                        task = task_and_probe(unit.unit.task, probe)
                        found[method, task].append(loss)
                        found[method, "all"].append(loss)
        rows = []
        for (method, task), losses in sorted(found.items()):
            leaks = [loss.leak for loss in losses if loss.leak is not None]
            rows.append({
                "step": self.step, "method": method, "task": task, "n": len(losses),
                "kl": f"{fmean(loss.kl for loss in losses):.6f}",
                "first_kl": f"{fmean(loss.first_kl for loss in losses):.6f}",
                "leak": f"{fmean(leaks):.6f}" if leaks else "",
            })  # fmt: skip
        return rows

    def baselines(self) -> list[dict[str, Any]]:
        return self.validate([*BASELINES, *self.own_methods])

    def open_logs(self) -> None:
        self.tasks = Log(self.out / "tasks.csv", ("step", "task", "kl"), self.step)

    def note(self, row: dict[str, Any]) -> None:
        rows = [{"step": self.step, "task": task, "kl": f"{kl:.6f}"} for task, kl in sorted(row.pop("tasks").items())]
        self.tasks.write(rows)

    def progress(self, row: dict[str, Any]) -> str:
        return f"{row['stage']}, loss {fmean(self.losses[-SHOWN:]):.4f}"

    def plot(self) -> None:
        plot_training(self.out)
