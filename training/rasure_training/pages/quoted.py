"""Tables of the erasers' report (`rasure_training.eraser.report`) that pages written by hand quote, each between its markers."""

from __future__ import annotations

from collections.abc import Sequence

from ..files import Row
from .cells import cell, table

# What the pages call the kinds of cases.
KINDS = {
    "values": "a value inside a sentence",
    "whole sentences": "whole sentences, one or several",
    "prose": "prose",
    "instructions": "an instruction",
    "stale then fresh, answers": "a stale passage before its fresh version: the answer",
    "stale then fresh, reciting": "the same: reciting the fresh version",
    "fresh then stale": "a stale passage behind its fresh version",
    "neighbours": "words next to what is erased are asked for",
    "bystanders": "something that the question has nothing to do with",
}
KIND_METHODS = ("drop", "shift", "repair:16", "repair:16+shift", "steer", "bridge:16", "bridge:16+shift", "bridge:64", "adaptive",
                "repair:100%+shift")  # fmt: skip
SHORT_METHODS = ("none", "exact", "drop", "shift", "repair:16", "steer", "bridge:16+shift", "adaptive")


def _brief(mean: float | None) -> str:
    """Two digits that count, or three decimals."""
    return "" if mean is None else f"{mean:.{3 if mean >= 0.00995 else 4}f}".lstrip("0")


def kind_table(kinds: Sequence[Row]) -> list[str]:
    """Kinds of cases and lengths down, methods across: KL, means alone. A kind is named once."""
    by = {(row["group"], row["tokens"], row["method"]): row["kl"] for row in kinds}
    methods = [method for method in KIND_METHODS if any(row["method"] == method for row in kinds)]
    rows = []
    for group, what in KINDS.items():
        for size in dict.fromkeys(row["tokens"] for row in kinds if row["group"] == group):
            rows.append([what, size, *(_brief(by.get((group, size, method))) for method in methods)])
            what = ""
    return table(["erased", "tokens", *(f"`{method}`" for method in methods)], rows)


def short_table(short: Sequence[Row]) -> list[str]:
    """What a first look needs: the two commonest things to erase, the methods that differ most, the shortest contexts."""
    titles = ["method", "a sentence that another contradicts: right answers", "says the erased value", "KL to exact",
              "a value inside a sentence: says it", "KL to exact", "erase, ms (median)"]  # fmt: skip
    return table(titles, ([f"`{row['method']}`", cell(row["right"], 2), cell(row["said"], 2), cell(row["kl"], 3),
                           cell(row["value_said"], 2), cell(row["value_kl"], 3), "-" if row["ms"] is None else f"{row['ms']:.1f}"]
                          for row in short))  # fmt: skip


SAID = {True: "met", False: "missed", None: "not measured"}


def goal_table(goals: Sequence[Row]) -> list[str]:
    """Goals as a report has them, and whether they were met."""
    return table(["what", "goal", "measured", ""], ([goal["text"], goal["wanted"], goal["found"], SAID[goal["met"]]] for goal in goals))


def missed_table(goals: Sequence[Row]) -> list[str]:
    """How many of the goals were met, and those that were not."""
    missed = [goal for goal in goals if not goal["met"]]
    met = f"{len(goals) - len(missed)} of {len(goals)} goals were met."
    return [f"{met} The others:", "", *goal_table(missed)] if missed else [met]


def parts_of(name: str, data: Row) -> dict[str, list[str]]:
    """By the names of their markers. name: of the report's files; data: its JSON file, or what is to be in it."""
    return {f"{name}_kinds": kind_table(data["kinds"]), f"{name}_short": short_table(data["short"]),
            f"{name}_goals": missed_table(data["goals"])}  # fmt: skip
