"""Tables of what was measured, as lines of Markdown. Brackets are 95 % intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from ..pages.cells import cell, table
from .arms import Arm
from .critical import Curve, shown_with_interval
from .measured import (
    FULL,
    TEXT,
    Figure,
    Measured,
    Row,
    bucket_at,
    budget_place,
    difference,
    mean_of,
    nll_increase,
    number_of,
    perplexity_increase_at,
    plain_mean,
)

LEAST_TEXTS = 5  # of which a bucket of positions is told


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def percent_cell(figure: Figure | None, digits: int) -> str:
    """As `cell`, in per cent."""
    return cell(figure and {key: 100 * figure[key] for key in ("mean", "low", "high")}, digits)


def eligibility_table(measured: Measured) -> list[str]:
    """Tasks down, lengths across: what the full cache answers. In bold where the task counts."""
    rows = []
    for task in measured.tasks():
        cells = []
        for tokens in measured.lengths():
            found = mean_of(measured.select(FULL, "", [task], tokens), "score")
            text = f"{cell(found, 2)}, n = {found['n']}" if found else "-"
            cells.append(f"**{text}**" if (task, tokens) in measured.eligible else text)
        rows.append([task, *cells])
    return table(["task", *(f"{measured.size(tokens)} tokens" for tokens in measured.lengths())], rows)


def score_table(measured: Measured, budget: str) -> list[str]:
    """Arms down, tasks across: the share of right answers; then that of recent items, and the bytes."""
    rows = []
    tasks = measured.eligible_tasks()
    full = measured.select_eligible(FULL, "", recent=None)
    for arm in measured.arms():
        at = "" if arm == FULL else budget
        mine = measured.select_eligible(arm, at, recent=None)
        if not mine:
            continue
        scores = [mean_of(measured.select_eligible(arm, at, task), "score") for task in tasks]
        known = [score["mean"] for score in scores if score]
        recent = mean_of([row for row in mine if row["recent"]], "score")
        rows.append([f"`{arm}`", *(cell(score, 2) for score in scores), f"{fmean(known):.2f}", f"{min(known):.2f}",
                     f"{recent['mean']:.2f} ({recent['n']})" if recent else "-",
                     _percent(share_of_bytes(mine, full)), _percent(plain_mean(mine, "footprint"))])  # fmt: skip
    return table(["arm", *tasks, "mean", "worst", "recent (n)", "bytes", "KV footprint"], rows)


def share_of_bytes(rows: Sequence[Row], others: Sequence[Row]) -> float | None:
    """Of the others', over the lengths that the arm took."""
    lengths = {row["tokens"] for row in rows}
    mine, whole = plain_mean(rows, "kv_bytes"), plain_mean([row for row in others if row["tokens"] in lengths], "kv_bytes")
    return mine / whole if mine is not None and whole else None


def difference_table(measured: Measured, arm: str, others: Sequence[str], budget: str) -> list[str]:
    """Others down, tasks across: the arm's share of right answers minus theirs, case by case."""
    tasks = measured.eligible_tasks()
    mine = {task: measured.select_eligible(arm, budget, task) for task in tasks}
    rows = [[f"`{arm}` - `{other}`",
             *(cell(difference(mine[task], measured.select_eligible(other, budget, task)), 3) for task in tasks)]
            for other in others if measured.select_eligible(other, budget)]  # fmt: skip
    return table(["", *tasks], rows)


def nll_table(measured: Measured) -> list[str]:
    """Arms down, budgets across: increase of the NLL over the full cache's, all lengths."""
    full = measured.select(FULL, "", [TEXT])
    rows = []
    for arm in measured.arms():
        if arm == FULL:
            continue
        cells = []
        for budget in measured.budgets():
            gap = nll_increase(measured.select(arm, budget, [TEXT]), full)
            cells.append(percent_cell(gap, 2))
        rows.append([f"`{arm}`", *cells])
    return table(["arm", *(f"{budget}, %" for budget in measured.budgets())], rows)


def bucket_table(measured: Measured, points: Sequence[tuple[str, str]], tokens: int) -> list[str]:
    """Arms at budgets down, positions across: the full cache's NLL, then the increase of perplexity over it, at one length. A
    column for each bucket that enough texts reach; the last of a text's may be a part of one."""
    full = measured.select(FULL, "", [TEXT], tokens)
    begins = sorted({begin for row in full for begin, _, _, _ in row["nll"]})
    reached = {begin: [bucket for row in full if (bucket := bucket_at(row, begin))] for begin in begins}
    reached = {begin: buckets for begin, buckets in reached.items() if len(buckets) >= LEAST_TEXTS}
    titles = [f"{begin:,} to {max(end for _, end, _, _ in buckets):,}, n = {len(buckets)}" for begin, buckets in reached.items()]
    nll = [sum(n * nll for _, _, n, nll in buckets) / sum(n for _, _, n, _ in buckets) for buckets in reached.values()]
    rows = [[f"`{FULL}`: NLL", *(f"{value:.3f}" for value in nll)]]
    for arm, budget in points:
        texts = measured.select(arm, budget, [TEXT], tokens)
        if texts:
            rows.append([f"`{arm}`, {budget}: %",
                         *(percent_cell(perplexity_increase_at(texts, full, begin), 2) for begin in reached)])  # fmt: skip
    return table(["arm", *titles], rows)


