"""What the runtime's `auto` expects of a method, fitted, and how good that is.

    python -m rasure_training.eraser.measure RASURE MODEL --data DATA --split validation --out FITTED \\
        --methods exact,shift,repair:16+shift,adaptive
    python -m rasure_training.eraser.calibrate fit FITTED --model MODEL --out docs
    python -m rasure_training.eraser.measure RASURE MODEL --data DATA --split test --out TRIED --methods exact,auto:kl=0.01,...
    python -m rasure_training.eraser.calibrate report TRIED --out docs

`fit` writes erase_calibration.json and prints the same numbers as runtime/auto.c has them; `report` makes a page, erase_auto.md
or what --name says, and its picture. Of each case there are two numbers, from the echoes (`rasure_training.eraser.engine.echoes`)
of the tokens that a method leaves as they are: the strongest and the sum. The logarithm of KL(exact || method) is fitted to them by
least squares; a slope that comes out below 0 is left out. The spread is such that 95 % of the cases lie below its 1.645 fold.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import archive
from ..archive import MeasuredError, Row
from ..figures import clustered
from ..gguf_model import ModelError, load_model
from ..pages import page
from .cases import encode_case, read_cases
from .documents import Encoder
from .engine import ECHO_BOUND, NEAR, echo_of, holes_of, words_of
from .measured import case_row

METHODS = {"shift": "shift", "repair": f"repair:{NEAR}+shift", "adaptive": "adaptive"}
MOST_ECHO = 2.0  # as in the runtime
LEAST_KL = 1e-5  # nats; what is below is counted as this
NORMAL_95 = 1.645


# ----------------------------------------------------------------------------------------------------------- fit


def evidence(tokens: Sequence[int], spans: Sequence[tuple[int, int]]) -> dict[str, tuple[float, float]]:
    """By method: the strongest echo, and the sum of all, of the tokens that it leaves as they are. Empty where no tokens follow
    that could have absorbed anything: nothing has to be estimated there."""
    words = words_of(torch.tensor(tokens), spans)
    left = [token for i, token in enumerate(tokens) if not any(begin <= i < end for begin, end in spans)]
    holes = holes_of(spans)
    if holes[0] == len(left):
        return {}
    echo = np.array(echo_of(left, words, holes[0]))
    near = np.array([any(hole <= i < hole + NEAR for hole in holes) for i in range(holes[0], len(left))], dtype=bool)
    kept = {"shift": np.ones(len(echo), dtype=bool), "repair": ~near, "adaptive": ~near & (echo < ECHO_BOUND)}
    return {name: (float(echo[mask].max(initial=0.0)), float(echo[mask].sum())) for name, mask in kept.items()}


def features(strongest: float, total: float) -> tuple[float, float, float]:
    return 1.0, min(strongest, MOST_ECHO), math.log1p(total)


def fit(x: np.ndarray, log_kl: np.ndarray) -> Row:
    """x: [n, 3] of `features`; the runtime's rs_erase_fit."""
    used = [0, 1, 2]
    while True:
        slopes = dict(zip(used, np.linalg.lstsq(x[:, used], log_kl, rcond=None)[0], strict=True))
        below = [column for column in used[1:] if slopes[column] < 0]
        if not below:
            break
        used.remove(min(below, key=lambda column: slopes[column]))
    left = log_kl - sum(slopes[column] * x[:, column] for column in used)
    return {
        "level": round(float(slopes[0]), 3), "by_strongest": round(float(slopes.get(1, 0)), 3),
        "by_sum": round(float(slopes.get(2, 0)), 3), "spread": round(float(np.percentile(left, 95)) / NORMAL_95, 3),
        "n": len(log_kl), "explained": round(1 - float(left.var() / log_kl.var()), 3),
        "within_2x": round(float((np.abs(left) < math.log(2)).mean()), 3),
    }  # fmt: skip


def hindsight(log_kl: Sequence[float], contexts: Sequence[str]) -> Row:
    """What no estimate that does not know the question can do better: of the contexts that were asked several questions, the share of
    pairs of them that are within 2x of each other, and of questions that are within 2x of the mean of their context."""
    by: dict[str, list[float]] = defaultdict(list)
    for value, context in zip(log_kl, contexts, strict=True):
        by[context].append(value)
    groups = [values for values in by.values() if len(values) > 1]
    pairs = [abs(a - b) for values in groups for i, a in enumerate(values) for b in values[:i]]
    apart = [abs(value - sum(values) / len(values)) for values in groups for value in values]
    return {
        "pairs": len(pairs), "pairs_within_2x": round(float((np.array(pairs) < math.log(2)).mean()), 3) if pairs else None,
        "hindsight_within_2x": round(float((np.array(apart) < math.log(2)).mean()), 3) if pairs else None,
    }  # fmt: skip


