"""Makes a table and a picture of what bench_erase prints; started by bench/erase.sh."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pictures import pyplot

Row = dict[str, Any]


def table(rows: list[Row], column: str, unit: str) -> list[str]:
    """Methods down, values of `column` across: median milliseconds, in brackets the least and the most."""
    values = sorted({row[column] for row in rows})
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = {(row["method"], row[column]): row for row in rows}
    lines = [
        "| method | " + " | ".join(f"{value:,} {unit}" for value in values) + " | last / first |",
        "|---|" + "---|" * (len(values) + 1),
    ]
    for method in methods:
        found = [cells.get((method, value)) for value in values]
        shown = [f"{c['ms']:.2f} ({c['least']:.2f} to {c['most']:.2f})" if c else "" for c in found]
        ratio = f"{found[-1]['ms'] / found[0]['ms']:.2f}" if found[0] and found[-1] and len(found) > 1 else ""
        lines.append(f"| `{method}` | " + " | ".join(shown) + f" | {ratio} |")
    return lines


def goals(by_context: list[Row], by_span: list[Row], middle: list[Row]) -> list[str]:
    """What was aimed at for what is learned (64-token span: flat; bridge:16: 8 ms whatever the span; 200 times as fast as exact),
    and what was found, for each learned method; and for adaptive, which is the default, by the same measure."""
    lines = ["| what | goal | measured | |", "|---|---|---|---|"]

    def add(what: str, goal: str, measured: str, met: bool) -> None:
        lines.append(f"| {what} | {goal} | {measured} | {'met' if met else 'missed'} |")

    for method in ("bridge:16", "steer", "adaptive"):
        name = f"`{method}`, the default," if method == "adaptive" else f"`{method}`,"
        line = sorted((row["context"], row["ms"]) for row in by_context if row["method"] == method)
        if not line:
            continue
        growth = line[-1][1] / line[0][1]
        add(f"{name} {line[0][0]:,} to {line[-1][0]:,} tokens", "<= 1.10x", f"{growth:.2f}x", growth <= 1.10)
        if method == "bridge:16":
            for row in sorted((row for row in by_span if row["method"] == method), key=lambda row: row["span"]):
                add(f"{name} span of {row['span']:,}", "<= 8 ms", f"{row['ms']:.2f} ms", row["ms"] <= 8.0)
        exact = next((row["ms"] for row in middle if row["method"] == "exact"), None)
        own = next((row["ms"] for row in middle if row["method"] == method), None)
        if exact and own:
            where = f"in the middle of {middle[0]['context']:,}"
            add(f"{name} {where}, against `exact`", ">= 200x", f"{exact / own:,.0f}x", exact / own >= 200)
    return lines


def draw(panels: list[tuple[str, str, list[Row]]], path: Path) -> None:
    figure, axes = pyplot().subplots(1, len(panels), figsize=(9, 3.6), sharey=True)
    for axis, (column, label, rows) in zip(axes, panels):
        for method in dict.fromkeys(row["method"] for row in rows):
            points = sorted((row[column], row["ms"]) for row in rows if row["method"] == method)
            axis.plot(*zip(*points), marker="o", label=method)
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.set_xticks(sorted({row[column] for row in rows}))
        axis.get_xaxis().set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("milliseconds, median")
    axes[-1].legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "Some processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "Some processor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processor", default=processor(), help="as the page names it (default: this one, %(default)s)")
    parser.add_argument("--name", default="erase_latency", help="of the three files (default: %(default)s)")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in sys.stdin if line.strip()]
    if not rows:
        sys.exit("erase_latency.py: nothing was measured")
    middle = [row for row in rows if row["suffix"] > 256]
    near = [row for row in rows if row["suffix"] <= 256]
    by_context = [row for row in near if row["span"] == 64]
    one = next(row["context"] for row in near if row["span"] != 64)
    by_span = [row for row in near if row["context"] == one]
    lines = [
        "# Latency of erases",
        "",
        f"Made by `bench/erase.sh`; {arguments.threads} threads, medians of {near[0]['n']} rounds in turns, in brackets the "
        f"least and the most; milliseconds. The span ends 256 tokens before the context does. {arguments.processor}. Tokens are "
        "drawn; contexts beyond what the model was trained for (8,192 tokens for the default model) are timing only.",
        "",
        f"![Latency against context and span length]({arguments.name}.svg)",
        "",
        "## A span of 64 tokens, contexts of several lengths",
        "",
        *table(by_context, "context", "tokens"),
        "",
        f"## Spans of several lengths, a context of {one:,} tokens",
        "",
        *table(by_span, "span", "tokens"),
        "",
    ]
    if middle:
        exact = next(row["ms"] for row in middle if row["method"] == "exact")
        lines += [
            f"## A span of {middle[0]['span']} tokens in the middle of {middle[0]['context']:,}",
            "",
            "| method | n | ms | times as fast as exact |",
            "|---|---|---|---|",
        ]
        for row in middle:
            lines.append(
                f"| `{row['method']}` | {row['n']} | {row['ms']:.2f} ({row['least']:.2f} to {row['most']:.2f}) "
                f"| {exact / row['ms']:,.1f} |"
            )
        lines.append("")
    lines += ["## Goals", "", *goals(by_context, by_span, middle), ""]
    (arguments.out / f"{arguments.name}.md").write_text("\n".join(lines), encoding="utf-8")
    (arguments.out / f"{arguments.name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    draw([("context", "context, tokens (span of 64)", by_context), ("span", f"span, tokens (context of {one:,})", by_span)],
         arguments.out / f"{arguments.name}.svg")  # fmt: skip
    print(f"wrote {arguments.out.name}/{arguments.name}.md, .json and .svg")


if __name__ == "__main__":
    main()
