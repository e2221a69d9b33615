"""The loop of a training run: steps, a log, checkpoints, looks at the validation split, progress with the time left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Protocol

from .runs import Log, duration, say
from .world import World

SHOW_EVERY = 5  # steps


class LoopConfig(Protocol):
    name: str
    checkpoint: int  # steps between two of them
    validate: int  # steps between two looks at the validation split; 0: none


class TrainingLoop(ABC):
    """What is trained, and how a step goes, is said by subclasses. Only the first process writes."""

    log_columns: ClassVar[tuple[str, ...]]  # of log.csv; "step" and "seconds" are among them
    validation_columns: ClassVar[tuple[str, ...]]  # of validation.csv; "step" is among them

    def __init__(self, config: LoopConfig, steps: int, out: Path, world: World) -> None:
        self.loop = config
        self.steps = steps
        self.out = out
        self.world = world
        self.step = 0
        self.seconds = 0.0

    @property
    def checkpoint_path(self) -> Path:
        return self.out / "checkpoint.pt"

    @abstractmethod
    def do_step(self) -> dict[str, Any]:
        """One step of the optimizer; a row of the log."""

    @abstractmethod
    def save(self) -> None:
        """Writes a checkpoint, and what is trained as a file."""

    @abstractmethod
    def resume(self) -> bool:
        """Goes back to the last checkpoint, if there is one."""

    @abstractmethod
    def validate(self) -> list[dict[str, Any]]:
        """Rows of validation.csv."""

    @abstractmethod
    def plot(self) -> None:
        """Draws the course of the run."""

    @abstractmethod
    def progress(self, row: dict[str, Any]) -> str:
        """What is said of a step."""

    def run(self, show: bool = True) -> None:
        """Trains to the end."""
        resumed = self.resume()
        first, every = self.world.is_first, self.loop.validate
        log = Log(self.out / "log.csv", self.log_columns, self.step) if first else None
        validation = Log(self.out / "validation.csv", self.validation_columns, self.step) if first else None
        if first and show:
            start = f"from step {self.step}" if resumed else "from the beginning"
            say(f"{self.loop.name}: {self.steps} steps, {start}; {self.out}")
        recent: list[float] = []
        while self.step < self.steps:
            row = self.do_step()
            recent = [*recent[-19:], float(row["seconds"])]
            if log is None or validation is None:
                continue
            log.write([row])
            done = self.step == self.steps
            if show and (self.step % SHOW_EVERY == 0 or done):
                left = duration(fmean(recent) * (self.steps - self.step))
                say(f"step {self.step} of {self.steps}: {self.progress(row)}, {fmean(recent):.1f} s a step, {left} left")
            if self.step % self.loop.checkpoint == 0 or done:
                self.save()
            if every and (self.step % every == 0 or done):
                validation.write(self.validate())
                self.plot()
        if first:
            self.save()
            self.plot()