def fit_command(args: argparse.Namespace) -> None:
    records, rows = archive.collect(args.sources, lambda record, outcomes: [case_row(row, record["tokens"]) for row in outcomes],
                                    ("model_sha256", "isa", "split"))  # fmt: skip
    if any(record["split"] == "test" for record in records):
        raise MeasuredError("the test split is not for fitting")
    encoder = Encoder(load_model(args.model).file)
    known: dict[str, dict[str, tuple[float, float]]] = {}
    for path in sorted(path for folder in args.sources for path in folder.glob("*.cases.jsonl")):
        for case in read_cases(path):
            document = encode_case(encoder, case)
            known[case["id"]] = evidence(document.tokens, document.units[0].spans)
    fits = {}
    for name, method in METHODS.items():
        mine = [row for row in rows if row["method"] == method and "kl" in row and known[row["id"]]]
        if not mine:
            raise MeasuredError(f"no outcomes of {method} are there")
        x = np.array([features(*known[row["id"]][name]) for row in mine])
        log_kl = np.log([max(row["kl"], LEAST_KL) for row in mine])
        fits[name] = fit(x, log_kl) | hindsight(log_kl.tolist(), [row["context"] for row in mine])
    made_of = {"split": records[0]["split"], "isa": records[0]["isa"], "tokens": sorted({record["tokens"] for record in records}),
               "contexts": sum(record["contexts"] for record in records)}  # fmt: skip
    path = args.out / "erase_calibration.json"
    path.write_text(json.dumps({"made_of": made_of} | fits, indent=1) + "\n", encoding="utf-8")
    for name, values in fits.items():
        print(
            f"        .{name} = {{{', '.join(f'{values[key]:.3f}f' for key in ('level', 'by_strongest', 'by_sum', 'spread'))}}},"
        )


# -------------------------------------------------------------------------------------------------------- report

CHOICE = ("taken", "expected_kl", "expected_kl_most", "expected_ms")


def _auto_rows(record: Row, outcomes: list[Row]) -> list[Row]:
    found = []
    for row in outcomes:
        known = case_row(row, record["tokens"])
        if "taken" in row and "kl" in known:
            found.append({key: known[key] for key in ("id", "context", "task", "method", "kl", "tokens", "erase_ms", "n_recomputed")}
                         | {key: row[key] for key in CHOICE})  # fmt: skip
    return found


def limit_of(method: str, name: str) -> float | None:
    return next((float(part.removeprefix(f"{name}=")) for part in method.split(":") if part.startswith(f"{name}=")), None)


def _share(rows: Sequence[Row], holds: Any) -> Row | None:
    return clustered([float(holds(row)) for row in rows], [row["context"] for row in rows]) if rows else None


def figures_of(rows: Sequence[Row]) -> list[Row]:
    found = []
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        estimated = [row for row in mine if row["expected_kl"] > 0]
        max_kl, max_ms = limit_of(method, "kl"), limit_of(method, "ms")
        timed = [row for row in mine if row["expected_ms"] > 0]
        found.append({
            "method": method, "n": len(mine),
            "points": {name: [[row["id"], row["expected_kl"], max(row["kl"], LEAST_KL)] for row in estimated if row["taken"] == name]
                       for name in METHODS},
            "taken": {name: sum(row["taken"] == name for row in mine) / len(mine) for name in (*METHODS, "exact")},
            "tokens": clustered([row["n_recomputed"] for row in mine], [row["context"] for row in mine]),
            "kl": clustered([row["kl"] for row in mine], [row["context"] for row in mine]),
            "above": None if max_kl is None else _share(mine, lambda row: row["kl"] > max_kl),
            "above_twice": None if max_kl is None else _share(mine, lambda row: row["kl"] > 2 * max_kl),
            "late": None if max_ms is None else _share(mine, lambda row: row["erase_ms"] > max_ms),
            "time": _share(timed, lambda row: 0.5 <= row["erase_ms"] / row["expected_ms"] <= 2),
            "within_2x": _share(mine, within_2x),
            "within_2x_estimated": _share(estimated, within_2x),
            "below_median": _share(estimated, lambda row: row["kl"] <= row["expected_kl"]),
            "below_most": _share(estimated, lambda row: row["kl"] <= row["expected_kl_most"]),
        })  # fmt: skip
    return found


def within_2x(row: Row) -> bool:
    """Nothing, where nothing was expected."""
    if row["expected_kl"] == 0:
        return row["kl"] <= LEAST_KL
    return 0.5 <= max(row["kl"], LEAST_KL) / row["expected_kl"] <= 2


def report_command(args: argparse.Namespace) -> None:
    records, rows = archive.collect(args.sources, _auto_rows, ("model_sha256", "isa", "split", "methods"))
    if not rows:
        raise MeasuredError(f"{', '.join(map(str, args.sources))}: no outcomes of auto are there")
    if args.archive:
        archive.save(args.archive, records, rows)
    how = {
        "split": records[0]["split"], "isa": records[0]["isa"], "model_sha256": records[0]["model_sha256"],
        "contexts": sum(part["contexts"] for part in records), "tokens": sorted({part["tokens"] for part in records}),
        "cases": len({row["id"] for row in rows}), "tasks": len({part["task"] for part in records}), "least_kl": LEAST_KL,
    }  # fmt: skip
    page.write(args.out, args.name, "erase_auto", how, figures_of(rows))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit", help="from folders of measure, of another split than test")
    fitting.add_argument("--model", type=Path, required=True, metavar="MODEL.gguf", help="whose tokenizer it is")
    fitting.set_defaults(run=fit_command)
    reporting = commands.add_parser("report", help="of folders of measure, or of an archive of them")
    reporting.add_argument("--name", default="erase_auto", help="of the files (default: %(default)s)")
    reporting.add_argument("--archive", type=Path, help="write this archive of the outcomes")
    reporting.set_defaults(run=report_command)
    for command in (fitting, reporting):
        command.add_argument("sources", type=Path, nargs="+", metavar="FOLDER", help="what measure --out named")
        command.add_argument("--out", type=Path, required=True, help="where the files go")
    args = parser.parse_args()
    try:
        args.run(args)
    except (OSError, ValueError, KeyError, MeasuredError, ModelError) as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
