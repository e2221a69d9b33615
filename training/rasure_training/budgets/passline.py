"""What docs/kv-budgets.md said before the first run, held against what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..eraser.goals import Goal
from .critical import critical_footprint, surely_at_most
from .measured import FULL, TEXT, Measured, difference, nll_increase, plain_mean
from .tables import percent_cell, score_points

BUDGET = "25%"
GATES, WINDOW, PRULONG, DUO = "gates", "window", "heads-prulong", "heads-duo"
RIVALS = (WINDOW, "snapkv", "gates-constant", "static")
LEAST_TASKS, MOST_NLL, MOST_PERPLEXITY = 3, 0.02, 0.03
LOCAL, LOCAL_BUDGET = "70 %", "36%"  # heads that do not keep everything, and the bytes of the arm that has so many


def nll_goal(measured: Measured, arm: str) -> Goal | None:
    gap = nll_increase(measured.select(arm, BUDGET, [TEXT]), measured.select(FULL, "", [TEXT]))
    if gap is None:
        return None
    text = f"`{arm}` at {BUDGET} of the bytes: NLL above the full cache's, %"
    return Goal(text, "<= 2", percent_cell(gap, 2), gap["mean"] <= MOST_NLL)


def perplexity_goal(measured: Measured, arm: str) -> Goal | None:
    """Of the same texts as nll_increase: the mean of NLL differences is the logarithm of the perplexities' ratio."""
    if arm not in measured.arms():
        return None
    text = f"`{arm}` at {LOCAL_BUDGET} of the bytes, {LOCAL} local heads: perplexity above the full cache's, %"
    gap = difference(measured.select(FULL, "", [TEXT]), measured.select(arm, LOCAL_BUDGET, [TEXT]))
    if gap is None:
        return Goal(text, "<= 3", "-", None)
    increase = {key: math.expm1(gap[key]) for key in ("mean", "low", "high")}
    return Goal(text, "<= 3", percent_cell(increase, 2), increase["mean"] <= MOST_PERPLEXITY)


def tasks_goal(measured: Measured, arm: str, rivals: Sequence[str]) -> Goal | None:
    """On how many tasks the arm is above every rival, each with an interval that excludes zero. Rivals that were not measured
    could only make them fewer: the goal may be missed without them, but not met."""
    if not measured.select_eligible(arm, BUDGET):
        return None
    tasks = measured.eligible_tasks()
    above = sure = 0  # of those that were measured; and with none lacking
    said, lacking = [], set()
    for task in tasks:
        mine = measured.select_eligible(arm, BUDGET, task)
        gaps = {rival: difference(mine, measured.select_eligible(rival, BUDGET, task)) for rival in rivals}
        known = {rival: gap for rival, gap in gaps.items() if gap}
        wins = [rival for rival, gap in known.items() if gap["low"] > 0]
        above += len(wins) == len(known)
        sure += len(wins) == len(rivals)
        lacking |= gaps.keys() - known.keys()
        said.append(f"{task} above {', '.join(wins) if wins else 'none'}")
    if lacking:
        said.append(f"not measured: {', '.join(rival for rival in rivals if rival in lacking)}")
    text = f"`{arm}` at {BUDGET} of the bytes: tasks above {', '.join(f'`{rival}`' for rival in rivals)}"
    met = sure >= LEAST_TASKS
    return Goal(text, f">= {LEAST_TASKS} of {len(tasks)}", f"{above}: {'; '.join(said)}",
                None if above >= LEAST_TASKS and not met else met)  # fmt: skip


def critical_goal(measured: Measured, arm: str, other: str) -> Goal | None:
    """Tasks on which the arm's critical footprint is at or below the other's, whatever is beyond what was tested."""
    below, said = 0, []
    for task in measured.eligible_tasks():
        points = [score_points(measured, name, task) for name in (arm, other)]
        if not all(points):
            continue
        full = plain_mean(measured.select_eligible(FULL, "", task, recent=None), "score") or 0.0
        mine, others = (critical_footprint(p, full) for p in points)
        below += surely_at_most(mine, others)
        said.append(f"{task} {_text(mine)} / {_text(others)}")
    if not said:
        return None
    text = f"critical KV footprint of `{arm}` at or below that of `{other}`"
    return Goal(text, f"{len(said)} of {len(said)} tasks", f"{below}: {'; '.join(said)}", below == len(said))


def _text(footprint: str | float) -> str:
    return footprint if isinstance(footprint, str) else f"{footprint:.2f}"


def pass_line(measured: Measured) -> list[Goal]:
    found = [nll_goal(measured, GATES), tasks_goal(measured, GATES, RIVALS), perplexity_goal(measured, PRULONG),
             tasks_goal(measured, PRULONG, [WINDOW]), critical_goal(measured, PRULONG, DUO),
             critical_goal(measured, PRULONG, WINDOW)]  # fmt: skip
    return [goal for goal in found if goal]
