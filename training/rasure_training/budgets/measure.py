"""Measures policies of the KV cache in the C runtime: makes tasks by length and lets `rasure eval` answer them under every arm.

    python -m rasure_training.budgets.measure RASURE MODEL.gguf --arms training/configs/budgets.toml --data DATA --out FOLDER

Every arm, budget, task and length is a part, as in `rasure_training.eraser.measure`: a run that was stopped goes on. A budget that
cannot hold what the arm needs is recorded as refused, with the tool's sentence. Run from the root of the repository: the arms name
files there.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ..arguments import add_parts, numbers, parse_runtime, positive, words
from ..evaluated import eval_command
from ..files import sha256, write_json_lines
from ..parts import Part, PartError, run_parts
from ..runs import ConfigError, say
from ..text import DataError
from .arms import Arm, load_arms
from .make_tasks import ALL, load_texts, make_tasks, task_list

LENGTHS = (1000, 2000, 4000, 7500)  # as asked of make_tasks; within the model's 8,192 with the answers
REFUSAL = "is too small"


def files_among(options: list[str]) -> dict[str, str]:
    """The files that options name, by their hashes: another file is another measurement."""
    return {option: sha256(Path(option)) for option in options if Path(option).is_file()}


def chosen(args: argparse.Namespace) -> Iterator[tuple[int, Arm, str]]:
    """Arms that are wanted, each with its place in the file and every budget that is wanted."""
    arms = load_arms(args.arms)
    for name in sorted(set(args.only) - {arm.name for arm in arms}):
        raise ConfigError(f"{args.arms} has no arm {name}")
    for order, arm in enumerate(arms):
        if args.only and arm.name not in args.only:
            continue
        for budget in arm.budgets:
            if not budget or not args.budgets or budget in args.budgets:
                yield order, arm, budget


def plan_parts(args: argparse.Namespace) -> list[Part]:
    """Writes the tasks, and says what is to be done with them."""
    arms = list(chosen(args))
    texts = load_texts(args.data, args.split)
    model_sha256, rasure_sha256 = sha256(args.model), sha256(args.rasure)
    parts = []
    for tokens in args.lengths:
        for task in args.tasks:
            stem = f"{args.split}-{args.seed}-{tokens}-{task}"
            cases = args.out / f"{stem}.cases.jsonl"
            made = list(make_tasks(texts, [task], args.n, tokens, args.seed))
            write_json_lines(cases, made)
            cases_sha256 = sha256(cases)
            for order, arm, budget in arms:
                name = f"{stem}-{arm.name}" + (f"-{re.sub('[^A-Za-z0-9.]', '', budget)}" if budget else "")
                outcomes, record = args.out / f"{name}.outcomes.jsonl", args.out / f"{name}.record.json"
                options = arm.options_at(budget)
                command = partial(eval_command, args.rasure, args.model, args.isa, "--max-tokens", args.max_tokens, "--batch",
                                  args.batch, *options, threads=args.threads)  # fmt: skip
                parts.append(Part(
                    title=f"{arm.name} {budget or 'whole'}, {task}, {tokens} tokens",
                    command=command,
                    cases=cases, outcomes=outcomes, record=record,
                    wanted={"options": options, "files": files_among(options), "max_tokens": args.max_tokens,
                            "batch": args.batch, "isa": args.isa, "model_sha256": model_sha256, "cases_sha256": cases_sha256},
                    work=len(made) * tokens * (1.0 + tokens / 8000.0),
                    noted={"arm": arm.name, "order": order, "budget": budget, "task": task, "tokens": tokens, "split": args.split,
                           "seed": args.seed, "contexts": len(made), "rasure_sha256": rasure_sha256},
                    refusal=REFUSAL,
                ))  # fmt: skip
    return parts


def measure(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    say("writing tasks")
    run_parts(plan_parts(args), args.jobs)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.budgets.measure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_parts(parser)
    parser.add_argument("--arms", type=Path, required=True, help="TOML file of arms")
    parser.add_argument("--only", type=words, default=[], metavar="LIST", help="arms, with commas (default: all of the file)")
    parser.add_argument("--budgets", type=words, default=[], metavar="LIST",
                        help="of the arms that have one, with commas (default: all of the file)")  # fmt: skip
    parser.add_argument("--tasks", type=task_list, default="all", help=f"with commas, or all: {', '.join(ALL)}")
    parser.add_argument("--lengths", type=numbers, default=list(LENGTHS), metavar="LIST",
                        help=f"of contexts in tokens, roughly, with commas (default: {','.join(map(str, LENGTHS))})")  # fmt: skip
    parser.add_argument("--n", type=positive, default=200, help="contexts a task and length (default: %(default)s)")
    parser.add_argument("--batch", type=positive, default=128, help="tokens read at a time (default: %(default)s)")
    args = parse_runtime(parser)
    try:
        measure(args)
    except (ConfigError, DataError, PartError, OSError) as error:
        print(f"measure: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
