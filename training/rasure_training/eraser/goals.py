"""What was aimed at, held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..pages.cells import cell
from .measured import FAR, GROUPS, Measured, Row, difference, mean_of, share_of

LEARNED = ("steer:full", "steer", "bridge:16", "bridge:32", "bridge:64", "bridge:16+shift", "bridge:64+shift", "steer+repair:16")
# Trained, and of a cost that does not grow with the context: what sees a prefix of any length is not among them.
BOUNDED = tuple(method for method in LEARNED if ":full" not in method and "repair" not in method)
# What computes all of the suffix again is no cheap method.
WHOLE = ("exact", "repair:100%+shift")
STALE = ("stale then fresh, answers", "stale then fresh, reciting")


@dataclass(frozen=True)
class Goal:
    text: str
    wanted: str
    found: str
    met: bool | None  # None: what was measured does not say


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


def best_cheap(measured: Measured, tasks: Sequence[str], tokens: int, default: str) -> Goal | None:
    """Of all methods below exact, that with the most right answers. The cases that judge it have selected it; so the default's
    figure, which they have not, is said too."""
    exact = measured.select(tasks, "exact", tokens)
    gaps = {method: difference(measured.select(tasks, method, tokens), exact, "exact_match") for method in measured.methods()}
    known = {method: gap for method, gap in gaps.items() if method not in (*WHOLE, "none") and gap}
    if not known:
        return None
    best = max(known, key=lambda method: known[method]["mean"])
    text = f"{tasks[0]}, {measured.size(tokens)} tokens: exact match of the best method, `{best}`, minus `exact`"
    found = f"{cell(known[best], 3)}; the default, `{default}`: {cell(gaps.get(default), 3)}"
    return Goal(text, ">= -0.01", found, known[best]["mean"] >= -0.01)


def leak_goals(measured: Measured, method: str) -> list[Goal]:
    rows = [row for row in measured.rows if row["method"] == method]
    mean = mean_of(rows, "leak_minus_clean")
    goals = []
    if mean:
        text = f"`{method}`: log P(erased value) minus clean, all tasks"
        goals.append(Goal(text, "within 0.3", cell(mean, 2), abs(mean["mean"]) <= 0.3))
    above, shown = [], False
    for task in measured.tasks():
        for tokens in measured.lengths():
            ours, dropped = (measured.select([task], which, tokens) for which in (method, "drop"))
            gap = difference(ours, dropped, "leak_minus_clean")
            if gap and gap["mean"] > 0:
                above.append(f"{task}, {measured.size(tokens)} tokens: {cell(gap, 3)}")
                shown = shown or gap["low"] > 0
    text = f"`{method}`: mean log P(erased value) above that of `drop`, by task and length"
    found = "; ".join(above) or "none"
    goals.append(Goal(text, "nowhere shown (95 %)", found if shown or not above else f"{found}; nowhere shown to be more (95 %)",
                      not shown))  # fmt: skip
    return goals


def adaptive_goals(measured: Measured) -> list[Goal | None]:
    """Adaptive repair where `drop` is far from exact, and against the other methods."""
    found: list[Goal | None] = []
    for task in measured.tasks():
        dropped = mean_of(measured.select([task], "drop"), "kl")
        rows = measured.select([task], "adaptive")
        kl, work = mean_of(rows, "kl"), share_of(measured, rows)
        if dropped and kl and work and dropped["mean"] >= FAR:
            text = f"{task}, where `drop` is {dropped['mean']:.2f} nats from exact: `adaptive`, KL; share of the suffix encoded again"
            met = kl["mean"] <= 0.02 and work["mean"] <= 0.15
            found.append(Goal(text, "<= 0.02; <= 0.15", f"{cell(kl, 4)}; {cell(work, 3)}", met))
    found.append(ratio_goal(measured, "redaction", ["redact"], "adaptive", "drop", 0.25))
    for what in STALE:
        found.append(ratio_goal(measured, what, GROUPS[what], "adaptive", "drop", 0.4))
        found.append(ratio_goal(measured, what, GROUPS[what], "adaptive", "repair:15%", 1.0))
    return found + [ratio_goal(measured, task, [task], "adaptive", "shift", 1.0) for task in ("prose", "bystander")]


def best_learned(measured: Measured) -> str | None:
    """The one trained method that is judged on answers and on reciting: that whose worse share of what `drop` leaves is the
    least."""
    worse = {}
    for method in BOUNDED:
        shares = [_ratio(measured, GROUPS[what], method, "drop") for what in STALE]
        if None not in shares:
            worse[method] = max(shares)
    return min(worse, key=worse.__getitem__) if worse else None


def goals(measured: Measured, default: str) -> list[Goal]:
    found: list[Goal | None] = []
    for task in ("conflict", "distractor", "bystander"):
        found += [best_cheap(measured, [task], tokens, default) for tokens in measured.lengths()]
    found.append(ratio_goal(measured, "redaction", ["redact"], "bridge:16", "repair:16", 0.5))
    found.append(ratio_goal(measured, "redaction", ["redact"], "bridge:16", "drop", 0.25))
    best = best_learned(measured)
    if best:
        found += [ratio_goal(measured, f"{what}, the best on both that was trained and whose cost does not grow", GROUPS[what],
                             best, other, most)
                  for what in STALE for other, most in (("drop", 0.4), ("repair:15%", 1.0))]  # fmt: skip
    for task in ("prose", "bystander"):
        found.append(ratio_goal(measured, task, [task], "bridge:16+shift", "shift", 1.0))
    found += adaptive_goals(measured) + leak_goals(measured, default)
    return [goal for goal in found if goal]


def torch_goal(figures: Sequence[Row]) -> Goal:
    """Of all tasks and learned methods, none whose KL is more than 0.01 from PyTorch's (as tables.torch_table gives them)."""
    learned = [row for row in figures if row["method"] in LEARNED]
    far = sorted((row for row in learned if abs(row["difference"]["mean"]) > 0.01),
                 key=lambda row: -abs(row["difference"]["mean"]))  # fmt: skip
    found = "; ".join(f"{row['task']} `{row['method']}` {cell(row['difference'], 4)}" for row in far)
    text = f"KL of the int8 runtime minus that of bfloat16 PyTorch, {len(learned)} tasks and methods: those more than 0.01 from 0"
    return Goal(text, "none", found or "none", not far)
