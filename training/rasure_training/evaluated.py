"""What `rasure eval` says of lists of cases."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .files import Row, read_json_lines, sha256, write_json_lines
from .parts import Part, run_parts


def eval_command(
    tool: Path, model: Path, isa: str, *options: object, cases: Path, threads: int = 1, adapters: Sequence[Path] = ()
) -> list[str]:
    command = [tool, "eval", cases, "--model", model, "--threads", threads, "--isa", isa, *options]
    for adapter in adapters:
        command += ["--eraser", adapter]
    return list(map(str, command))


def made_with(args: argparse.Namespace, adapters: Sequence[Path] = ()) -> Row:
    """What a page says of how its figures were measured. args: as for `evaluated`, and n."""
    return {
        "split": args.split, "seed": args.seed, "contexts": args.n, "tokens": getattr(args, "tokens", None), "isa": args.isa,
        "model_sha256": sha256(args.model), "adapters": {adapter.name: sha256(adapter) for adapter in adapters},
    }  # fmt: skip


def evaluated(
    args: argparse.Namespace, cases: dict[str, Sequence[Row]], *options: object, adapters: Sequence[Path] = ()
) -> dict[str, list[Row]]:
    """The outcomes of several lists of cases, by their titles: made, or found in the folder args.work. The other arguments are
    those of `arguments.add_runtime`."""
    args.work.mkdir(parents=True, exist_ok=True)
    model, rasure = sha256(args.model), sha256(args.rasure)
    parts = {}
    for title, rows in cases.items():
        path, outcomes, record = (args.work / f"{args.split}-{title.replace(' ', '-')}{suffix}"
                                  for suffix in (".cases.jsonl", ".outcomes.jsonl", ".record.json"))  # fmt: skip
        write_json_lines(path, rows)
        command = partial(eval_command, args.rasure, args.model, args.isa, *options, adapters=adapters)
        wanted = {"cases_sha256": sha256(path), "model_sha256": model, "isa": args.isa, "options": list(map(str, options))}
        if adapters:
            wanted["adapters"] = {adapter.name: sha256(adapter) for adapter in adapters}
        parts[title] = Part(title, command, path, outcomes, record, wanted, len(rows), {"rasure_sha256": rasure})
    run_parts(list(parts.values()), args.jobs)
    return {title: read_json_lines(part.outcomes) for title, part in parts.items()}
