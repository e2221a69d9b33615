"""A run as a TOML file: every hyper-parameter stands there, nothing has a default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..runs import ConfigError, load_toml, section
from .samples import TASKS

OBJECTIVES = ("prulong", "duo")


@dataclass(frozen=True)
class HeadsConfig:
    name: str
    seed: int
    objective: str
    sinks: int
    window: int
    local_share: float  # of the heads, in the end; of duo the shares are chosen afterwards
    tokens: int  # of a sequence
    sequences: int  # a step
    steps: int
    rise: float  # share of the steps over which the target rises to local_share
    lr: float  # of masks and multipliers
    weight_decay: float  # of both; without it the masks run away
    betas: list[float]
    warmup: float  # share of the steps
    final: float  # share of lr at the end
    clip: float
    initial: float  # log_alpha (prulong) or alpha (duo) at the start
    sparsity: float  # duo: weight of the mean of the masks
    answer_weight: float
    answers_only: float  # share of the sequences with something to be looked up of which only the answers count
    dtype: str  # of the frozen matrices
    checkpoint: int  # steps between two of them
    validate: int  # steps between two looks at the validation split; 0: none
    validation_sequences: int
    tasks: dict[str, float]  # weights

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def parse_config(data: dict[str, Any]) -> HeadsConfig:
    config: HeadsConfig = section(HeadsConfig, data, "")
    if config.objective not in OBJECTIVES:
        raise ConfigError(f"objective {config.objective} is none of {', '.join(OBJECTIVES)}")
    if config.dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"dtype {config.dtype} is neither float32 nor bfloat16")
    if not 0.0 < config.local_share < 1.0:
        raise ConfigError(f"local_share {config.local_share} is not between 0 and 1")
    if not 0.0 <= config.answers_only <= 1.0:
        raise ConfigError(f"answers_only {config.answers_only} is not from 0 to 1")
    for task in config.tasks:
        if task not in TASKS:
            raise ConfigError(f"there is no task {task}")
    if sum(config.tasks.values()) <= 0:
        raise ConfigError("the weights of the tasks are all 0")
    return config


def load_config(path: Path) -> HeadsConfig:
    return load_toml(path, parse_config)
