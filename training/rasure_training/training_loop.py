"""The loop of a training run: steps, a log, checkpoints, looks at the validation split, progress with the time left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from .runs import Log, duration, say
from .world import World

SHOW_EVERY = 5  # steps


@dataclass(frozen=True)
class Loop:
    name: str
    steps: int
    checkpoint: int  # steps between two of them
    validate: int  # steps between two looks at the validation split; 0: none


class TrainingLoop(ABC):
    """What is trained, and how a step goes, is said by subclasses. Only the first process writes."""

    log_columns: ClassVar[tuple[str, ...]]  # of log.csv; "step" and "seconds" are among them
    validation_columns: ClassVar[tuple[str, ...]]  # of validation.csv; "step" is among them

    def __init__(self, loop: Loop, out: Path, world: World) -> None:
        self.loop = loop
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

    def open_logs(self) -> None:
        """Opens further logs for the steps from self.step on."""

    def baselines(self) -> list[dict[str, Any]]:
        """Rows of validation.csv before the first step."""
        return []

    def note(self, row: dict[str, Any]) -> None:
        """Writes down what a step's row has beside the columns of the log, and takes it out of it."""

    @abstractmethod
    def plot(self) -> None:
        """Draws the course of the run."""

    @abstractmethod
    def progress(self, row: dict[str, Any]) -> str:
        """What is said of a step."""

    def run(self, show: bool = True) -> None:
        """Trains to the end."""
        resumed = self.resume()
        first, every, steps = self.world.is_first, self.loop.validate, self.loop.steps
        log = Log(self.out / "log.csv", self.log_columns, self.step) if first else None
        validation = Log(self.out / "validation.csv", self.validation_columns, self.step) if first else None
        if first:
            self.open_logs()
        if first and show:
            start = f"from step {self.step}" if resumed else "from the beginning"
            say(f"{self.loop.name}: {steps} steps, {start}; {self.out}")
        if validation is not None and every and self.step == 0:
            validation.write(self.baselines())
        recent: list[float] = []
        while self.step < steps:
            row = self.do_step()
            recent = [*recent[-19:], float(row["seconds"])]
            if log is None or validation is None:
                continue
            self.note(row)
            log.write([row])
            done = self.step == steps
            if show and (self.step % SHOW_EVERY == 0 or done):
                left = duration(fmean(recent) * (steps - self.step))
                say(f"step {self.step} of {steps}: {self.progress(row)}, {fmean(recent):.1f} s a step, {left} left")
            if self.step % self.loop.checkpoint == 0 or done:
                self.save()
            if every and (self.step % every == 0 or done):
                validation.write(self.validate())
                self.plot()
        if first:
            self.save()
            self.plot()
