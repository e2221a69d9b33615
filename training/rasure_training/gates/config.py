"""A run as a TOML file: every hyper-parameter stands there, nothing has a default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..heads.samples import TASKS
from ..runs import ConfigError, section
from .forms import FORMS

SCOPES = ("global", "head")


@dataclass(frozen=True)
class GatesConfig:
    name: str
    seed: int
    form: str
    scope: str  # of the budget: one for all streams, or one for each
    width: int
    head_features: int  # of tied gates
    initial: float  # bias of z: about ln(tokens / 0.2)
    budget: int  # entries of a stream
    warm_steps: int  # on lifetimes that the teacher's attention shows
    warm_lr: float
    stage_steps: list[int]  # end to end, stage by stage
    stage_tokens: list[int]  # of a sequence; the warm start has the first stage's
    sequences: int  # a step
    lr: float
    warmup: float  # share of the end-to-end steps
    final: float  # share of lr at the end
    weight_decay: float
    betas: list[float]
    eps: float  # gradients are tiny where gates forget nothing
    clip: float
    capacity: float  # weight of the capacity loss, which is reached after a quarter of the steps
    capacity_rows: float  # share of the positions at which it is summed up
    answer_weight: float
    answers_only: float  # share of the sequences with something to be looked up of which only the answers count
    dtype: str  # of the frozen matrices
    checkpoint: int
    validate: int
    validation_sequences: int
    chunk: int  # of the validation's evictions
    floor: int
    sinks: int
    window: int
    tasks: dict[str, float]  # weights

    @property
    def steps(self) -> int:
        return self.warm_steps + sum(self.stage_steps)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def parse_config(data: dict[str, Any]) -> GatesConfig:
    config: GatesConfig = section(GatesConfig, data, "")
    if config.form not in FORMS:
        raise ConfigError(f"form {config.form} is none of {', '.join(FORMS)}")
    if config.scope not in SCOPES:
        raise ConfigError(f"scope {config.scope} is neither global nor head")
    if config.dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"dtype {config.dtype} is neither float32 nor bfloat16")
    if config.form != "constant" and (config.width < 32 or config.width % 32 != 0):
        raise ConfigError(f"width {config.width} is no multiple of 32")
    if len(config.stage_steps) != len(config.stage_tokens) or not config.stage_steps:
        raise ConfigError("stage_steps and stage_tokens are not of one length, or empty")
    if not 0.0 < config.capacity_rows <= 1.0:
        raise ConfigError(f"capacity_rows {config.capacity_rows} is not above 0, to 1")
    if config.budget < max(config.sinks + config.window, config.floor):
        raise ConfigError(f"a budget of {config.budget} is less than sinks and window, or than the floor")
    if not 0.0 <= config.answers_only <= 1.0:
        raise ConfigError(f"answers_only {config.answers_only} is not from 0 to 1")
    for task in config.tasks:
        if task not in TASKS:
            raise ConfigError(f"there is no task {task}")
    if sum(config.tasks.values()) <= 0:
        raise ConfigError("the weights of the tasks are all 0")
    return config
