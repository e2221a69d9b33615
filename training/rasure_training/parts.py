"""Long measurements in parts: each a command that leaves a file, and a record of what it was made with. Parts that are there are not
made again, so a measurement that was stopped goes on."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .runs import duration, say


class PartError(Exception):
    """The measurement cannot go on; the message says why."""


@dataclass(frozen=True)
class Part:
    title: str
    command: list[str]
    outcomes: Path  # that the command writes
    record: Path
    wanted: dict[str, Any]  # what it must have been made with
    work: float  # what it costs, in any unit
    noted: dict[str, Any] = field(default_factory=dict)  # what else the record says
    refusal: str | None = None  # words of a failure that is a result, and recorded as "refused"

    def read_record(self) -> dict[str, Any]:
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

    def execute(self, command: Sequence[str]) -> str | None:
        """Runs it; what it said, where it refused."""
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else str(done.returncode)
        refused = done.returncode != 0 and self.refusal is not None and self.refusal in said
        if done.returncode and not refused:
            raise PartError(f"{self.outcomes.name}: {said}")
        return said if refused else None

    def write_record(self, begin: float, more: dict[str, Any]) -> None:
        record = self.wanted | self.noted | {"seconds": round(time.monotonic() - begin, 1)} | more
        self.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def run(self) -> None:
        begin = time.monotonic()
        refused = self.execute(self.command)
        self.write_record(begin, {"refused": refused} if refused else {})


def run_parts(parts: Sequence[Part], jobs: int) -> None:
    """Those that are not there yet, `jobs` at a time, with progress."""
    waiting = [part for part in parts if not part.is_done()]
    say(f"{len(parts) - len(waiting)} parts are there already")
    begin, done = time.monotonic(), 0.0
    total = sum(part.work for part in waiting)
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(part.run): part for part in waiting}
        try:
            for future in as_completed(running):
                future.result()
                part = running[future]
                done += part.work
                left = (time.monotonic() - begin) * (total - done) / done
                say(f"{part.title}: done; {duration(left)} left")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
