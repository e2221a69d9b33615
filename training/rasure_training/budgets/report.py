"""Tables, pictures and the pass line of what `rasure_training.budgets.measure` has measured.

    python -m rasure_training.budgets.report FOLDER... --out docs [--archive FILE]

Writes what is between the markers of `kv-budgets.md` in that folder, and `kv_budgets.json`, `kv_budgets_scores.svg` and
`kv_budgets_streams.svg`. Intervals are 95 % percentiles of a bootstrap that draws whole contexts; a difference between two arms is
taken case by case before. With --archive all that the report is made of is kept in one small file, which stands for the folders
later on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import archive
from ..arguments import add_sources
from ..eraser.goals import Goal
from ..eraser.measured import rounded
from ..files import write_json_object
from ..markers import MarkersError, fill
from ..pages import quoted
from ..pages.cells import NO_WIDTH
from .measured import FULL, TEXT, Measured, MeasuredError, Row, load, mean_of, plain_mean
from .passline import BUDGET, GATES, RIVALS, pass_line
from .plots import draw_scores, draw_streams
from .tables import (
    bucket_table,
    cost_table,
    critical_table,
    difference_table,
    eligibility_table,
    nll_table,
    refusal_lines,
    score_table,
)

PAGE = "kv-budgets.md"
PART = "report"


def document(measured: Measured, found: Sequence[Goal]) -> list[str]:
    record = measured.records[0]
    cases = len({(row["id"], row["tokens"], row["task"]) for row in measured.rows})
    lines = [
        "Made by `python -m rasure_training.budgets.measure` and `.report`; all figures, with the number behind each, in "
        "`kv_budgets.json`.",
        "",
        f"The {record['split']} split, {cases:,} questions and texts, contexts of about "
        f"{', '.join(f'{measured.size(n)} ({measured.batch(n)} at a time)' for n in measured.lengths())} tokens; answers of up to "
        f"{record['max_tokens']} tokens, greedy; int8 KV cache, kernels: {record['isa']}. Brackets are 95 % intervals from "
        f"a bootstrap over contexts, not corrected for the number of comparisons. {NO_WIDTH}",
        "",
        "### Which tasks count",
        "",
        "Right answers of the full cache, evidence not at the end of the context. Bold: counts.",
        "",
        *eligibility_table(measured),
        "",
        "### Negative log-likelihood",
        "",
        "Increase over that of the full cache on held-out text, per cent.",
        "",
        *nll_table(measured),
        "",
        f"By position, at {BUDGET} of the bytes, contexts of {measured.size(measured.lengths()[-1])} tokens:",
        "",
        *bucket_table(measured, measured.lengths()[-1]),
        "",
        "### Right answers at equal bytes",
        "",
        "![Score against KV footprint](kv_budgets_scores.svg)",
    ]
    for budget in measured.budgets():
        lines += ["", f"#### {budget} of the bytes", "", *score_table(measured, budget)]
    lines += ["", "### Critical KV footprint", "",
              "The KV footprint that keeps 90 % of the full cache's score, all items of what counts; > or < where every budget "
              "fails or passes; refused where an arm has no budget that all lengths take.", "",
              *critical_table(measured)]  # fmt: skip
    if GATES in measured.arms():
        lines += [
            "",
            f"### Gates against the others, {BUDGET} of the bytes",
            "",
            *difference_table(measured, GATES, RIVALS, BUDGET),
        ]
    lines += ["", "### What the policies cost", "", f"Time of the policy as a share of reading the context, {BUDGET} of the bytes.",
              "", *cost_table(measured, BUDGET)]  # fmt: skip
    lines += ["", "### Where the entries are", "", f"Longest contexts, {BUDGET} of the bytes.", "",
              "![Lengths of the streams](kv_budgets_streams.svg)"]  # fmt: skip
    refusals = refusal_lines(measured)
    if refusals:
        lines += ["", "### Refused", "", *refusals]
    return [*lines, "", "### The pass line", "", *quoted.goal_table(list(map(vars, found)))]


def figures_of(measured: Measured) -> list[Row]:
    found = []
    for arm in measured.arms():
        for budget in [""] if arm == FULL else measured.budgets():
            for task in [*measured.tasks(), TEXT]:
                for tokens in measured.lengths():
                    rows = measured.select(arm, budget, [task], tokens)
                    score = mean_of(rows, "score")
                    if score:
                        found.append({"arm": arm, "budget": budget, "task": task, "tokens": tokens, "score": rounded(score)}
                                     | {key: float(f"{plain_mean(rows, key):.5g}")
                                        for key in ("kv_bytes", "footprint", "read_ms", "policy_ms")})  # fmt: skip
    return found


def report(measured: Measured, out: Path, n_layers: int) -> None:
    found = pass_line(measured)
    fill(out / PAGE, {PART: document(measured, found)})
    keys = ("split", "seed", "max_tokens", "isa", "model_sha256")
    write_json_object(out / "kv_budgets.json", {key: measured.records[0][key] for key in keys} | {
        "goals": [vars(goal) for goal in found],
        "figures": figures_of(measured),
        "parts": [{key: part[key] for key in ("arm", "budget", "task", "tokens", "batch", "contexts", "options", "files", "seconds")}
                  for part in measured.records],
    })  # fmt: skip
    draw_scores(measured, out / "kv_budgets_scores.svg")
    draw_streams(measured, out / "kv_budgets_streams.svg", BUDGET, n_layers)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.budgets.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_sources(parser)
    parser.add_argument("--out", type=Path, required=True, help="where kv-budgets.md is, and the other files go")
    parser.add_argument(
        "--layers", type=int, default=30, help="of the model, for the picture of the streams (default: %(default)s)"
    )
    args = parser.parse_args()
    try:
        measured = load(*args.sources)
        if args.archive:
            archive.save(args.archive, measured.records, measured.rows)
        report(measured, args.out, args.layers)
    except (OSError, ValueError, KeyError, MeasuredError, MarkersError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    print(f"wrote {PAGE} and kv_budgets.json, _scores.svg and _streams.svg to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
