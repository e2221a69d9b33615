"""What docs/kv-budgets.md said before the first run, held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from ..eraser.goals import Goal
from .critical import critical_footprint, surely_at_most
from .measured import FULL, TEXT, Measured, difference, nll_increase, plain_mean
from .tables import percent_cell, score_points

BUDGET = "25%"
GATES, WINDOW, PRULONG, DUO = "gates", "window", "heads-prulong", "heads-duo"
RIVALS = (WINDOW, "snapkv", "gates-constant", "static")
LEAST_TASKS, MOST_NLL = 3, 0.02


def nll_goal(measured: Measured, arm: str) -> Goal | None:
    gap = nll_increase(measured.select(arm, BUDGET, [TEXT]), measured.select(FULL, "", [TEXT]))
    if gap is None:
        return None
    text = f"`{arm}` at {BUDGET} of the bytes: NLL above the full cache's, %"
    return Goal(text, "<= 2", percent_cell(gap, 2), gap["mean"] <= MOST_NLL)


def tasks_goal(measured: Measured, arm: str, rivals: Sequence[str]) -> Goal | None:
    """On how many tasks the arm is above every rival, each with an interval that excludes zero."""
    if not measured.select_eligible(arm, BUDGET):
        return None
    above, said = 0, []
    for task in measured.eligible_tasks():
        mine = measured.select_eligible(arm, BUDGET, task)
        gaps = {rival: difference(mine, measured.select_eligible(rival, BUDGET, task)) for rival in rivals}
        known = {rival: gap for rival, gap in gaps.items() if gap}
        wins = [rival for rival, gap in known.items() if gap["low"] > 0]
        above += len(wins) == len(rivals)
        said.append(f"{task} above {', '.join(wins) if wins else 'none'}")
    text = f"`{arm}` at {BUDGET} of the bytes: tasks above {', '.join(f'`{rival}`' for rival in rivals)}"
    return Goal(
        text, f">= {LEAST_TASKS} of {len(measured.eligible_tasks())}", f"{above}: {'; '.join(said)}", above >= LEAST_TASKS
    )


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
    found = [nll_goal(measured, GATES), tasks_goal(measured, GATES, RIVALS), tasks_goal(measured, PRULONG, [WINDOW]),
             critical_goal(measured, PRULONG, DUO), critical_goal(measured, PRULONG, WINDOW)]  # fmt: skip
    return [goal for goal in found if goal]
