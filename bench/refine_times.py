"""Makes a table and a picture of what bench_refine prints; started by bench/refine.sh."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pictures import pyplot

Row = dict[str, Any]

WHAT = {
    "adaptive": "`adaptive`, the erase alone",
    "progressive": "`progressive`: the same, to be made exact",
    "exact": "`exact`, at once",
    "refine": "`rs_refine`, all calls together",
    "longest call of rs_refine": "the longest of them, which read 128 tokens",
    "exchange": "the exchange of the caches",
    "zero all": "zeroing the old cache, all calls together",
    "longest call that zeroes": "the longest of those",
}
DRAWN = ("exact", "refine", "longest call of rs_refine", "adaptive", "progressive", "exchange")
FIRST_ANSWER, EXCHANGE = 5.0, 1.0  # milliseconds aimed at


def table(by: dict[tuple[str, int], Row], contexts: list[int]) -> list[str]:
    lines = ["| | " + " | ".join(f"{n:,} tokens" for n in contexts) + " |", "|---|" + "---|" * len(contexts)]
    for name, label in WHAT.items():
        rows = [by[name, n] for n in contexts]
        lines.append(f"| {label} | " + " | ".join(f"{r['ms']:.2f} ({r['least']:.2f} to {r['most']:.2f})" for r in rows) + " |")
    return lines


def goals(by: dict[tuple[str, int], Row], contexts: list[int]) -> list[str]:
    """What was aimed at: the first answer as soon as that of the cheap method, and an exchange that nobody notices."""
    later = max((by["progressive", n]["ms"] - by["adaptive", n]["ms"], n) for n in contexts)
    exchange = max((by["exchange", n]["ms"], n) for n in contexts)
    lines = ["| what | goal | measured, at most | |", "|---|---|---|---|"]
    for what, goal, (ms, n) in (("`progressive` minus `adaptive`", FIRST_ANSWER, later), ("the exchange", EXCHANGE, exchange)):
        lines.append(f"| {what}, medians | <= {goal:g} ms | {ms:.2f} ms, {n:,} tokens | {'met' if ms <= goal else 'missed'} |")
    return lines


def draw(by: dict[tuple[str, int], Row], contexts: list[int], path: Path) -> None:
    figure, axis = pyplot().subplots(figsize=(6.5, 4))
    for name in DRAWN:
        rows = [by[name, n] for n in contexts]
        spread = [[r["ms"] - r["least"] for r in rows], [r["most"] - r["ms"] for r in rows]]
        axis.errorbar(contexts, [r["ms"] for r in rows], yerr=spread, marker="o", markersize=4, label=name)
    axis.set(xscale="log", yscale="log", xlabel="context, tokens", ylabel="milliseconds")
    axis.set_xticks(contexts, [f"{n:,}" for n in contexts])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in sys.stdin if line.strip()]
    if not rows:
        sys.exit("refine_times.py: nothing was measured")
    by = {(row["what"], row["context"]): row for row in rows}
    contexts = sorted({row["context"] for row in rows})
    lines = [
        "# Cheap now, exact later",
        "",
        f"Made by `bench/refine.sh`; {arguments.threads} threads, medians of {rows[0]['n']} rounds in turns, in brackets the least "
        f"and the most; milliseconds. {rows[0]['span']} tokens are erased from the middle of the context. Calls of `rs_refine` are "
        "given a chunk each, as by an application that has something else to do in between.",
        "",
        "![Times against the length of the context](refine.svg)",
        "",
        *table(by, contexts),
        "",
        "## Goals",
        "",
        *goals(by, contexts),
        "",
    ]
    (arguments.out / "refine.md").write_text("\n".join(lines), encoding="utf-8")
    (arguments.out / "refine.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    draw(by, contexts, arguments.out / "refine.svg")
    print(f"wrote {arguments.out.name}/refine.md, .json and .svg")


if __name__ == "__main__":
    main()
