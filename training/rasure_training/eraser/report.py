"""Tables, goals and the frontier plot of what `rasure_training.eraser.measure` has measured.

    python -m rasure_training.eraser.report FOLDER --out docs [--torch outcomes.jsonl]

Writes NAME.md, .json and .svg. Intervals are 95 % percentiles of a bootstrap that draws whole contexts; a difference
between two methods is taken case by case before. With --torch (what `evaluate --per-case` wrote for the same cases) the runtime's
figures are compared with PyTorch's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Any

from .evaluate import cell, clustered
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
LEARNED = ("steer:full", "steer", "bridge:16", "bridge:32", "bridge:64", "bridge:16+shift", "bridge:64+shift", "steer+repair:16")
METRICS = ("kl", "exact_match", "leak", "agree", "leak_minus_clean", "erase_ms")


class ReportError(Exception):
    """The folder does not hold what is needed; the message says what."""


Row = dict[str, Any]
Figure = dict[str, float | int]


def case_row(row: Row, tokens: int) -> Row:
    """One outcome of the runtime. Its KL is that along the right answer or the given text; along the exact run's own answer where
    nothing is known of what should be said. A bystander is one, whatever was erased."""
    found = outcome(row)
    if "kl_target" in found:
        found["kl"] = found.pop("kl_target")
    if row.get("probe") == "bystander":
        found["task"] = "bystander"
    return found | {"tokens": tokens, "erase_ms": row.get("erase_ms"), "n_erased": row.get("n_erased", 0),
                    "n_context": row.get("n_context", 0)}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    records: list[Row]
    rows: list[Row]

    def lengths(self) -> list[int]:
        return sorted({row["tokens"] for row in self.rows})

    def size(self, tokens: int) -> str:
        """The median length of the contexts that were asked to have so many tokens."""
        return f"{median(row['n_context'] for row in self.rows if row['tokens'] == tokens):,.0f}"

    def tasks(self) -> list[str]:
        return list(dict.fromkeys(row["task"] for row in self.rows))

    def methods(self) -> list[str]:
        return list(dict.fromkeys(row["method"] for row in self.rows))

    def erased(self, task: str) -> dict[str, int]:
        """Tokens that were erased, by case: what every method says that erases."""
        return {row["id"]: row["n_erased"] for row in self.rows if row["task"] == task and row["n_erased"]}

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


def load(folder: Path) -> Measured:
    records, rows = [], []
    for path in sorted(folder.glob("*.record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        records.append(record)
        outcomes = path.with_name(path.name.replace(".record.json", ".outcomes.jsonl"))
        rows += [case_row(json.loads(line), record["tokens"]) for line in outcomes.read_text(encoding="utf-8").splitlines()]
    if not rows:
        raise ReportError(f"{folder}: no outcomes are there")
    for key in ("model_sha256", "adapters", "max_tokens", "split"):
        if len({json.dumps(record[key], sort_keys=True) for record in records}) > 1:
            raise ReportError(f"{folder}: the parts were not all made with the same {key}")
    return Measured(records, rows)


# ------------------------------------------------------------------------------------------------- figures


def mean_of(rows: Sequence[Row], metric: str) -> Figure | None:
    known = [row for row in rows if row.get(metric) is not None]
    return clustered([row[metric] for row in known], [row["context"] for row in known]) if known else None


def difference(rows: Sequence[Row], others: Sequence[Row], metric: str, factor: float = 1.0) -> Figure | None:
    """Mean of rows minus factor times others, case by case."""
    by_id = {row["id"]: row for row in others}
    pairs = [(row, by_id[row["id"]]) for row in rows if row["id"] in by_id]
    known = [(a, b) for a, b in pairs if a.get(metric) is not None and b.get(metric) is not None]
    if not known:
        return None
    return clustered([a[metric] - factor * b[metric] for a, b in known], [a["context"] for a, _ in known])


def task_table(measured: Measured, task: str) -> list[str]:
    """Methods down, KL by length across, then what is pooled over the lengths."""
    lengths = [tokens for tokens in measured.lengths() if any(r["task"] == task and r["tokens"] == tokens for r in measured.rows)]
    lines = [
        "| method | " + " | ".join(f"KL, {measured.size(tokens)} tokens" for tokens in lengths)
        + " | exact match | leak | log P(erased) - clean | n |",
        "|---" * (len(lengths) + 5) + "|",
    ]  # fmt: skip
    for method in measured.methods():
        rows = measured.select([task], method)
        if not rows:
            continue
        columns = [cell(mean_of([row for row in rows if row["tokens"] == tokens], "kl"), 4) for tokens in lengths]
        columns += [cell(mean_of(rows, "exact_match"), 3), cell(mean_of(rows, "leak"), 3)]
        columns += [cell(mean_of(rows, "leak_minus_clean"), 2), str(len(rows))]
        lines.append(f"| `{method}` | " + " | ".join(columns) + " |")
    return lines


def groups_of(measured: Measured) -> list[Row]:
    """Figures of every method on every kind of case, over all lengths."""
    found = []
    for group, tasks in GROUPS.items():
        for method in measured.methods():
            rows = measured.select(tasks, method)
            if rows:
                figures = {metric: mean_of(rows, metric) for metric in METRICS}
                found.append({"group": group, "method": method, "n": len(rows)}
                             | {metric: rounded(figure) for metric, figure in figures.items() if figure})  # fmt: skip
    return found


def group_table(groups: Sequence[Row], methods: Sequence[str] | None = None) -> list[str]:
    """Methods down (all, or those named), KL on each kind of case across."""
    names = list(dict.fromkeys(row["group"] for row in groups))
    by = {(row["group"], row["method"]): row for row in groups}
    lines = ["| method | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for method in methods or dict.fromkeys(row["method"] for row in groups):
        cells = [cell(by.get((name, method), {}).get("kl"), 4) for name in names]
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return lines


SHORT_LIST = ("none", "exact", "drop", "shift", "repair:16", "steer", "bridge:16+shift")


def short_table(measured: Measured) -> list[str]:
    """What a first look needs: the two commonest things to erase, the methods that differ most, the shortest contexts."""
    tokens = measured.lengths()[0]
    lines = [
        "| method | a sentence that another contradicts: right answers | says the erased value | KL to exact | a value inside a "
        "sentence: says it | KL to exact | erase, ms (median) |",
        "|---" * 7 + "|",
    ]  # fmt: skip
    for method in SHORT_LIST:
        sentence, value = (measured.select([task], method, tokens) for task in ("conflict", "redact"))
        if not sentence or not value:
            continue
        times = [row["erase_ms"] for row in sentence + value if row["erase_ms"] is not None]
        cells = [cell(mean_of(sentence, metric), digits) for metric, digits in (("exact_match", 2), ("leak", 2), ("kl", 3))]
        cells += [cell(mean_of(value, "leak"), 2), cell(mean_of(value, "kl"), 3), f"{median(times):.1f}" if times else "-"]
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return lines


SPAN_BINS = ((1, 4), (5, 16), (17, 64), (65, 256), (257, 1024))  # tokens; training ends with the fourth


def span_table(measured: Measured) -> list[str]:
    """Methods down, KL of prose by the length of the erased span across."""
    erased = measured.erased("prose")
    bins = {f"{low} to {high:,} tokens": {case for case, n in erased.items() if low <= n <= high} for low, high in SPAN_BINS}
    bins = {name: ids for name, ids in bins.items() if ids}
    lines = ["| method | " + " | ".join(f"{name}, n = {len(ids)}" for name, ids in bins.items()) + " |"]
    lines.append("|---" * (len(bins) + 1) + "|")
    for method in measured.methods():
        rows = measured.select(["prose"], method)
        cells = [cell(mean_of([row for row in rows if row["id"] in ids], "kl"), 4) for ids in bins.values()]
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return lines


def free_table(measured: Measured) -> list[str]:
    """Questions on real passages, answered freely: agreement and KL on all cases, exact match where `exact` answers right."""
    tasks = [task for task in measured.tasks() if task.endswith("/free")]
    right = measured.right(tasks)
    lines = ["| method | KL to exact | same answer as exact | leak | n | right where exact is right | n |", "|---" * 7 + "|"]
    for method in measured.methods():
        rows = measured.select(tasks, method)
        answered = [row for row in rows if row["id"] in right]
        columns = [cell(mean_of(rows, "kl"), 4), cell(mean_of(rows, "agree"), 3), cell(mean_of(rows, "leak"), 3), str(len(rows))]
        columns += [cell(mean_of(answered, "exact_match"), 3), str(len(answered))]
        lines.append(f"| `{method}` | " + " | ".join(columns) + " |")
    return lines


# Exact match in the paper (arXiv 2606.17034 v1): figure 3 at these lengths, digitised, and the mean of its three QA sets (table 1
# and figure 4). Its model has 8 billion parameters.
PAPER_TOKENS = ("1K", "2K", "4K", "8K")
PAPER = {
    "exact": ((1.0, 1.0, 1.0, 1.0), 0.988),
    "steer:full": ((0.99, 1.0, 1.0, 1.0), 0.879),
    "repair:15%": ((0.20, 0.22, 0.15, 0.21), 0.803),
    "shift": ((0.01, 0.00, 0.01, 0.00), 0.617),
}


def protocol_table(measured: Measured) -> list[str]:
    """The paper's two tasks by its measure: exact match among the cases that `exact` answers right. Ours, then the paper's."""
    tasks, lengths = ("conflict", "distractor"), measured.lengths()
    right = measured.right(tasks)
    lines = [
        "| method | " + " | ".join(f"conflict, {measured.size(tokens)}" for tokens in lengths) + " | distractor "
        "| distractor minus `drop` | " + " | ".join(f"paper's NIAH, {tokens}" for tokens in PAPER_TOKENS) + " | paper's QA |",
        "|---" * (len(lengths) + len(PAPER_TOKENS) + 4) + "|",
    ]  # fmt: skip

    def answered(task: str, method: str, tokens: int | None = None) -> list[Row]:
        return [row for row in measured.select([task], method, tokens) if row["id"] in right]

    for method in ("exact", "steer:full", "steer", "bridge:16", "repair:15%", "drop", "shift"):
        cells = [cell(mean_of(answered("conflict", method, tokens), "exact_match"), 2) for tokens in lengths]
        cells.append(cell(mean_of(answered("distractor", method), "exact_match"), 3))
        cells.append(cell(difference(answered("distractor", method), answered("distractor", "drop"), "exact_match"), 3))
        niah, qa = PAPER.get(method, ((), None))
        cells += [f"{value:.2f}" for value in niah] or ["-"] * len(PAPER_TOKENS)
        cells.append("-" if qa is None else f"{qa:.3f}")
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return lines


# --------------------------------------------------------------------------------------------------- goals


@dataclass(frozen=True)
class Goal:
    text: str
    wanted: str
    found: str
    met: bool


def _ratio(measured: Measured, tasks: Sequence[str], method: str, other: str) -> float | None:
    a, b = mean_of(measured.select(tasks, method), "kl"), mean_of(measured.select(tasks, other), "kl")
    return a["mean"] / b["mean"] if a and b and b["mean"] > 0 else None


def ratio_goal(measured: Measured, text: str, tasks: Sequence[str], method: str, other: str, most: float) -> Goal | None:
    """KL of `method` at most `most` times that of `other`; the interval is that of KL - most x other."""
    ratio = _ratio(measured, tasks, method, other)
    margin = difference(measured.select(tasks, method), measured.select(tasks, other), "kl", most)
    if ratio is None or margin is None:
        return None
    return Goal(
        f"{text}: `{method}` against `{other}`", f"<= {most:g}", f"{ratio:.2f}; KL - {most:g} x other {cell(margin, 4)}",
        ratio <= most,
    )  # fmt: skip


def best_cheap(measured: Measured, tasks: Sequence[str], tokens: int) -> Goal | None:
    """Of all methods below exact, that with the most right answers."""
    exact = measured.select(tasks, "exact", tokens)
    found = []
    for method in measured.methods():
        gap = difference(measured.select(tasks, method, tokens), exact, "exact_match")
        if method not in ("exact", "none") and gap:
            found.append((gap["mean"], method, gap))
    if not found:
        return None
    _, method, gap = max(found, key=lambda item: item[0])
    return Goal(
        f"{tasks[0]}, {measured.size(tokens)} tokens: exact match of the best method, `{method}`, minus `exact`", ">= -0.01", cell(gap, 3),
        gap["mean"] >= -0.01,
    )  # fmt: skip


def leak_goals(measured: Measured, method: str) -> list[Goal]:
    rows = [row for row in measured.rows if row["method"] == method]
    mean = mean_of(rows, "leak_minus_clean")
    goals = []
    if mean:
        text = f"`{method}`: log P(erased value) minus clean, all tasks"
        goals.append(Goal(text, "within 0.3", cell(mean, 2), abs(mean["mean"]) <= 0.3))
    above = []
    for task in measured.tasks():
        gap = difference(measured.select([task], method), measured.select([task], "drop"), "leak_minus_clean")
        if gap and gap["low"] > 0:
            above.append(f"{task} {cell(gap, 2)}")
    goals.append(Goal(f"`{method}`: tasks with log P(erased value) above `drop`", "none", "; ".join(above) or "none", not above))
    return goals


def goals(measured: Measured, default: str) -> list[Goal]:
    found: list[Goal | None] = []
    for task in ("conflict", "distractor", "bystander"):
        found += [best_cheap(measured, [task], tokens) for tokens in measured.lengths()]
    found.append(ratio_goal(measured, "redaction", ["redact"], "bridge:16", "repair:16", 0.5))
    found.append(ratio_goal(measured, "redaction", ["redact"], "bridge:16", "drop", 0.25))
    for what in ("stale then fresh, answers", "stale then fresh, reciting"):
        tasks = GROUPS[what]
        means = {method: mean_of(measured.select(tasks, method), "kl") for method in LEARNED}
        known = {method: figure["mean"] for method, figure in means.items() if figure}
        if known:
            best = min(known, key=lambda method: known[method])
            found.append(ratio_goal(measured, what, tasks, best, "drop", 0.4))
            found.append(ratio_goal(measured, what, tasks, best, "repair:15%", 1.0))
    for task in ("prose", "bystander"):
        found.append(ratio_goal(measured, task, [task], "bridge:16+shift", "shift", 1.0))
    found += leak_goals(measured, default)
    return [goal for goal in found if goal]


def goal_table(found: Sequence[Goal]) -> list[str]:
    lines = ["| what | goal | measured | |", "|---|---|---|---|"]
    return lines + [f"| {g.text} | {g.wanted} | {g.found} | {'met' if g.met else 'missed'} |" for g in found]


# ----------------------------------------------------------------------------------------- against PyTorch


def torch_table(measured: Measured, path: Path) -> tuple[list[str], list[Row]]:
    """KL of the runtime minus KL of PyTorch, case by case, by task and method."""
    theirs: dict[tuple[str, str], Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        theirs[row["id"], row["method"]] = row
    groups: dict[tuple[str, str], list[tuple[Row, float]]] = defaultdict(list)
    for row in measured.rows:
        other = theirs.get((row["id"], row["method"]))
        if other is None or "kl" not in row:
            continue
        kl = other.get("kl_target", other.get("kl"))
        if kl is not None:
            groups[row["task"], row["method"]].append((row, kl))
    lines = ["| task | method | n | runtime | PyTorch | difference |", "|---|---|---|---|---|---|"]
    figures = []
    for (task, method), pairs in groups.items():
        contexts = [row["context"] for row, _ in pairs]
        gap = clustered([row["kl"] - kl for row, kl in pairs], contexts)
        ours, torch = fmean(row["kl"] for row, _ in pairs), fmean(kl for _, kl in pairs)
        lines.append(f"| {task} | `{method}` | {len(pairs)} | {ours:.4f} | {torch:.4f} | {cell(gap, 4)} |")
        figures.append({"task": task, "method": method, "runtime": ours, "torch": torch, "difference": gap})
    return lines, figures


# -------------------------------------------------------------------------------------------------- the plot


MARKERS = "os^v<>DPX*dhp8H|"


def _colour(method: str) -> str:
    """By family."""
    return "tab:orange" if "bridge" in method else "tab:green" if "steer" in method else "tab:blue"


def draw(measured: Measured, path: Path) -> None:
    """KL against cost, one panel for each kind of cases."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "rasure"
    from matplotlib import pyplot as plt

    names = [name for name, tasks in GROUPS.items() if any(row["task"] in tasks for row in measured.rows)]
    columns = 4
    lines = (len(names) + columns - 1) // columns
    figure, axes = plt.subplots(lines, columns, figsize=(4 * columns, 3.6 * lines), layout="constrained", squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    looks = {method: (_colour(method), marker) for method, marker in zip(measured.methods(), MARKERS * 2, strict=False)}
    seen: dict[str, Any] = {}
    for axis, name in zip(axes.flat, names, strict=False):
        for method in measured.methods():
            rows = measured.select(GROUPS[name], method)
            kl = mean_of(rows, "kl")
            times = [row["erase_ms"] for row in rows if row["erase_ms"] is not None]
            if method in ("none", "exact") or kl is None or not times:
                continue
            spread = [[max(0.0, kl["mean"] - kl["low"])], [max(0.0, kl["high"] - kl["mean"])]]
            colour, marker = looks[method]
            seen[method] = axis.errorbar(median(times), kl["mean"], yerr=spread, marker=marker, markersize=6, color=colour,
                                         markerfacecolor="white", linewidth=0.8, linestyle="none")  # fmt: skip
        nothing = mean_of(measured.select(GROUPS[name], "none"), "kl")
        if nothing:
            axis.axhline(nothing["mean"], linestyle="--", linewidth=0.8, color="gray")
            axis.text(0.99, nothing["mean"], "nothing erased", ha="right", va="bottom", fontsize=6, color="gray",
                      transform=axis.get_yaxis_transform())  # fmt: skip
        axis.set(xscale="log", yscale="log", title=name, xlabel="erase, ms, median")
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("KL(exact || method), nats")
    figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=8, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


# ------------------------------------------------------------------------------------------------ documents


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


def rounded(figure: Figure) -> Figure:
    return {key: value if isinstance(value, int) else float(f"{value:.5g}") for key, value in figure.items()}


def heading(measured: Measured, groups: Sequence[Row], name: str) -> list[str]:
    record = measured.records[0]
    contexts = sum(part["contexts"] for part in measured.records)
    comparisons = len(measured.tasks()) * len(measured.lengths()) * (len(measured.methods()) - 2)
    adapters = ", ".join(f"`{name}` (SHA-256 `{digest[:16]}...`)" for name, digest in record["adapters"].items())
    return [
        "# Quality of erases",
        "",
        "Made by `python -m rasure_training.eraser.measure` and `.report`; all figures, with the number of contexts behind each, "
        f"in `{name}.json`.",
        "",
        f"The {record['split']} split, {contexts:,} contexts of about {', '.join(measured.size(n) for n in measured.lengths())} "
        f"tokens, {len({(r['id'], r['tokens']) for r in measured.rows}):,} cases; answers "
        f"of up to {record['max_tokens']} tokens, greedy; int8 KV cache; adapters {adapters}. KL(exact || method) in nats: the "
        "mean along the right answer, or along the text that is to be recited or goes on; along the answer after an exact erase "
        "where the erased thing itself is asked for. Brackets are 95 % intervals from a bootstrap over contexts. They are not "
        f"corrected for the number of comparisons, which is {comparisons:,} (methods by tasks by lengths). In the picture, medians of "
        "the erase times of these runs, of one thread each.",
        "",
        f"![KL against cost]({name}.svg)",
        "",
        "## By kind of case",
        "",
        *group_table(groups),
    ]


def details(measured: Measured, found: Sequence[Goal], default: str, torch: list[str]) -> list[str]:
    lines = ["", f"## In short, contexts of {measured.size(measured.lengths()[0])} tokens", "", *short_table(measured)]
    if any(task.endswith("/free") for task in measured.tasks()):
        lines += ["", "## Natural Questions, answered freely", "", *free_table(measured)]
    lines += ["", "## The protocol of KVEraser", "", *protocol_table(measured)]
    lines += ["", "## Goals", "", f"The default whose leaks are looked at is `{default}`.", "", *goal_table(found)]
    for task in measured.tasks():
        lines += ["", f"## {task}", "", *task_table(measured, task)]
    if torch:
        lines += ["", "## Against PyTorch", "", "The same cases and adapters; bfloat16 weights, float32 KV.", "", *torch]
    return lines


def report(args: argparse.Namespace) -> None:
    measured = load(args.folder)
    torch_lines, torch_figures = torch_table(measured, args.torch) if args.torch else ([], [])
    found = [] if args.brief else goals(measured, args.default)
    groups = groups_of(measured)
    lines = heading(measured, groups, args.name)
    if measured.erased("prose"):
        lines += ["", "## Prose, by length of the span", "", *span_table(measured)]
    if not args.brief:
        lines += details(measured, found, args.default, torch_lines)
    (args.out / f"{args.name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    keys = ("split", "seed", "max_tokens", "methods", "model_sha256", "adapters")
    data = {key: measured.records[0][key] for key in keys} | {
        "sizes": [measured.size(tokens) for tokens in measured.lengths()],
        "parts": [{key: part[key] for key in ("task", "tokens", "contexts", "cases_sha256", "rasure_sha256", "seconds")}
                  for part in measured.records],
        "goals": [vars(goal) for goal in found],
        "groups": groups,
        "figures": figures_of(measured),
        "torch": torch_figures,
    }  # fmt: skip
    compact(args.out / f"{args.name}.json", data)
    draw(measured, args.out / f"{args.name}.svg")


def compact(path: Path, data: Row) -> None:
    """JSON with one line for each item of a list."""
    fields = []
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            items = ",\n".join(f" {json.dumps(item, ensure_ascii=False)}" for item in value)
            fields.append(f"{json.dumps(key)}: [\n{items}\n]")
        else:
            fields.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    path.write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what measure --out named")
    parser.add_argument("--out", type=Path, required=True, help="where the three files go")
    parser.add_argument("--name", default="erase_quality", help="of the three files (default: %(default)s)")
    parser.add_argument("--brief", action="store_true", help="kinds of cases only: no goals, no tables of single tasks")
    parser.add_argument("--default", default="bridge:16+shift", help="the method whose leaks count (default: %(default)s)")
    parser.add_argument("--torch", type=Path, help="outcomes of `evaluate --per-case` for some of the same cases")
    args = parser.parse_args()
    try:
        report(args)
    except (OSError, ValueError, KeyError, ReportError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.name}.md, .json and .svg to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
