"""What docs/kv-budgets.md said before the first run, held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..eraser.goals import Goal
from .critical import share_at_most, shown, surely_at_most
from .measure import LENGTHS
from .measured import FULL, TEXT, Measured, Row, difference, nll_increase, perplexity_increase
from .tables import curve_of, percent_cell, share_of_bytes

BUDGET = "25%"
GATES, WINDOW, PRULONG, DUO = "gates", "window", "heads-prulong", "heads-duo"
RIVALS = (WINDOW, "snapkv", "gates-constant", "static")
LEAST_TASKS, MOST_NLL, MOST_PERPLEXITY = 3, 0.02, 0.03
LOCAL_BUDGET = "36%"  # where the pass line judges heads
LOCAL = {LOCAL_BUDGET: "70 %", BUDGET: "80 %"}  # heads that do not keep everything, by the bytes of the arm that has so many


@dataclass(frozen=True)
class PassLine:
    """The conditions for the one policy and for the other, and goals beside them, which decide nothing."""

    gates: list[Goal]
    heads: list[Goal]
    beside: list[Goal]


def nll_goal(measured: Measured, arm: str) -> Goal | None:
    texts = measured.select(arm, BUDGET, [TEXT])
    gap = nll_increase(texts, measured.select(FULL, "", [TEXT]))
    if gap is None:
        return None
    text = f"`{arm}` at {BUDGET} of the bytes: NLL above the full cache's, %, {said_of_texts(texts)}"
    return Goal(text, "<= 2", percent_cell(gap, 2), gap["mean"] <= MOST_NLL)


def said_of_texts(texts: Sequence[Row]) -> str:
    """How many, and how long."""
    if not texts:
        return "texts"
    sizes = [row["n_context"] for row in texts]
    return f"{len(sizes)} texts of {min(sizes):,} to {max(sizes):,} tokens (median {median(sizes):,.0f})"


def _heads_at(arm: str, budget: str) -> str:
    return f"`{arm}` at {budget} of the bytes, {LOCAL[budget]} local heads"


def perplexity_goal(measured: Measured, arm: str, budget: str, tokens: int | None = None) -> Goal | None:
    """tokens: of the texts, as they were asked for (None: all lengths that were measured)."""
    if arm not in measured.arms():
        return None
    texts = measured.select(arm, budget, [TEXT], tokens)
    increase = perplexity_increase(texts, measured.select(FULL, "", [TEXT], tokens))
    of = f"texts of about {tokens:,} tokens" if tokens and not texts else said_of_texts(texts)
    text = f"{_heads_at(arm, budget)}: perplexity above the full cache's, %, {of}"
    return Goal(text, "<= 3", percent_cell(increase, 2), None if increase is None else increase["mean"] <= MOST_PERPLEXITY)


def tasks_goal(measured: Measured, arm: str, rivals: Sequence[str], budget: str, at: str) -> Goal | None:
    """On how many tasks the arm is above every rival, each with an interval that excludes zero. Rivals that were not measured
    could only make them fewer: the goal may be missed without them, but not met. at: the arm at its budget, in words."""
    if not measured.select_eligible(arm, budget):
        return None
    tasks = measured.eligible_tasks()
    above = sure = 0  # of those that were measured; and with none lacking
    said, lacking, shares = [], set(), []
    for task in tasks:
        mine = measured.select_eligible(arm, budget, task)
        gaps = {rival: difference(mine, measured.select_eligible(rival, budget, task)) for rival in rivals}
        known = {rival: gap for rival, gap in gaps.items() if gap}
        wins = [rival for rival, gap in known.items() if gap["low"] > 0]
        above += len(wins) == len(known)
        sure += len(wins) == len(rivals)
        lacking |= gaps.keys() - known.keys()
        if known:
            said.append(f"{task} above {', '.join(wins) if wins else 'none'}")
    for rival in rivals:
        share = share_of_bytes(measured.select_eligible(rival, budget), measured.select_eligible(arm, budget))
        if share is not None:
            shares.append(f"{rival} {share:.2f}")
    found = [f"{above}: {'; '.join(said)}", f"their bytes, of its own: {', '.join(shares)}"] if said else []
    if lacking:
        found.append(f"not measured: {', '.join(rival for rival in rivals if rival in lacking)}")
    sizes = ", ".join(measured.size(tokens) for tokens in sorted({tokens for _, tokens in measured.eligible}))
    text = f"{at}: tasks above {', '.join(f'`{rival}`' for rival in rivals)}, contexts of {sizes} tokens"
    met = sure >= LEAST_TASKS
    return Goal(text, f">= {LEAST_TASKS} of {len(tasks)}", "; ".join(found), None if above >= LEAST_TASKS and not met else met)


def critical_goal(measured: Measured, arm: str, other: str) -> Goal | None:
    """Tasks on which the arm's critical footprint is at or below the other's, whatever is beyond what was tested; and the share of
    resamples in which it is that."""
    below, said = 0, []
    tasks = measured.eligible_tasks()
    for task in tasks:
        mine, others = (curve_of(measured, name, task) for name in (arm, other))
        if mine is None or others is None:
            continue
        below += surely_at_most(mine.critical(), others.critical())
        share = share_at_most(mine.resampled(), others.resampled())
        said.append(f"{task} {shown(mine.critical())} / {shown(others.critical())} ({100 * share:.1f} %)")
    if not said:
        return None
    met = below == len(said)
    text = f"critical KV footprint of `{arm}` at or below that of `{other}` (in brackets: in how many resamples it surely is)"
    return Goal(text, f"{len(tasks)} of {len(tasks)} tasks", f"{below}: {'; '.join(said)}",
                None if met and len(said) < len(tasks) else met)  # fmt: skip


def pass_line(measured: Measured) -> PassLine:
    def known(*goals: Goal | None) -> list[Goal]:
        return [goal for goal in goals if goal]

    def heads_goals(budget: str) -> list[Goal]:
        return known(perplexity_goal(measured, PRULONG, budget),
                     tasks_goal(measured, PRULONG, [WINDOW], budget, _heads_at(PRULONG, budget)))  # fmt: skip

    gates = known(nll_goal(measured, GATES), tasks_goal(measured, GATES, RIVALS, BUDGET, f"`{GATES}` at {BUDGET} of the bytes"))
    beside = known(perplexity_goal(measured, PRULONG, LOCAL_BUDGET, LENGTHS[-1]), *heads_goals(BUDGET),
                   critical_goal(measured, PRULONG, DUO), critical_goal(measured, PRULONG, WINDOW))  # fmt: skip
    return PassLine(gates, heads_goals(LOCAL_BUDGET), beside)


def verdict(line: PassLine) -> str:
    """Which default follows, as far as one does."""
    said = []
    for policy, goals in (("gates", line.gates), ("heads", line.heads)):
        missed = [goal for goal in goals if goal.met is False]
        unknown = [goal.text for goal in goals if goal.met is None]
        if missed:
            said.append(f"`{policy}` misses the pass line.")
        elif goals and not unknown:
            return " ".join([*said, f"`{policy}` meets the pass line, which makes it the default below the full cache."])
        else:
            lacking = "; ".join(unknown) or "anything of it"
            return " ".join([*said, f"Whether `{policy}` meets the pass line is open, for some of what it asks for has not been measured "
                                    f"({lacking}): no default follows from it."])  # fmt: skip
    return " ".join([*said, "So the default below the full cache is `window`: training did not pay."])
