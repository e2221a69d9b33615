"""Long measurements in parts: cases that `rasure eval` answers, a file of outcomes, and a record of what they were made with. Parts
that are there are not made again, and of a part that was stopped no more is made again than the contexts that were at hand, so a
measurement goes on where it was."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Protocol

from .files import Row, read_json_lines, write_json_lines
from .runs import duration, say

AT_A_TIME = 10  # contexts that one run of the tool evaluates
TOLD_EVERY = 60.0  # seconds
# Of what is noted, what follows from the cases and is told for people: parts that were stopped before it was noted go on.
TOLD = ("style",)


class PartError(Exception):
    """The measurement cannot go on; the message says why."""


class Refused(Exception):
    """The tool will not do it, which is a result."""


class Command(Protocol):
    """The words of a command that evaluates the cases of a file."""

    def __call__(self, *, cases: Path) -> list[str]: ...


def slices(cases: Sequence[Row]) -> Iterator[list[Row]]:
    """Of so many contexts each. Cases that share one follow each other."""
    contexts = (list(group) for _, group in groupby(cases, lambda case: case["context"]))
    while some := list(islice(contexts, AT_A_TIME)):
        yield [case for group in some for case in group]


@dataclass(frozen=True)
class Part:
    title: str
    command: Command
    cases: Path
    outcomes: Path  # of `cases`, in their order
    record: Path
    wanted: Row  # what it must have been made with
    work: float  # what it costs, in any unit
    noted: Row = field(default_factory=dict)  # what else the record says
    refusal: str | None = None  # words of a failure that is a result, and recorded as "refused"

    def read_record(self) -> Row:
        """Of what is there; empty where nothing is."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if self.outcomes.exists() or "refused" in record else {}

    def is_done(self) -> bool:
        """Whether the record says that the outcomes, or the refusal, are those of `wanted`."""
        record = self.read_record()
        return bool(record) and all(record.get(key) == value for key, value in self.wanted.items())

    def execute(self, cases: Path, outcomes: Path, options: Sequence[str]) -> None:
        command = [*self.command(cases=cases), *options, "--per-case", str(outcomes)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else str(done.returncode)
        if self.refusal is not None and self.refusal in said:
            raise Refused(said)
        raise PartError(f"{self.outcomes.name}: {said}")

    def evaluate(self, progress: Progress, *options: str) -> list[Row]:
        """Some contexts at a time, each to a file of its own that is not made again."""
        noted = {key: value for key, value in self.noted.items() if key not in TOLD}
        inputs = json.dumps([self.wanted, noted, options]).encode()
        digest = hashlib.sha256(inputs).hexdigest()[:12]
        cases = read_json_lines(self.cases)
        rows = []
        for i, some in enumerate(slices(cases)):
            fresh = self.outcomes.with_name(f"{self.outcomes.name}.{digest}-{i}")
            work = self.work * len(some) / len(cases)
            if fresh.exists():
                progress.skip(work)
            else:
                its_cases = fresh.with_name(f"{fresh.name}.cases")
                write_json_lines(its_cases, some)
                self.execute(its_cases, fresh, options)
                progress.advance(work)
            rows += read_json_lines(fresh)
        return rows

    def write_record(self, begin: float, more: Row) -> None:
        record = self.wanted | self.noted | {"seconds": round(time.monotonic() - begin, 1)} | more
        self.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        for leftover in self.outcomes.parent.glob(f"{self.outcomes.name}.*"):
            leftover.unlink()

    def run(self, progress: Progress) -> None:
        begin = time.monotonic()
        try:
            write_json_lines(self.outcomes, self.evaluate(progress))
        except Refused as refused:
            self.write_record(begin, {"refused": str(refused)})
        else:
            self.write_record(begin, {})


class Progress:
    """Tells how much time is left, from several threads."""

    def __init__(self, total: float) -> None:
        self.total, self.done = total, 0.0
        self.begin = self.told = time.monotonic()
        self.lock = threading.Lock()

    def left(self) -> str:
        return duration((time.monotonic() - self.begin) * (self.total - self.done) / self.done) if self.done else "?"

    def skip(self, work: float) -> None:
        """What was there already took no time, and says nothing of the rest."""
        with self.lock:
            self.total -= work

    def advance(self, work: float) -> None:
        with self.lock:
            self.done = min(self.done + work, self.total)
            if time.monotonic() - self.told > TOLD_EVERY:
                self.told = time.monotonic()
                say(f"{self.done / self.total:.0%}, {self.left()} left")


def run_parts(parts: Sequence[Part], jobs: int) -> None:
    """Those that are not there yet, `jobs` at a time, with progress."""
    waiting = [part for part in parts if not part.is_done()]
    say(f"{len(parts) - len(waiting)} parts are there already")
    progress = Progress(sum(part.work for part in waiting))
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(part.run, progress): part for part in waiting}
        try:
            for future in as_completed(running):
                future.result()
                say(f"{running[future].title}: done; {progress.left()} left")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