def question_table(measured: Measured) -> list[str]:
    """Arms at budgets down, tasks with several questions and the numbers of these across: the share of right answers."""
    numbers = {task: sorted({number_of(row) for row in measured.select_eligible(FULL, "", task)})
               for task in measured.eligible_tasks()}  # fmt: skip
    columns = [(task, number) for task in numbers if len(numbers[task]) > 1 for number in numbers[task]]
    rows = []
    for arm in measured.arms() if columns else []:
        for budget in [""] if arm == FULL else measured.budgets():
            mine = [[row for row in measured.select_eligible(arm, budget, task) if number_of(row) == number]
                    for task, number in columns]  # fmt: skip
            if any(mine):
                rows.append([f"`{arm}`", budget, *(cell(mean_of(some, "score"), 2) for some in mine)])
    return table(["arm", "bytes", *(f"{task}, question {number + 1}" for task, number in columns)], rows) if columns else []


def critical_table(measured: Measured) -> list[str]:
    """Arms down, tasks across: the critical KV footprint, over what counts."""
    tasks = measured.eligible_tasks()
    rows = [[f"`{arm}`", *(_critical(measured, arm, task) for task in tasks)] for arm in measured.arms() if arm != FULL]
    return table(["arm", *tasks], rows)


def point_rows(measured: Measured, arm: str, task: str) -> list[list[Row]]:
    """Outcomes by budget, over what counts. An arm that refuses a budget at some length has none there."""
    lengths = {tokens for name, tokens in measured.eligible if name == task}
    points = [measured.select_eligible(arm, budget, task) for budget in (measured.budgets() if arm != FULL else [""])]
    return [rows for rows in points if {row["tokens"] for row in rows} == lengths]


def score_points(measured: Measured, arm: str, task: str) -> list[tuple[float, float]]:
    """(KV footprint, score) by budget."""
    return [(fmean(row["footprint"] for row in rows), fmean(row["score"] for row in rows))
            for rows in point_rows(measured, arm, task)]  # fmt: skip


def curve_of(measured: Measured, arm: str, task: str) -> Curve | None:
    points = point_rows(measured, arm, task)
    if not points:
        return None
    (full,) = point_rows(measured, FULL, task)
    contexts = sorted({row["context"] for row in full})

    def sums(rows: Sequence[Row], key: str) -> np.ndarray:
        total = dict.fromkeys(contexts, 0.0)
        for row in rows:
            total[row["context"]] += row[key]
        return np.array(list(total.values()))

    counts = Counter(row["context"] for row in full)
    footprints, scores = (np.stack([sums(rows, key) for rows in points], 1) for key in ("footprint", "score"))
    return Curve(np.array([counts[context] for context in contexts]), sums(full, "score"), footprints, scores)


def _critical(measured: Measured, arm: str, task: str) -> str:
    curve = curve_of(measured, arm, task)
    return shown_with_interval(curve) if curve else "-"


def cost_table(measured: Measured, budget: str) -> list[str]:
    """Arms down, lengths across: time of the policy as a share of the time of reading a text. Of questions that cannot be said: the
    policy's time has there what is behind the context, whose reading alone is timed."""
    rows = []
    for arm in measured.arms():
        if arm == FULL:
            continue
        cells = []
        for tokens in measured.lengths():
            mine = measured.select(arm, budget, [TEXT], tokens)
            cells.append(_percent(sum(r["policy_ms"] for r in mine) / sum(r["read_ms"] for r in mine), 2) if mine else "-")
        rows.append([f"`{arm}`", *cells])
    return table(["arm", *(f"texts of {measured.text_size(tokens)} tokens" for tokens in measured.lengths())], rows)


def arms_table(measured: Measured, arms: Sequence[Arm]) -> list[str]:
    """Arms down, budgets across: the lengths at which an arm was measured there, and by which tools; nothing where its plan has no
    such budget."""
    budgets = sorted({budget for arm in arms for budget in arm.budgets if budget}, key=budget_place)
    rows = []
    for arm in arms:
        mine = [record for record in measured.records if record["arm"] == arm.name]
        cells = []
        for budget in budgets:
            planned = "" if arm.name == FULL else budget
            cells.append(_measured_at(measured, [record for record in mine if record["budget"] == planned])
                         if planned in arm.budgets else "")  # fmt: skip
        builds = dict.fromkeys(record["rasure_sha256"][:8] for record in mine)
        rows.append([f"`{arm.name}`", *cells, ", ".join(f"`{build}`" for build in builds)])
    return table(["arm", *budgets, "build"], rows)


def _measured_at(measured: Measured, records: Sequence[Row]) -> str:
    found = []
    for tokens in sorted({record["tokens"] for record in records}):
        at = [record for record in records if record["tokens"] == tokens]
        tasks = {record["task"] for record in at}
        what = "refused" if all("refused" in record for record in at) else ""
        if not what and not {*measured.tasks(), TEXT} <= tasks:
            what = ", ".join(sorted(tasks))
        found.append(measured.size(tokens) + (f" ({what})" if what else ""))
    return "; ".join(found) or "not run"


def refusal_lines(measured: Measured) -> list[str]:
    """Budgets that arms refused, with the tool's sentence."""
    lines = []
    for arm in measured.arms():
        for budget in measured.budgets():
            for tokens in measured.lengths():
                said = measured.refusal(arm, budget, tokens)
                if said:
                    lines.append(f"- `{arm}`, {budget} of {measured.size(tokens)} tokens: {said}")
    return lines
