"""What `rasure_training.budgets.measure` has left in a folder: outcomes by arm, budget, task and length."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median

from .. import archive
from ..archive import MeasuredError, Row
from ..figures import clustered

Figure = dict[str, float | int]

FULL = "full"
TEXT = "text"
WINDOW_TOKENS = 32  # most that an arm protects of what precedes the chunk at hand, whatever it scores
LEAST_SCORE, LEAST_LOW = 0.6, 0.5  # of the full cache, where a task counts


def is_recent(row: Row, batch: int) -> bool:
    """Whether some of what must be known for the answer stands at the context's end: in a last chunk of `batch` tokens or in the
    window before it, which arms keep or may keep whatever they score. A question about it does not tell them apart."""
    return any(end > row["n_context"] - batch - WINDOW_TOKENS for _, end in row["evidence"])


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
    return found | {"score": float(row["exact_match"]), "recent": is_recent(row, record["batch"])}


def number_of(row: Row) -> int:
    """Of the question among those of its context, from 0."""
    return int(row["id"].rpartition("/")[2])


def budget_place(budget: str) -> float:
    """Among other budgets."""
    return float(budget.rstrip("%MB"))


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
        return sorted(found, key=budget_place)

    def tasks(self) -> list[str]:
        """Those that ask something."""
        return [task for task in dict.fromkeys(row["task"] for row in self.rows) if task != TEXT]

    def lengths(self) -> list[int]:
        return sorted({row["tokens"] for row in self.rows})

    def builds(self) -> list[str]:
        """SHA-256 of the tools that measured the parts, in the order of their records."""
        return list(dict.fromkeys(record["rasure_sha256"] for record in self.records))

    def size(self, tokens: int) -> str:
        """The median length of the contexts that were asked to have so many tokens."""
        return f"{median(row['n_context'] for row in self.rows if row['tokens'] == tokens):,.0f}"

    def text_size(self, tokens: int) -> str:
        """The median length of the texts among them; "-" where there are none."""
        sizes = [row["n_context"] for row in self.select(FULL, "", [TEXT], tokens)]
        return f"{median(sizes):,.0f}" if sizes else "-"

    def batch(self, tokens: int) -> int:
        """Tokens that were read at a time in contexts of this length."""
        (batch,) = {record["batch"] for record in self.records if record["tokens"] == tokens}
        return batch

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

    @cached_property
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
        return [row for name, tokens in self.eligible if task in (None, name)
                for row in self.select(arm, budget, [name], tokens, recent)]  # fmt: skip

    def eligible_tasks(self) -> list[str]:
        """Those that count at some length."""
        return list(dict.fromkeys(task for task, _ in self.eligible))


def _rows_of(record: Row, outcomes: list[Row]) -> list[Row]:
    """Also notes the average lengths of the streams in the record: there is one list a part, not one a case."""
    record["streams"] = [round(fmean(column), 1) for column in zip(*(row["streams"] for row in outcomes), strict=True)]
    return [case_row(row, record) for row in outcomes]


def load(*sources: Path) -> Measured:
    """What folders and archives hold together."""
    records, rows = archive.collect(sources, _rows_of, ("model_sha256", "max_tokens", "split", "seed", "isa"))
    if not any(row["arm"] == FULL for row in rows):
        raise MeasuredError(f"{', '.join(map(str, sources))}: no outcomes of the full cache are there")
    if len({(r["tokens"], r["batch"]) for r in records}) > len({r["tokens"] for r in records}):
        raise MeasuredError("contexts of one length were read in chunks of several sizes: those are reports apart")
    return Measured(records, rows)


def mean_of(rows: Sequence[Row], metric: str) -> Figure | None:
    return clustered([row[metric] for row in rows], [row["context"] for row in rows]) if rows else None


def difference(rows: Sequence[Row], others: Sequence[Row], metric: str = "score") -> Figure | None:
    """Mean of rows minus others, case by case."""
    by_id = {(row["id"], row["tokens"]): row for row in others}
    pairs = [(row, by_id[row["id"], row["tokens"]]) for row in rows if (row["id"], row["tokens"]) in by_id]
    return clustered([a[metric] - b[metric] for a, b in pairs], [a["context"] for a, _ in pairs]) if pairs else None


def nll_increase(rows: Sequence[Row], full: Sequence[Row]) -> Figure | None:
    """Of the mean negative log-likelihood over that of the same texts with the full cache, as a share."""
    gap, ids = difference(full, rows), {(row["id"], row["tokens"]) for row in rows}
    base = plain_mean([row for row in full if (row["id"], row["tokens"]) in ids], "score")
    if gap is None or base is None:
        return None
    return gap | {key: gap[key] / -base for key in ("mean", "low", "high")}


def perplexity_increase(rows: Sequence[Row], full: Sequence[Row]) -> Figure | None:
    """Over that of the same texts with the full cache, as a share, every text counting once: the mean of NLL differences is the
    logarithm of the ratio of perplexities."""
    gap = difference(full, rows)
    return gap and _as_perplexity(gap)


def perplexity_increase_at(rows: Sequence[Row], full: Sequence[Row], begin: int) -> Figure | None:
    """The same of the bucket of positions that begins there, every token counting once, over the texts that reach so far."""
    whole = {(row["id"], row["tokens"]): bucket_at(row, begin) for row in full}
    pairs = [(row["context"], bucket_at(row, begin), whole[row["id"], row["tokens"]]) for row in rows]
    known = [(context, mine, theirs) for context, mine, theirs in pairs if mine and theirs]
    if not known:
        return None
    gaps = [mine[3] - theirs[3] for _, mine, theirs in known for _ in range(mine[2])]
    return _as_perplexity(clustered(gaps, [context for context, mine, _ in known for _ in range(mine[2])]))


def bucket_at(row: Row, begin: int) -> list[float] | None:
    """Of a text: begin, end, tokens and mean NLL; None where the text does not reach so far."""
    return next((bucket for bucket in row["nll"] if bucket[0] == begin), None)


def _as_perplexity(gap: Figure) -> Figure:
    return gap | {key: math.expm1(gap[key]) for key in ("mean", "low", "high")}


def plain_mean(rows: Sequence[Row], metric: str) -> float | None:
    return fmean(row[metric] for row in rows) if rows else None
