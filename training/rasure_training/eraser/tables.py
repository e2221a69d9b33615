"""Tables of what was measured, as lines of Markdown. Brackets are 95 % intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from statistics import fmean

from ..figures import clustered
from ..pages.cells import cell, head, line
from .facts import KNOWN_FAMILIES, NEW_FAMILIES
from .measured import GROUPS, Figure, Measured, Row, difference, mean_of, share_of


def task_table(measured: Measured, task: str) -> list[str]:
    """Methods down, KL by length across, then what is pooled over the lengths."""
    lengths = [tokens for tokens in measured.lengths() if any(r["task"] == task and r["tokens"] == tokens for r in measured.rows)]
    lines = head(["method", *(f"KL, {measured.size(tokens)} tokens" for tokens in lengths), "exact match", "leak",
                  "log P(erased) - clean", "n"])  # fmt: skip
    for method in measured.methods():
        rows = measured.select([task], method)
        if not rows:
            continue
        columns = [cell(mean_of([row for row in rows if row["tokens"] == tokens], "kl"), 4) for tokens in lengths]
        columns += [cell(mean_of(rows, "exact_match"), 3), cell(mean_of(rows, "leak"), 3)]
        columns += [cell(mean_of(rows, "leak_minus_clean"), 2), str(len(rows))]
        lines.append(line([f"`{method}`", *columns]))
    return lines


def group_table(groups: Sequence[Row], methods: Sequence[str] | None = None) -> list[str]:
    """Methods down (all, or those named), KL on each kind of case across."""
    names = list(dict.fromkeys(row["group"] for row in groups))
    by = {(row["group"], row["method"]): row for row in groups}
    lines = head(["method", *names])
    for method in methods or dict.fromkeys(row["method"] for row in groups):
        cells = [cell(by.get((name, method), {}).get("kl"), 4) for name in names]
        lines.append(line([f"`{method}`", *cells]))
    return lines


def gain_table(measured: Measured) -> list[str]:
    """Methods down: KL minus that of `drop`, case by case, on each kind of case. Below zero is nearer to exact. A method that was
    not measured at every length is left out: its mean would be of other cases."""
    names = [name for name, tasks in GROUPS.items() if measured.select(tasks, "drop")]
    lines = head(["method", *names])
    for method in measured.everywhere():
        if method in ("none", "exact", "drop"):
            continue
        cells = [cell(difference(measured.select(GROUPS[name], method), measured.select(GROUPS[name], "drop"), "kl"), 4)
                 for name in names]  # fmt: skip
        lines.append(line([f"`{method}`", *cells]))
    return lines


def work_table(measured: Measured, method: str) -> list[str]:
    """Kinds of case down, what a method computes again by length across: tokens, and their share of the suffix."""
    lengths = measured.lengths()
    titles = [(f"{measured.size(tokens)} tokens: encoded again", "of the suffix") for tokens in lengths]
    lines = head(["kind of case", *chain.from_iterable(titles)])
    for name, tasks in GROUPS.items():
        cells = []
        for tokens in lengths:
            rows = measured.select(tasks, method, tokens)
            cells += [cell(mean_of(rows, "n_recomputed"), 0), cell(share_of(measured, rows), 3)]
        if set(cells) != {"-"}:
            lines.append(line([name, *cells]))
    return lines


SPAN_BINS = ((1, 4), (5, 16), (17, 64), (65, 256), (257, 1024))  # tokens; training ends with the fourth


def by_span(measured: Measured, method: str) -> dict[str, Figure | None]:
    """KL of prose by the length of the erased span."""
    erased, rows = measured.erased("prose"), measured.select(["prose"], method)
    found = {}
    for low, high in SPAN_BINS:
        ids = {case for case, n in erased.items() if low <= n <= high}
        if ids:
            found[f"{low} to {high:,} tokens, n = {len(ids)}"] = mean_of([row for row in rows if row["id"] in ids], "kl")
    return found


def span_table(measured: Measured) -> list[str]:
    """Methods down, KL of prose by the length of the erased span across."""
    found = {method: by_span(measured, method) for method in measured.everywhere()}
    lines = head(["method", *next(iter(found.values()))])
    return lines + [line([f"`{method}`", *(cell(kl, 4) for kl in spans.values())]) for method, spans in found.items()]


def family_table(measured: Measured) -> list[str]:
    """Methods down, KL of sentences and of values across: of facts whose family training has in other words, and of families that
    it has not."""
    columns = [(name, families) for name in ("whole sentences", "values") for families in (KNOWN_FAMILIES, NEW_FAMILIES)]

    def select(name: str, families: frozenset[str], method: str) -> list[Row]:
        return [row for row in measured.select(GROUPS[name], method) if row.get("family") in families]

    methods = measured.everywhere()
    titles = [f"{name}, families of {'training' if families is KNOWN_FAMILIES else 'the test split alone'}, "
              f"n = {len(select(name, families, methods[0])):,}" for name, families in columns]  # fmt: skip
    return head(["method", *titles]) + [
        line([f"`{method}`", *(cell(mean_of(select(*column, method), "kl"), 4) for column in columns)]) for method in methods
    ]


FEWEST_RIGHT = 30  # right answers of `exact` below which a share of them says nothing


def free_table(measured: Measured) -> list[str]:
    """Questions on real passages, answered freely: agreement and KL on all cases, exact match where `exact` answers right, if it
    does often enough."""
    tasks = [task for task in measured.tasks() if task.endswith("/free")]
    right = measured.right(tasks)
    enough = len(right) >= FEWEST_RIGHT
    lines = []
    if not enough:
        lines = [f"No exact match: of {len(measured.select(tasks, 'exact')):,} cases `exact` itself answers {len(right)} with the words "
                 f"of the data set, in the up to {measured.records[0]['max_tokens']} tokens that this model says, so that there is "
                 "nothing for a method to lose. What is left to compare is the answer that `exact` gives, right or wrong.", ""]  # fmt: skip
    lines += head(["method", "KL to exact", "same answer as exact", "leak", "n", *(["right where exact is right", "n"] if enough else [])])
    for method in measured.methods():
        rows = measured.select(tasks, method)
        columns = [cell(mean_of(rows, "kl"), 4), cell(mean_of(rows, "agree"), 3), cell(mean_of(rows, "leak"), 3), str(len(rows))]
        if enough:
            answered = [row for row in rows if row["id"] in right]
            columns += [cell(mean_of(answered, "exact_match"), 3), str(len(answered))]
        lines.append(line([f"`{method}`", *columns]))
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
    lines = head(["method", *(f"conflict, {measured.size(tokens)}" for tokens in lengths), "distractor", "distractor minus `drop`",
                  *(f"paper's NIAH, {tokens}" for tokens in PAPER_TOKENS), "paper's QA"])  # fmt: skip

    def answered(task: str, method: str, tokens: int | None = None) -> list[Row]:
        return [row for row in measured.select([task], method, tokens) if row["id"] in right]

    for method in ("exact", "steer:full", "steer", "bridge:16", "adaptive", "repair:15%", "drop", "shift"):
        cells = [cell(mean_of(answered("conflict", method, tokens), "exact_match"), 2) for tokens in lengths]
        cells.append(cell(mean_of(answered("distractor", method), "exact_match"), 3))
        cells.append(cell(difference(answered("distractor", method), answered("distractor", "drop"), "exact_match"), 3))
        niah, qa = PAPER.get(method, ((), None))
        cells += [f"{value:.2f}" for value in niah] or ["-"] * len(PAPER_TOKENS)
        cells.append("-" if qa is None else f"{qa:.3f}")
        lines.append(line([f"`{method}`", *cells]))
    return lines


def torch_table(measured: Measured) -> tuple[list[str], list[Row]]:
    """KL of the runtime minus KL of PyTorch, case by case, by task and method."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in measured.rows:
        if "kl_torch" in row:
            groups[row["task"], row["method"]].append(row)
    lines = head(["task", "method", "n", "runtime", "PyTorch", "difference"])
    figures = []
    for (task, method), rows in groups.items():
        gap = clustered([row["kl"] - row["kl_torch"] for row in rows], [row["context"] for row in rows])
        ours, torch = fmean(row["kl"] for row in rows), fmean(row["kl_torch"] for row in rows)
        lines.append(line([task, f"`{method}`", str(len(rows)), f"{ours:.4f}", f"{torch:.4f}", cell(gap, 4)]))
        figures.append({"task": task, "method": method, "runtime": ours, "torch": torch, "difference": gap})
    return lines, figures
