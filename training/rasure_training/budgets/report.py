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
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from .. import archive
from ..arguments import add_sources
from ..eraser.measured import rounded
from ..files import write_json_object
from ..markers import MarkersError, fill
from ..pages import quoted
from ..pages.cells import NO_WIDTH
from ..runs import ConfigError
from .arms import Arm, load_arms
from .measure import LENGTHS
from .measured import FULL, TEXT, Measured, MeasuredError, Row, load, mean_of, plain_mean
from .passline import (
    BUDGET,
    DUO,
    GATES,
    LOCAL_BUDGET,
    PRULONG,
    RIVALS,
    WINDOW,
    PassLine,
    pass_line,
    said_of_texts,
    verdict,
)
from .plots import draw_scores, draw_streams
from .tables import (
    arms_table,
    bucket_table,
    cost_table,
    critical_table,
    difference_table,
    eligibility_table,
    nll_table,
    question_table,
    refusal_lines,
    score_table,
)

PAGE = "kv-budgets.md"
ARMS = Path(__file__).resolve().parents[2] / "configs" / "budgets.toml"


def heading(measured: Measured) -> list[str]:
    record = measured.records[0]
    cases = len({(row["id"], row["tokens"], row["task"]) for row in measured.rows})
    return [
        "Made by `python -m rasure_training.budgets.measure` and `.report`; means, with the number behind each, in `kv_budgets.json`.",
        "",
        f"The {record['split']} split, {cases:,} questions and texts, contexts of about "
        f"{', '.join(f'{measured.size(n)} ({measured.batch(n)} at a time)' for n in measured.lengths())} tokens; answers of up to "
        f"{record['max_tokens']} tokens, greedy; int8 KV cache, kernels: {record['isa']}; measured with {said_of_builds(measured)}. "
        f"Brackets are 95 % intervals from a bootstrap over contexts, not corrected for the number of comparisons. {NO_WIDTH}",
        *decoded_lines(measured),
    ]


def said_of_builds(measured: Measured) -> str:
    builds = measured.builds()
    return "one build of the tool" if len(builds) == 1 else f"{len(builds)} builds of the tool (see the arms)"


def decoded_lines(measured: Measured) -> list[str]:
    """How much of their entries some arms set aside for what is decoded, in the shortest contexts."""
    tokens = measured.lengths()[0]
    found = defaultdict(list)
    for record in measured.records:
        options, at = record["options"], (record["budget"], record["tokens"])
        if "--decoded" in options and at == (BUDGET, tokens) and record["task"] != TEXT and "streams" in record:
            room = int(options[options.index("--decoded") + 1])
            found[record["arm"]].append(room / (room + fmean(record["streams"])))
    if not found:
        return []
    shares = " and ".join(f"{100 * fmean(values):.0f} % of those of `{arm}`" for arm, values in found.items())
    return ["", f"Arms with `--decoded` set entries aside for tokens that are decoded one by one: at {BUDGET} of the bytes and "
                f"{measured.size(tokens)} tokens {shares}. A context never takes these."]  # fmt: skip


def nll_heading(measured: Measured) -> str:
    """Of which texts, and how much of them a budget keeps, which is of a cache with room for the longest."""
    texts = measured.select(FULL, "", [TEXT])
    said = f"Increase over that of the full cache on held-out text, per cent; {said_of_texts(texts)}."
    kept = [fmean(record["streams"]) for record in measured.records
            if (record["arm"], record["budget"], record["task"]) == (WINDOW, BUDGET, TEXT) and "streams" in record]  # fmt: skip
    if kept and texts:
        whole = [plain_mean([row for row in texts if row["tokens"] == tokens], "n_context") for tokens in measured.lengths()]
        share = sum(kept) / sum(filter(None, whole))
        said += (f" A budget is a share of a cache with room for the longest of them, and so more than that of most: at {BUDGET} of "
                 f"the bytes `{WINDOW}` keeps {100 * share:.0f} % of their tokens.")  # fmt: skip
    return said


