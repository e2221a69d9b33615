"""Figures by task and method of what `rasure eval --per-case` has written, as `evaluate` gives them for PyTorch.

    python -m rasure_training.eraser.summary outcomes.jsonl [--out figures.json]

Intervals are 95 % percentiles of a bootstrap that draws whole contexts.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..files import read_json_lines
from .cases import task_of
from .evaluate import markdown, summarise

# By the name in the runtime's outcomes.
FIELDS = {
    "exact_match": "exact_match", "leak": "leak", "kl_to_exact": "kl", "kl_target": "kl_target", "agree_with_exact": "agree",
    "leak_logprob": "leak_logprob", "leak_minus_clean": "leak_minus_clean",
}  # fmt: skip


def outcome(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the runtime as one of `evaluate.Evaluator.run`. What a case does not have is null there and missing here."""
    known = {name: row[field] for field, name in FIELDS.items() if row.get(field) is not None}
    if row.get("probe") == "prose":  # free continuation says nothing about prose, whose text is given
        known = {name: value for name, value in known.items() if name == "kl_target"}
    return {"id": row["id"], "context": row.get("context", row["id"]), "task": task_of(row), "method": row["method"], **known}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.summary", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("outcomes", type=Path, nargs="+", help="files of rasure eval --per-case")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    args = parser.parse_args()
    try:
        figures = summarise([outcome(row) for path in args.outcomes for row in read_json_lines(path)])
        print(markdown(figures))
        if args.out:
            args.out.write_text(json.dumps({"figures": figures}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except (OSError, ValueError, KeyError) as error:
        print(f"summary: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
