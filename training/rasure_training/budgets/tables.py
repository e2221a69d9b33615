"""Tables of what was measured, as lines of Markdown. Brackets are 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ..pages.cells import cell, table
from .critical import critical_footprint
from .measured import FULL, TEXT, Figure, Measured, Row, difference, mean_of, nll_increase, plain_mean

BUCKETS_AT = "25%"


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
                     _percent(_share_of_bytes(mine, full)), _percent(plain_mean(mine, "footprint"))])  # fmt: skip
    return table(["arm", *tasks, "mean", "worst", "recent (n)", "bytes", "KV footprint"], rows)


def _share_of_bytes(rows: Sequence[Row], full: Sequence[Row]) -> float | None:
    """Of the full cache's, over the lengths that the arm took."""
    lengths = {row["tokens"] for row in rows}
    mine, whole = plain_mean(rows, "kv_bytes"), plain_mean([row for row in full if row["tokens"] in lengths], "kv_bytes")
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


def bucket_table(measured: Measured, tokens: int) -> list[str]:
    """Arms down, positions across: NLL, at one budget and length."""
    rows, head = [], []
    for arm in measured.arms():
        texts = measured.select(arm, "" if arm == FULL else BUCKETS_AT, [TEXT], tokens)
        if not texts:
            continue
        least = min(len(row["nll"]) for row in texts)
        head = [f"{begin} to {end}" for begin, end, _, _ in texts[0]["nll"][:least]]
        rows.append([f"`{arm}`", *(f"{fmean(row['nll'][i][3] for row in texts):.3f}" for i in range(least))])
    return table(["arm", *head], rows)


def critical_table(measured: Measured) -> list[str]:
    """Arms down, tasks across: the critical KV footprint, all items and lengths that count."""
    tasks = measured.eligible_tasks()
    rows = [[f"`{arm}`", *(_critical(measured, arm, task) for task in tasks)] for arm in measured.arms() if arm != FULL]
    return table(["arm", *tasks], rows)


def score_points(measured: Measured, arm: str, task: str) -> list[tuple[float, float]]:
    """(KV footprint, score) by budget, over what counts. An arm that refuses a budget at some length has no point there."""
    lengths = {tokens for name, tokens in measured.eligible if name == task}
    points = []
    for budget in measured.budgets() if arm != FULL else [""]:
        rows = measured.select_eligible(arm, budget, task, recent=None)
        if {row["tokens"] for row in rows} == lengths:
            points.append((fmean(row["footprint"] for row in rows), fmean(row["score"] for row in rows)))
    return points


def _critical(measured: Measured, arm: str, task: str) -> str:
    points = score_points(measured, arm, task)
    if not points:
        return "refused"
    full = fmean(row["score"] for row in measured.select_eligible(FULL, "", task, recent=None))
    found = critical_footprint(points, full)
    return found if isinstance(found, str) else f"{found:.2f}"


def cost_table(measured: Measured, budget: str) -> list[str]:
    """Arms down, lengths across: time of the policy as a share of the time of reading the context."""
    rows = []
    for arm in measured.arms():
        if arm == FULL:
            continue
        cells = []
        for tokens in measured.lengths():
            mine = [row for row in measured.rows if (row["arm"], row["budget"], row["tokens"]) == (arm, budget, tokens)]
            cells.append(_percent(sum(r["policy_ms"] for r in mine) / sum(r["read_ms"] for r in mine), 2) if mine else "refused")
        rows.append([f"`{arm}`", *cells])
    return table(["arm", *(f"{measured.size(tokens)} tokens" for tokens in measured.lengths())], rows)


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
