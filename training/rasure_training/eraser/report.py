"""Tables, goals and the frontier plot of what `rasure_training.eraser.measure` has measured.

    python -m rasure_training.eraser.report FOLDER... --out docs [--torch outcomes.jsonl] [--archive FILE]

Writes NAME.md, .json and .svg, and where there are several lengths NAME_by_length.svg. Intervals are 95 % percentiles of a bootstrap
that draws whole contexts; a difference between two methods is taken case by case before. With --torch (what `evaluate --per-case`
wrote for the same cases) the runtime's figures are compared with PyTorch's. With --archive all that the report is made of, PyTorch's
part too, is kept in one small file, which stands for the folders later on. Pages that quote it are filled in by
`python -m rasure_training.pages`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import archive
from ..arguments import add_sources
from ..files import Row, read_json_lines, write_json_object
from ..pages import quoted
from ..pages.cells import NO_WIDTH, SHARED_TEXT
from .facts import NEW_FAMILIES
from .frontier import draw, draw_lengths
from .goals import Goal, goals, torch_goal
from .measured import Measured, MeasuredError, builds_of, figures_of, groups_of, kinds_of, load, short_of
from .tables import (
    family_table,
    free_table,
    gain_table,
    group_table,
    protocol_table,
    span_table,
    task_table,
    torch_table,
    work_table,
)


def by_kind(measured: Measured, name: str) -> list[str]:
    lengths = measured.lengths()
    if len(lengths) == 1:
        return ["", "## By kind of case", "", *group_table(groups_of(measured))]
    lines = ["", "## By kind of case and length", "", f"![KL by length of the context]({name}_by_length.svg)"]
    for tokens in lengths:
        lines += ["", f"### {measured.size(tokens)} tokens", "", *group_table(groups_of(measured, tokens))]
    return lines


def heading(measured: Measured, name: str) -> list[str]:
    record = measured.records[0]
    contexts = sum(part["contexts"] for part in measured.records)
    comparisons = len(measured.tasks()) * len(measured.lengths()) * (len(measured.methods()) - 2)
    adapters = ", ".join(f"`{name}` (SHA-256 `{digest[:16]}...`)" for name, digest in record["adapters"].items())
    builds = len({build for part in measured.records for build in builds_of(part)})
    measured_with = f"measured with {builds} builds of the tool; " if builds > 1 else ""
    return [
        "# Quality of erases",
        "",
        "Made by `python -m rasure_training.eraser.measure` and `.report`; all figures, with the number of contexts behind each, "
        f"in `{name}.json`.",
        "",
        f"The {record['split']} split, seed {record['seed']}, {contexts:,} contexts of about "
        f"{', '.join(measured.size(n) for n in measured.lengths())} tokens, {len({(r['id'], r['tokens']) for r in measured.rows}):,} cases; answers "
        f"of up to {record['max_tokens']} tokens, greedy; int8 KV cache, kernels: {record['isa']}; {measured_with}adapters "
        f"{adapters}. "
        "KL(exact || method) in nats: the mean along the right answer, or along the text that is to be recited or goes on; along "
        "the answer after an exact erase where the erased thing itself is asked for. Brackets are 95 % intervals from a bootstrap "
        f"over contexts. {SHARED_TEXT} {NO_WIDTH} They are not corrected for the number of comparisons, which is {comparisons:,} (methods by "
        "tasks by lengths). In the picture, medians of the erase times of these runs, of one thread each.",
        "",
        f"![KL against cost]({name}.svg)",
        *by_kind(measured, name),
    ]


def details(measured: Measured, short: Sequence[Row], found: Sequence[Goal], default: str, torch: list[str]) -> list[str]:
    lines = []
    if "adaptive" in measured.methods():
        lines += ["", "## What `adaptive` encodes again", "", *work_table(measured, "adaptive")]
    lines += ["", f"## In short, contexts of {measured.size(measured.lengths()[0])} tokens", "", *quoted.short_table(short)]
    if any(task.endswith("/free") for task in measured.tasks()):
        lines += ["", "## Natural Questions, answered freely", "", *free_table(measured)]
    lines += ["", "## Gains and losses against `drop`", "", "KL minus that of `drop`, case by case, over all lengths; "
              "of methods that were measured at every length.", "", *gain_table(measured)]
    if any(row.get("family") in NEW_FAMILIES for row in measured.rows):
        lines += ["", "## Families of facts that training never saw", "", "KL over all lengths. All keys, values and wordings are of "
                  f"the {measured.records[0]['split']} split; of some families no fact is in training, neither: "
                  f"{', '.join(sorted(NEW_FAMILIES & {row.get('family') for row in measured.rows}))}.", "", *family_table(measured)]
    lines += ["", "## The protocol of KVEraser", "", *protocol_table(measured)]
    lines += ["", "## Goals", "", f"The default whose leaks are looked at is `{default}`. A method that is called the best was "
              "selected on the cases that its row judges it by; the default was not.", "", *quoted.goal_table(list(map(vars, found)))]  # fmt: skip
    for task in measured.tasks():
        lines += ["", f"## {task}", "", *task_table(measured, task)]
    if torch:
        lines += ["", "## Against PyTorch", "", "The same cases and adapters; bfloat16 weights, float32 KV.", "", *torch]
    return lines


def report(args: argparse.Namespace) -> None:
    measured = load(*args.sources)
    if args.torch:
        measured = measured.with_torch(read_json_lines(args.torch))
    if args.archive:
        archive.save(args.archive, measured.records, measured.rows)
    torch_lines, torch_figures = torch_table(measured)
    found = [] if args.brief else goals(measured, args.default)
    if torch_figures and not args.brief:
        found.append(torch_goal(torch_figures))
    short = short_of(measured, quoted.SHORT_METHODS)
    lines = heading(measured, args.name)
    if measured.erased("prose"):
        lines += ["", "## Prose, by length of the span", "", *span_table(measured)]
    if not args.brief:
        lines += details(measured, short, found, args.default, torch_lines if torch_figures else [])
    (args.out / f"{args.name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    keys = ("split", "seed", "max_tokens", "isa", "methods", "model_sha256", "adapters")
    data = {key: measured.records[0][key] for key in keys} | {
        "sizes": [measured.size(tokens) for tokens in measured.lengths()],
        "parts": [{key: part[key] for key in ("task", "tokens", "contexts", "cases_sha256", "rasure_sha256", "seconds")}
                  | {"made_by": builds_of(part)} for part in measured.records],
        "goals": [vars(goal) for goal in found],
        "kinds": kinds_of(measured),
        "short": short,
        "groups": groups_of(measured),
        "figures": figures_of(measured),
        "torch": torch_figures,
    }  # fmt: skip
    write_json_object(args.out / f"{args.name}.json", data)
    draw(measured, args.out / f"{args.name}.svg")
    if len(measured.lengths()) > 1:
        draw_lengths(measured, args.out / f"{args.name}_by_length.svg")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_sources(parser)
    parser.add_argument("--out", type=Path, required=True, help="where the three files go")
    parser.add_argument("--name", default="erase_quality", help="of the three files (default: %(default)s)")
    parser.add_argument("--brief", action="store_true", help="kinds of cases only: no goals, no tables of single tasks")
    parser.add_argument("--default", default="adaptive", help="the method whose leaks count (default: %(default)s)")
    parser.add_argument("--torch", type=Path, help="outcomes of `evaluate --per-case` for some of the same cases")
    args = parser.parse_args()
    try:
        report(args)
    except (OSError, ValueError, KeyError, MeasuredError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.name}.md, .json and .svg to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
