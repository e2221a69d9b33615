"""What `rasure_training.budgets.measure` has left in a folder: outcomes by arm, budget, task and length."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Any

from .. import archive
from ..eraser.evaluate import clustered

Row = dict[str, Any]
Figure = dict[str, float | int]

FULL = "full"
TEXT = "text"
# Tokens at the end of a context that every arm keeps or may keep whatever it scores: the last chunk, and the window before it. A
# question about them does not tell arms apart.
RECENT = 128 + 32
LEAST_SCORE, LEAST_LOW = 0.6, 0.5  # of the full cache, where a task counts


class MeasuredError(Exception):
    """The folder does not hold what is needed; the message says what."""


def is_recent(row: Row) -> bool:
    """Whether some of what must be known for the answer stands at the context's end."""
    return any(end > row["n_context"] - RECENT for _, end in row["evidence"])


def mean_nll(row: Row) -> float:
    """Of a text, by token."""
    return sum(n * nll for _, _, n, nll in row["nll"]) / sum(n for _, _, n, _ in row["nll"])


def case_row(row: Row, record: Row) -> Row:
    """One outcome of the runtime with what it was made by. `score` is 1 for a right answer; for a text, its negative NLL."""
    made_by = {key: record[key] for key in ("arm", "budget", "tokens")}
    known = {key: row[key] for key in ("task", "context", "n_context", "kv_bytes", "footprint", "read_ms", "policy_ms")}
    found = made_by | known | {"id": f"{row['id']}/{row.get('question', 0)}"}
    if row.get("nll"):
        return found | {"score": -mean_nll(row), "nll": row["nll"], "recent": False}
    return found | {
        "score": float(row["exact_match"]), "logprob": row["answer_logprob"], "recent": is_recent(row), "turn": row["question"],
    }  # fmt: skip


@dataclass(frozen=True)
class Measured:
    records: list[Row]
    rows: list[Row]

    def arms(self) -> list[str]:
        """In the order of the file of arms."""
        order = {record["arm"]: record["order"] for record in self.records}
        return sorted(order, key=lambda arm: order[arm])

    def budgets(self) -> list[str]:
        found = {record["budget"] for record in self.records} - {""}
        return sorted(found, key=lambda budget: float(budget.rstrip("%MB")))

    def tasks(self) -> list[str]:
        """Those that ask something."""
        return [task for task in dict.fromkeys(row["task"] for row in self.rows) if task != TEXT]

    def lengths(self) -> list[int]:
        return sorted({row["tokens"] for row in self.rows})

    def size(self, tokens: int) -> str:
        """The median length of the contexts that were asked to have so many tokens."""
        return f"{median(row['n_context'] for row in self.rows if row['tokens'] == tokens):,.0f}"

    @cached_property
    def _groups(self) -> dict[tuple[str, str, str], list[Row]]:
        groups = defaultdict(list)
        for row in self.rows:
            groups[row["arm"], row["budget"], row["task"]].append(row)
        return groups

    def select(
        self, arm: str, budget: str, tasks: Iterable[str], tokens: int | None = None, recent: bool | None = False
    ) -> list[Row]:
        """Outcomes, without those whose evidence is recent (`recent` None: all of them)."""
        rows = [row for task in tasks for row in self._groups.get((arm, budget, task), [])]
        return [row for row in rows if tokens in (None, row["tokens"]) and recent in (None, row["recent"])]

    def refusal(self, arm: str, budget: str, tokens: int) -> str | None:
        """The tool's sentence, where the arm refused this budget at this length."""
        for record in self.records:
            if (record["arm"], record["budget"], record["tokens"]) == (arm, budget, tokens) and "refused" in record:
                return record["refused"]
        return None

    def eligible(self) -> list[tuple[str, int]]:
        """Tasks and lengths that count."""
        found = []
        for task in self.tasks():
            for tokens in self.lengths():
                score = mean_of(self.select(FULL, "", [task], tokens), "score")
                if score and score["mean"] >= LEAST_SCORE and score["low"] >= LEAST_LOW:
                    found.append((task, tokens))
        return found

    def select_eligible(self, arm: str, budget: str, task: str | None = None, recent: bool | None = False) -> list[Row]:
        """Outcomes on what counts: of one task, or of all."""
        return [row for name, tokens in self.eligible_ if task in (None, name)
                for row in self.select(arm, budget, [name], tokens, recent)]  # fmt: skip

    @cached_property
    def eligible_(self) -> list[tuple[str, int]]:
        return self.eligible()


def read_folder(folder: Path) -> tuple[list[Row], list[Row]]:
    records, rows = [], []
    for path in sorted(folder.glob("*.record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        records.append(record)
        outcomes = path.with_name(path.name.replace(".record.json", ".outcomes.jsonl"))
        if "refused" not in record:
            found = [json.loads(line) for line in outcomes.read_text(encoding="utf-8").splitlines()]
            rows += [case_row(row, record) for row in found]
            record["streams"] = [round(fmean(column), 1) for column in zip(*(row["streams"] for row in found), strict=True)]
    return records, rows


def load(*sources: Path) -> Measured:
    """What folders and archives hold together."""
    records, rows = archive.collect(sources, read_folder)
    if not any(row["arm"] == FULL for row in rows):
        raise MeasuredError(f"{', '.join(map(str, sources))}: no outcomes of the full cache are there")
    for key in ("model_sha256", "max_tokens", "split", "seed"):
        if len({json.dumps(record[key]) for record in records}) > 1:
            raise MeasuredError(f"{', '.join(map(str, sources))}: the parts were not all made with the same {key}")
    return Measured(records, rows)


def mean_of(rows: Sequence[Row], metric: str) -> Figure | None:
    return clustered([row[metric] for row in rows], [row["context"] for row in rows]) if rows else None


def difference(rows: Sequence[Row], others: Sequence[Row], metric: str = "score") -> Figure | None:
    """Mean of rows minus others, case by case."""
    by_id = {(row["id"], row["tokens"]): row for row in others}
    pairs = [(row, by_id[row["id"], row["tokens"]]) for row in rows if (row["id"], row["tokens"]) in by_id]
    return clustered([a[metric] - b[metric] for a, b in pairs], [a["context"] for a, _ in pairs]) if pairs else None


def nll_increase(rows: Sequence[Row], full: Sequence[Row]) -> Figure | None:
    """Of the mean negative log-likelihood over that with the full cache, as a share; texts are drawn with what both say of them."""
    gap, base = difference(full, rows), mean_of(full, "score")
    if gap is None or base is None:
        return None
    return gap | {key: gap[key] / -base["mean"] for key in ("mean", "low", "high")}


def plain_mean(rows: Sequence[Row], metric: str) -> float | None:
    return fmean(row[metric] for row in rows) if rows else None
