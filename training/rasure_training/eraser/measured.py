"""What `rasure_training.eraser.measure` has left in a folder: outcomes by task, method and length, and means with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median

from .. import archive
from ..archive import MeasuredError, Row
from ..figures import clustered
from .summary import outcome

# What a method may be chosen by: kinds of cases, by the tasks in them.
GROUPS = {
    "whole sentences": ("conflict", "distractor", "ask", "echo", "derived", "notes", "several"),
    "values": ("redact", "redact-two"),
    "instructions": ("instruction",),
    "stale then fresh, answers": ("stale-before",),
    "stale then fresh, reciting": ("stale-before/recite",),
    "fresh then stale": ("stale-after", "stale-after/recite"),
    "neighbours": ("neighbours",),
    "prose": ("prose",),
    "bystanders": ("bystander",),
}
FAR = 0.1  # nats that `drop` is from exact where more than dropping is needed
METRICS = ("kl", "exact_match", "leak", "agree", "leak_minus_clean", "erase_ms", "n_recomputed")


Figure = dict[str, float | int]


def kl_of(outcome: Row) -> float | None:
    """The KL of an outcome that counts: along the right answer or the given text; along the exact run's own answer where nothing
    is known of what should be said."""
    return outcome.get("kl_target", outcome.get("kl"))


def case_row(row: Row, tokens: int) -> Row:
    """One outcome of the runtime, with the one KL that counts (`kl_of`), and the family of its facts where the runtime says it. A
    bystander is one, whatever was erased."""
    found = outcome(row)
    kl = kl_of(found)
    found.pop("kl_target", None)
    if kl is not None:
        found["kl"] = kl
    if row.get("probe") == "bystander":
        found["task"] = "bystander"
    if row.get("family"):
        found["family"] = row["family"]
    return found | {"tokens": tokens, "erase_ms": row.get("erase_ms"), "n_erased": row.get("n_erased", 0),
                    "n_recomputed": row.get("n_recomputed", 0), "n_context": row.get("n_context", 0)}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    records: list[Row]
    rows: list[Row]

    def lengths(self) -> list[int]:
        return sorted({row["tokens"] for row in self.rows})

    def length(self, tokens: int) -> float:
        """The median length of the contexts that were asked to have so many tokens."""
        return median(row["n_context"] for row in self.rows if row["tokens"] == tokens)

    def size(self, tokens: int) -> str:
        return f"{self.length(tokens):,.0f}"

    def tasks(self) -> list[str]:
        return list(dict.fromkeys(row["task"] for row in self.rows))

    def methods(self) -> list[str]:
        return list(dict.fromkeys(row["method"] for row in self.rows))

    def everywhere(self) -> list[str]:
        """The methods that were measured at every length: means over the lengths are comparable among these alone."""
        return [method for method in self.methods()
                if {row["tokens"] for row in self.rows if row["method"] == method} == set(self.lengths())]  # fmt: skip

    def erased(self, task: str) -> dict[str, int]:
        """Tokens that were erased, by case: what every method says that erases."""
        return {row["id"]: row["n_erased"] for row in self.rows if row["task"] == task and row["n_erased"]}

    @cached_property
    def suffix(self) -> dict[str, int]:
        """Tokens behind the first erased one, by case: what `exact` computes again."""
        return {row["id"]: row["n_recomputed"] for row in self.rows if row["method"] == "exact"}

    def right(self, tasks: Iterable[str]) -> set[str]:
        """Cases of these tasks that `exact` answers right."""
        return {row["id"] for row in self.select(tasks, "exact") if row.get("exact_match")}

    @cached_property
    def _by_task_and_method(self) -> dict[tuple[str, str], list[Row]]:
        groups = defaultdict(list)
        for row in self.rows:
            groups[row["task"], row["method"]].append(row)
        return groups

    def select(self, tasks: Iterable[str], method: str, tokens: int | None = None) -> list[Row]:
        rows = [row for task in tasks for row in self._by_task_and_method.get((task, method), [])]
        return rows if tokens is None else [row for row in rows if row["tokens"] == tokens]

    def with_torch(self, outcomes: Iterable[Row]) -> Measured:
        """The same with `kl_torch` where PyTorch (`evaluate --per-case`) has run a case, too; along the same text as `kl`."""
        theirs = {(row["id"], row["method"]): kl_of(row) for row in outcomes}
        found = [(row, theirs.get((row["id"], row["method"]))) for row in self.rows]
        return Measured(self.records, [row if kl is None or "kl" not in row else row | {"kl_torch": kl} for row, kl in found])


def _rows_of(record: Row, outcomes: list[Row]) -> list[Row]:
    return [case_row(row, record["tokens"]) for row in outcomes]


def load(*sources: Path, planned: Callable[[Row], bool] = lambda record: True) -> Measured:
    """What folders and archives hold together; of a folder the parts that are `planned`, by their records."""
    records, rows = archive.collect(sources, _rows_of, ("model_sha256", "adapters", "max_tokens", "isa", "split"), planned)
    if not rows:
        raise MeasuredError(f"{', '.join(map(str, sources))}: no outcomes are there")
    return Measured(records, rows)


def builds_of(record: Row) -> dict[str, list[str]]:
    """What each build of the tool has measured of a part, methods by its SHA-256; empty where the record does not say."""
    builds: dict[str, list[str]] = defaultdict(list)
    for method, build in record.get("made_by", {}).items():
        builds[build].append(method)
    return dict(builds)


def mean_of(rows: Sequence[Row], metric: str) -> Figure | None:
    known = [row for row in rows if row.get(metric) is not None]
    return clustered([row[metric] for row in known], [row["context"] for row in known]) if known else None


def share_of(measured: Measured, rows: Sequence[Row]) -> Figure | None:
    """The share of the suffix that was computed again."""
    suffix = measured.suffix
    known = [row for row in rows if suffix.get(row["id"], 0) > 0]
    return (
        clustered([row["n_recomputed"] / suffix[row["id"]] for row in known], [row["context"] for row in known])
        if known
        else None
    )


def difference(rows: Sequence[Row], others: Sequence[Row], metric: str, factor: float = 1.0) -> Figure | None:
    """Mean of rows minus factor times others, case by case."""
    by_id = {row["id"]: row for row in others}
    pairs = [(row, by_id[row["id"]]) for row in rows if row["id"] in by_id]
    known = [(a, b) for a, b in pairs if a.get(metric) is not None and b.get(metric) is not None]
    if not known:
        return None
    return clustered([a[metric] - factor * b[metric] for a, b in known], [a["context"] for a, _ in known])


def rounded(figure: Figure) -> Figure:
    return {key: value if isinstance(value, int) else float(f"{value:.5g}") for key, value in figure.items()}


def groups_of(measured: Measured, tokens: int | None = None) -> list[Row]:
    """Figures of every method on every kind of case, of one length or over all."""
    found = []
    for group, tasks in GROUPS.items():
        for method in measured.methods():
            rows = measured.select(tasks, method, tokens)
            if rows:
                figures = {metric: mean_of(rows, metric) for metric in METRICS}
                found.append({"group": group, "method": method, "n": len(rows)}
                             | {metric: rounded(figure) for metric, figure in figures.items() if figure})  # fmt: skip
    return found


def figures_of(measured: Measured) -> list[Row]:
    found = []
    for tokens in measured.lengths():
        for task in measured.tasks():
            for method in measured.methods():
                rows = measured.select([task], method, tokens)
                if not rows:
                    continue
                figures = {metric: mean_of(rows, metric) for metric in METRICS}
                found.append({"tokens": tokens, "task": task, "method": method, "n": len(rows)}
                             | {metric: rounded(figure) for metric, figure in figures.items() if figure})  # fmt: skip
    return found


def kinds_of(measured: Measured) -> list[Row]:
    """Mean KL by kind of case, length (as `Measured.size` gives it) and method. Not rounded: a table does that, once."""
    found = []
    for group, tasks in GROUPS.items():
        for tokens in measured.lengths():
            for method in measured.methods():
                known = [row["kl"] for row in measured.select(tasks, method, tokens) if "kl" in row]
                if known:
                    found.append({"group": group, "tokens": measured.size(tokens), "method": method, "kl": fmean(known)})
    return found


def short_of(measured: Measured, methods: Sequence[str]) -> list[Row]:
    """Figures of the two commonest things to erase, a sentence and a value, in the shortest contexts; of methods that have both."""
    tokens = measured.lengths()[0]
    found = []
    for method in methods:
        sentence, value = (measured.select([task], method, tokens) for task in ("conflict", "redact"))
        if not sentence or not value:
            continue
        times = [row["erase_ms"] for row in sentence + value if row.get("erase_ms") is not None]
        figures = {"right": mean_of(sentence, "exact_match"), "said": mean_of(sentence, "leak"), "kl": mean_of(sentence, "kl"),
                   "value_said": mean_of(value, "leak"), "value_kl": mean_of(value, "kl")}  # fmt: skip
        found.append({"method": method} | {name: figure for name, figure in figures.items() if figure}
                     | {"ms": median(times) if times else None})  # fmt: skip
    return found
