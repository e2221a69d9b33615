"""A training run as a TOML file: every hyper-parameter stands there, nothing has a default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..runs import ConfigError, load_toml, section
from .adapter_file import KINDS, TYPES
from .loss import LossOptions
from .tasks import TASKS


@dataclass(frozen=True)
class AdapterSection:
    kind: str
    rank: int
    alpha: float
    window: int
    sinks: int
    bridge_tokens: int  # of the finished adapter; 0 for steer
    name: str
    license: str
    a_type: str
    b_type: str


@dataclass(frozen=True)
class PassSection:
    """How spans are erased in training."""

    bridge_tokens: list[int]  # one of them a unit
    shift_share: float  # of units whose gap is closed after a bridge
    full_share: float  # of units that are steered with all rows before the span in sight
    dtype: str  # of the frozen matrices


@dataclass(frozen=True)
class StepSection:
    documents: int  # a step
    units: int  # a document, at most
    lengths: list[list[float]]  # [from, to, weight], in tokens
    echo: float
    bystander: float
    continuation: int  # words by which a prose document goes on
    answer_tokens: int  # of answers that the clean model gives itself


@dataclass(frozen=True)
class OptimizerSection:
    lr: float
    betas: list[float]
    weight_decay: float
    clip: float
    warmup: int  # steps
    final: float  # share of lr at the end of the cosine


@dataclass(frozen=True)
class OutputSection:
    checkpoint: int  # steps between two of them
    validate: int  # steps between two looks at the validation split; 0: none
    validation_documents: int


@dataclass(frozen=True)
class Stage:
    name: str
    steps: int
    tasks: dict[str, float]  # weights of tasks


@dataclass(frozen=True)
class TrainingConfig:
    name: str
    seed: int
    adapter: AdapterSection
    erase: PassSection
    step: StepSection
    loss: LossOptions
    task_weights: dict[str, float]  # of the losses; 1 for tasks and probes that are not named
    optimizer: OptimizerSection
    output: OutputSection
    stages: list[Stage]

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage_of(self, step: int) -> Stage:
        """The stage of step 0, 1, ..."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def parse_config(data: dict[str, Any]) -> TrainingConfig:
    tables = {
        "adapter": AdapterSection, "erase": PassSection, "step": StepSection, "loss": LossOptions,
        "optimizer": OptimizerSection, "output": OutputSection,
    }  # fmt: skip
    wanted = {"name", "seed", "task_weights", "stages", *tables}
    for key in sorted(wanted ^ set(data)):
        raise ConfigError(f"{key} is missing" if key in wanted else f"there is no parameter {key}")
    stages = [section(Stage, table, f"stage {i + 1}") for i, table in enumerate(data["stages"])]
    sections = {key: section(kind, data[key], f"[{key}]") for key, kind in tables.items()}
    config = TrainingConfig(name=data["name"], seed=data["seed"], task_weights=data["task_weights"], stages=stages, **sections)
    _check(config)
    return config


def _check(config: TrainingConfig) -> None:
    adapter = config.adapter
    if adapter.kind not in KINDS:
        raise ConfigError(f"[adapter]: kind {adapter.kind} is none of {', '.join(KINDS)}")
    if (adapter.kind == "bridge") != (adapter.bridge_tokens > 0):
        raise ConfigError("[adapter]: bridge_tokens is above 0 for a bridge and 0 for steer")
    if adapter.kind == "bridge" and (not config.erase.bridge_tokens or min(config.erase.bridge_tokens) < 1):
        raise ConfigError("[erase]: bridge_tokens is not a list of numbers above 0")
    for key in ("a_type", "b_type"):
        if getattr(adapter, key) not in TYPES:
            raise ConfigError(f"[adapter]: {key} {getattr(adapter, key)} is none of {', '.join(TYPES)}")
    if config.erase.dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"[erase]: dtype {config.erase.dtype} is neither float32 nor bfloat16")
    if not config.stages:
        raise ConfigError("there are no stages")
    for stage in config.stages:
        for task in stage.tasks:
            if task not in TASKS:
                raise ConfigError(f"stage {stage.name}: there is no task {task}")
        if sum(stage.tasks.values()) <= 0:
            raise ConfigError(f"stage {stage.name}: the weights of its tasks are all 0")


def load_config(path: Path) -> TrainingConfig:
    return load_toml(path, parse_config)