def document(measured: Measured, found: PassLine) -> list[str]:
    lines = [
        *heading(measured),
        "",
        "### Which tasks count",
        "",
        "Right answers of the full cache, evidence not at the end of the context. Bold: counts.",
        "",
        *eligibility_table(measured),
        "",
        "### Negative log-likelihood",
        "",
        nll_heading(measured),
        "",
        *nll_table(measured),
    ]
    points = [(arm, budget) for budget in (BUDGET, LOCAL_BUDGET) for arm in measured.arms()]
    for tokens in measured.lengths():
        lines += ["", f"By position, texts of {measured.text_size(tokens)} tokens: increase of perplexity over the full cache's, per "
                  "cent, of the n texts that reach so far.", "", *bucket_table(measured, points, tokens)]  # fmt: skip
    lines += ["", "### Right answers at equal bytes", "", "![Score against KV footprint](kv_budgets_scores.svg)"]
    for budget in measured.budgets():
        lines += ["", f"#### {budget} of the bytes", "", *score_table(measured, budget)]
    questions = question_table(measured)
    if questions:
        lines += ["", "#### First and second questions", "",
                  "One context, asked twice; the tables above have both questions. Where a policy is shown the prompt's end (patched), "
                  "that is the first, never the second.", "", *questions]  # fmt: skip
    lines += ["", "### Critical KV footprint", "",
              "The KV footprint that keeps 90 % of the full cache's score, evidence not at the end of the context, on a straight line "
              "between the budgets that were measured; > or < where all of them fail or pass, without an interval where they do in "
              "nearly all resamples; - where an arm has no budget that all lengths take.", "",
              *critical_table(measured)]  # fmt: skip
    lines += ["", f"### One arm against another, {BUDGET} of the bytes"]
    for arm, others in ((GATES, RIVALS), (PRULONG, (WINDOW, DUO, "static"))):
        if arm in measured.arms():
            lines += ["", *difference_table(measured, arm, others, BUDGET)]
    lines += ["", "### What the policies cost", "",
              f"Time of the policy as a share of reading a text, {BUDGET} of the bytes. That computes how likely each token is; of "
              "reading a prompt, which does not, the share is larger (\"What it costs and saves\").", "", *cost_table(measured, BUDGET)]  # fmt: skip
    lines += ["", "### Where the entries are", "", f"Longest contexts, {BUDGET} of the bytes.", "",
              "![Lengths of the streams](kv_budgets_streams.svg)"]  # fmt: skip
    refusals = refusal_lines(measured)
    if refusals:
        lines += ["", "### Refused", "", *refusals]
    return [*lines, "", "### The pass line", "", *quoted.goal_table(list(map(vars, found.gates + found.heads))), "",
            "Not the pass line, which asks for none of these:", "", *quoted.goal_table(list(map(vars, found.beside)))]  # fmt: skip


def arms_document(measured: Measured, arms: Sequence[Arm]) -> list[str]:
    lengths = ", ".join(f"{tokens:,}" for tokens in LENGTHS if tokens not in measured.lengths())
    return [
        "Lengths at which each was measured, by its share of the bytes, and with which build of the tool (SHA-256, its beginning)."
        + (f" Of the lengths in the plan, {lengths} tokens have not been run." if lengths else ""),
        "",
        *arms_table(measured, arms),
    ]


def parts_of(measured: Measured, arms: Sequence[Arm], found: PassLine) -> dict[str, list[str]]:
    """What is written into the page, by the names of the markers."""
    return {"arms": arms_document(measured, arms), "report": document(measured, found), "verdict": [verdict(found)]}


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
                                        for key in ("n_context", "kv_bytes", "footprint", "read_ms", "policy_ms")})  # fmt: skip
    return found


def report(measured: Measured, arms: Sequence[Arm], out: Path, n_layers: int) -> None:
    found = pass_line(measured)
    fill(out / PAGE, parts_of(measured, arms, found))
    keys = ("split", "seed", "max_tokens", "isa", "model_sha256")
    write_json_object(out / "kv_budgets.json", {key: measured.records[0][key] for key in keys} | {
        "goals": list(map(vars, found.gates + found.heads)),
        "beside": list(map(vars, found.beside)),
        "figures": figures_of(measured),
        "parts": [{key: part[key] for key in ("arm", "budget", "task", "tokens", "batch", "contexts", "options", "files",
                                              "rasure_sha256", "seconds")}
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
    parser.add_argument("--arms", type=Path, default=ARMS, help="TOML file of all that are to be measured")
    args = parser.parse_args()
    try:
        measured = load(*args.sources)
        if args.archive:
            archive.save(args.archive, measured.records, measured.rows)
        report(measured, load_arms(args.arms), args.out, args.layers)
    except (OSError, ValueError, KeyError, ConfigError, MeasuredError, MarkersError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    print(f"wrote {PAGE} and kv_budgets.json, _scores.svg and _streams.svg to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
