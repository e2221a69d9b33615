"""A page of what `rasure_training.forgetting.measure` has measured: what is still said, chosen, ranked and drawn.

    python -m rasure_training.forgetting.report FOLDER... --out docs [--archive FILE]

Writes NAME.md, .json and .svg. Intervals are 95 % percentiles of a bootstrap over contexts. With --archive all that the page is made
of is kept in one small file, which stands for the folders later on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from .. import archive
from ..archive import MeasuredError, Row
from ..arguments import add_sources
from ..figures import clustered
from ..pages import page
from .cases import ERASED, WAYS

FIELDS = ("id", "context", "method", "family", "leak", "leak_minus_clean", "leak_rank", "leak_choice", "leak_sampled")
ALIKE = ("model_sha256", "adapters", "max_tokens", "isa", "split", "tokens")  # in all parts


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


def report(args: argparse.Namespace) -> None:
    records, rows = archive.collect(args.sources, _rows_of, ALIKE)
    if not rows:
        raise MeasuredError(f"{', '.join(map(str, args.sources))}: no outcomes are there")
    if args.archive:
        archive.save(args.archive, records, rows)
    figures = figures_of(rows)
    how = {key: records[0][key] for key in (*ALIKE, "seed", "contexts")} | {"samples": max(part["samples"] for part in records)}
    page.write(args.out, args.name, "leaks", how, figures)


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
