#!/usr/bin/env python3
"""The shipped erasers on a slice of forty contexts: figures that may not become worse than chance explains.

    python3 tests/quality/test_quality.py RASURE            checks
    python3 tests/quality/test_quality.py RASURE --set      sets the limits anew

`cases.jsonl` is a slice of the evaluation (docs/erase_lengths.md) on the test split; `limits.json` holds what is demanded of it: the
end on the wrong side of a 99 % bootstrap interval of the same cases, drawn by context, as they were measured when the limits were
set. Right answers are held against those of an exact erase, case by case. What was erased may become neither likelier than in a
context that never held it nor less likely: there both ends count, and to come nearer to zero is never wrong. Uses the default model.
Standard library only.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[1] / "models"
ERASERS = ("smollm2-135m-instruct.bridge.gguf", "smollm2-135m-instruct.steer.gguf")
METHODS = ("none", "exact", "drop", "shift", "repair:16", "steer", "bridge:16", "bridge:64", "bridge:16+shift", "adaptive")
RIGHT, BEHIND = "exact_match", "exact_match minus that of exact"
METRICS = (RIGHT, BEHIND, "kl", "leak_minus_clean")
# Single tasks have four contexts, and prose and bystanders hardly differ from exact: there the last bits of another instruction
# set weigh more than what is looked for.
GROUPS = {
    "whole sentences": ("conflict", "distractor", "ask", "echo", "derived"),
    "values": ("redact", "redact-two"),
    "stale then fresh": ("stale-before",),
}
# What adaptive repair leaves is of the size of rounding, which differs from one instruction set to the next, and no interval over
# cases knows of that: in every group it may be twice the share of drop's that it was.
NEAR_EXACT, SHARE_OF_DROP, MOST_TIMES = "adaptive", "kl over that of drop", 2.0
# What auto expects of 95 % of the cases; of 48, chance leaves fewer in one run of a hundred.
AUTO, AS_EXPECTED = "auto:kl=0.03", 0.85
RESAMPLES = 2000

Key = tuple[str, str, str]  # group or "all", method, metric


def outcomes(rasure: Path) -> dict[Key, dict[str, list[float]]]:
    """Values by context."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        methods = ",".join((*METHODS, AUTO))
        command = [rasure, "eval", HERE / "cases.jsonl", "--methods", methods, "--max-tokens", "8", "--per-case", rows]
        for name in ERASERS:
            command += ["--eraser", MODELS / name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"})
        found: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        outcomes = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
        right = {row["id"]: row[RIGHT] for row in outcomes if row["method"] == "exact"}
        for row in outcomes:
            row["kl"] = row["kl_to_exact"] if row["kl_target"] is None else row["kl_target"]
            row[BEHIND] = None if row[RIGHT] is None else row[RIGHT] - right[row["id"]]
            if row["method"] == AUTO:
                if row["expected_kl_most"] > 0:
                    found["all", AUTO, "as expected"][row["context"]].append(float(row["kl"] <= row["expected_kl_most"]))
                continue
            groups = ["all", *(name for name, tasks in GROUPS.items() if row["task"] in tasks)]
            for metric in METRICS:
                if row[metric] is not None:
                    for name in groups:
                        found[name, row["method"], metric][row["context"]].append(float(row[metric]))
    return found


def mean(contexts: dict[str, list[float]]) -> float:
    return statistics.fmean(value for values in contexts.values() for value in values)


def interval(contexts: dict[str, list[float]]) -> tuple[float, float]:
    draw = random.Random(20)
    groups = list(contexts.values())
    means = sorted(
        statistics.fmean(value for values in draw.choices(groups, k=len(groups)) for value in values) for _ in range(RESAMPLES)
    )
    return means[round(0.005 * RESAMPLES)], means[round(0.995 * RESAMPLES) - 1]


def share_of_drop(found: dict[Key, dict[str, list[float]]], group: str) -> float:
    return mean(found[group, NEAR_EXACT, "kl"]) / mean(found[group, "drop", "kl"])


def value_of(found: dict[Key, dict[str, list[float]]], limit: dict[str, Any]) -> float:
    if limit["metric"] == SHARE_OF_DROP:
        return share_of_drop(found, limit["group"])
    return mean(found[limit["group"], limit["method"], limit["metric"]])


def is_demanded(group: str, method: str, metric: str) -> bool:
    if method == "none":  # a control
        return False
    if method == "exact":  # what the others are held against
        return metric == RIGHT
    if metric == BEHIND:  # of the four to nine answers of a group chance hides most
        return group == "all"
    return metric in METRICS and (method, metric) != (NEAR_EXACT, "kl")


def limit_of(metric: str, contexts: dict[str, list[float]]) -> dict[str, float]:
    low, high = interval(contexts)
    if low == high:  # all contexts alike: of so many, chance hides no more than this share of others (99 %)
        hidden = 1 - 0.01 ** (1 / len(contexts))
        low, high = low - hidden, high + hidden
    if metric == "kl":
        return {"most": high}
    if metric == "leak_minus_clean":
        return {"least": min(low, 0.0), "most": max(high, 0.0)}
    return {"least": low}


def set_limits(found: dict[Key, dict[str, list[float]]]) -> None:
    limits = []
    for (group, method, metric), contexts in sorted(found.items()):
        if is_demanded(group, method, metric):
            limits.append({"group": group, "method": method, "metric": metric, "measured": mean(contexts)} | limit_of(metric, contexts))
    for group in ("all", *GROUPS):
        share = share_of_drop(found, group)
        limits.append({"group": group, "method": NEAR_EXACT, "metric": SHARE_OF_DROP, "measured": share, "most": MOST_TIMES * share})
    lines = ",\n".join(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}) for row in limits)
    (HERE / "limits.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"wrote {len(limits)} limits")


def check(found: dict[Key, dict[str, list[float]]]) -> int:
    limits = json.loads((HERE / "limits.json").read_text(encoding="utf-8"))
    missed = 0
    for limit in limits:
        value = value_of(found, limit)
        good = limit.get("least", value) - 5e-5 <= value <= limit.get("most", value) + 5e-5
        missed += not good
        if not good or limit["group"] == "all" or limit["metric"] == SHARE_OF_DROP:
            end = " and ".join(f"{sign} {limit[key]}" for key, sign in (("least", ">="), ("most", "<=")) if key in limit)
            name = f"{limit['metric']} of {limit['method']}, {limit['group']}"
            print(f"# figure: {name}: {value:.4f} (wanted {end}, was {limit['measured']}){'' if good else ' MISSED'}")
    as_expected = mean(found["all", AUTO, "as expected"])
    missed += as_expected < AS_EXPECTED
    print(f"# figure: {AUTO}, no farther from exact than expected of 95 %: {as_expected:.3f} (wanted >= {AS_EXPECTED})")
    n = len(found["all", "drop", "kl"])
    n_figures = len(limits) + 1
    print(f"{n_figures - missed} of {n_figures} figures within their limits, {n} contexts")
    # A slice that erasing did not matter to would pass everything.
    if mean(found["all", "none", "kl"]) < 2 * mean(found["all", "drop", "kl"]):
        print("nothing erased is hardly worse than dropped: these cases tell nothing")
        return 1
    return 1 if missed or not limits else 0


def main() -> int:
    if len(sys.argv) not in (2, 3) or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 0 if sys.argv[1:2] in (["-h"], ["--help"]) else 2
    found = outcomes(Path(sys.argv[1]))
    if sys.argv[2:] == ["--set"]:
        set_limits(found)
        return 0
    return check(found)


if __name__ == "__main__":
    sys.exit(main())
