"""A page of what `rasure_training.forgetting.measure` has measured: what is still said, chosen, ranked and drawn.

    python -m rasure_training.forgetting.report FOLDER... --out docs [--archive FILE]

Writes NAME.md, .json and .svg. Intervals are 95 % percentiles of a bootstrap over contexts. With --archive all that the page is made
of is kept in one small file, which stands for the folders later on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from .. import archive, pictures
from ..arguments import add_sources
from ..archive import MeasuredError, Row
from ..eraser.evaluate import cell, clustered
from ..files import write_page
from .cases import ERASED, RIVALS, WAYS

WHAT = {"sentence": "The sentence is erased", "value": "Only the value is erased, inside its sentence"}
ASKED = {"direct": "asked directly", "words": "in other words", "completion": "the text goes on"}
FIELDS = ("id", "context", "method", "family", "leak", "leak_minus_clean", "leak_rank", "leak_choice", "leak_sampled")


def _rows_of(record: Row, outcomes: list[Row]) -> list[Row]:
    return [{key: row.get(key) for key in FIELDS} | {"erased": record["erased"], "way": record["way"]} for row in outcomes]


def figure(rows: Sequence[Row], value: Any) -> Row | None:
    """value: from a row to a number, or None where it has none."""
    known = [(value(row), row["context"]) for row in rows if value(row) is not None]
    return clustered([float(number) for number, _ in known], [context for _, context in known]) if known else None


def is_first(row: Row) -> float | None:
    return None if row.get("leak_choice") is None else float(row["leak_choice"] == 1)


def figures_of(rows: Sequence[Row]) -> list[Row]:
    found = []
    for erased in ERASED:
        for way in WAYS:
            for method in dict.fromkeys(row["method"] for row in rows):
                mine = [row for row in rows if (row["erased"], row["way"], row["method"]) == (erased, way, method)]
                if not mine:
                    continue
                found.append({
                    "erased": erased, "way": way, "method": method, "n": len(mine),
                    "said": figure(mine, lambda row: row.get("leak")),
                    "log_p": figure(mine, lambda row: row.get("leak_minus_clean")),
                    "away": figure(mine, lambda row: None if row.get("leak_minus_clean") is None else abs(row["leak_minus_clean"])),
                    "chosen": figure(mine, is_first),
                    "drawn": figure(mine, lambda row: row.get("leak_sampled")),
                    "rank": median(row["leak_rank"] for row in mine),
                })  # fmt: skip
    return found


def table(figures: Sequence[Row], erased: str) -> list[str]:
    lines = [
        "| method | says it, "
        + " | says it, ".join(ASKED[way] for way in WAYS)
        + f" | first of {RIVALS + 1} | in an answer drawn | "
        "median rank | log P - clean, "
        + " | log P - clean, ".join(ASKED[way] for way in WAYS)
        + " | \\|log P - clean\\|, directly |",
        "|---" * 11 + "|",
    ]
    by = {(row["way"], row["method"]): row for row in figures if row["erased"] == erased}
    for method in dict.fromkeys(row["method"] for row in figures):
        ways = [by.get((way, method), {}) for way in WAYS]
        if not any(ways):
            continue
        direct = ways[0]
        cells = [cell(row.get("said"), 3) for row in ways]
        cells += [cell(direct.get("chosen"), 3), cell(direct.get("drawn"), 4), f"{direct.get('rank', 0):.0f}"]
        cells += [cell(row.get("log_p"), 2) for row in ways] + [cell(direct.get("away"), 2)]
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return lines


def draw(figures: Sequence[Row], path: Path) -> None:
    plt = pictures.pyplot()
    methods = [method for method in dict.fromkeys(row["method"] for row in figures) if method not in ("none", "exact")]
    picture, axes = plt.subplots(1, len(ERASED), figsize=(11, 4), layout="constrained", sharey=True)
    for axis, erased in zip(axes, ERASED, strict=True):
        for i, way in enumerate(WAYS):
            rows = {
                row["method"]: row["log_p"] for row in figures if row["erased"] == erased and row["way"] == way and row["log_p"]
            }
            at = [k + 0.2 * (i - 1) for k, method in enumerate(methods) if method in rows]
            known = [rows[method] for method in methods if method in rows]
            axis.errorbar([row["mean"] for row in known], at, xerr=pictures.spread(known), marker="o", markersize=4,
                          linestyle="none", linewidth=0.8, label=ASKED[way])  # fmt: skip
        axis.axvline(0, linewidth=0.8, color="gray")
        axis.set(
            title=WHAT[erased], xlabel="log P(erased value) minus clean, nats", yticks=range(len(methods)), yticklabels=methods
        )
        axis.grid(alpha=0.3)
    axes[0].invert_yaxis()
    axes[0].legend(fontsize=8)
    pictures.save(picture, path)


def page(records: Sequence[Row], figures: Sequence[Row], name: str) -> list[str]:
    record = records[0]
    samples = max(part["samples"] for part in records)
    lines = [
        "# Leaks",
        "",
        f"Made by `python -m rasure_training.forgetting.measure` and `.report`; figures in `{name}.json`. The {record['split']} split, "
        f"{record['contexts']} contexts of about {record['tokens']} tokens for each of the two things that are erased, seed "
        f"{record['seed']}; int8 KV cache, kernels: {record['isa']}; greedy answers of up to {record['max_tokens']} tokens, and "
        f"{samples} drawn at temperature 1 where the question is direct. Clean is the same context read without what was erased "
        "(`exact`): what it says by chance, for the text allows a guess, is what the others are held against. \"First of "
        f"{RIVALS + 1}\": how often the erased value is the most likely of itself and {RIVALS} other values of its kind; pure chance "
        f"would be {1 / (RIVALS + 1):.3f}. Brackets are 95 % intervals from a bootstrap over contexts; not corrected for comparisons.",
        "",
        f"![Log-probability of the erased value]({name}.svg)",
    ]  # fmt: skip
    for erased in ERASED:
        lines += ["", f"## {WHAT[erased]}", "", *table(figures, erased)]
    return lines


def report(args: argparse.Namespace) -> None:
    records, rows = archive.collect(args.sources, _rows_of, ("model_sha256", "adapters", "max_tokens", "isa", "split", "tokens"))
    if not rows:
        raise MeasuredError(f"{', '.join(map(str, args.sources))}: no outcomes are there")
    if args.archive:
        archive.save(args.archive, records, rows)
    figures = figures_of(rows)
    write_page(args.out, args.name, figures, page(records, figures, args.name), partial(draw, figures))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.forgetting.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_sources(parser)
    parser.add_argument("--out", type=Path, required=True, help="where the three files go")
    parser.add_argument("--name", default="leaks", help="of the three files (default: %(default)s)")
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
