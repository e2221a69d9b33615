"""Turns what `rasure eval --per-case FILE` wrote into a Markdown table with 95 % intervals.

    python -m rasure_training.eval_table outcomes.jsonl

Needs the standard library only. Shares get Wilson's interval; mean KL one from 10,000 bootstrap resamples of the cases with a
fixed seed. Cases that a metric does not apply to (no answers, no leaks) do not count for it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
from pathlib import Path

RESAMPLES = 10_000
Z = 1.959964  # of a 95 % interval


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927)."""
    share = hits / n
    centre = share + Z * Z / (2 * n)
    spread = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return (centre - spread) / (1 + Z * Z / n), (centre + spread) / (1 + Z * Z / n)


def bootstrap_mean(values: list[float]) -> tuple[float, float]:
    """Percentile interval of the mean."""
    rng = random.Random(1)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES)]


def share_cell(values: list[bool]) -> str:
    if not values:
        return "-"
    low, high = wilson(sum(values), len(values))
    return f"{sum(values) / len(values):.2f} ({low:.2f} to {high:.2f})"


def kl_cell(values: list[float]) -> str:
    if not any(values):
        return "0"
    low, high = bootstrap_mean(values)
    return f"{statistics.fmean(values):.3f} ({low:.3f} to {high:.3f})"


def median_cell(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f}" if values else "-"


def table(rows: list[dict]) -> str:
    lines = [
        "| method | n | exact match | leak | KL to exact, nats | agrees with exact | erase, ms (median) |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]

        def known(key: str) -> list:
            return [row[key] for row in mine if row[key] is not None]

        lines.append(
            f"| `{method}` | {len(mine)} | {share_cell(known('exact_match'))} | {share_cell(known('leak'))} "
            f"| {kl_cell(known('kl_to_exact'))} | {share_cell(known('agree_with_exact'))} "
            f"| {median_cell(known('erase_ms'), 2)} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Markdown table of the outcomes that `rasure eval --per-case` wrote.")
    parser.add_argument("outcomes", type=Path, help="the file that --per-case named")
    arguments = parser.parse_args()
    try:
        rows = [json.loads(line) for line in arguments.outcomes.read_text(encoding="utf-8").splitlines()]
        print(table(rows))
    except (OSError, ValueError, KeyError) as error:
        print(f"eval_table: {arguments.outcomes}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
