"""Measures erase methods in the C runtime: makes cases by task and length and lets `rasure eval` answer them.

    python -m rasure_training.eraser.measure RASURE MODEL.gguf --adapter bridge.gguf --adapter steer.gguf --data DATA --out FOLDER

Every task and length is a part: its cases, the outcomes of all methods, and a record of what they were made with are files of
FOLDER. What is there and was made with the same cases, model and options is not made again, so a run that was stopped goes on; of
methods that need an adapter, if it was made with the same adapter. `rasure_training.eraser.report` makes tables and plots of the
folder.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..arguments import add_adapters, add_parts, numbers, parse_runtime, positive, share, words
from ..evaluated import eval_command
from ..files import read_json_lines, sha256, write_json_lines
from ..parts import Part, PartError, Progress, run_parts
from ..runs import say
from ..text import DataError
from .adapter_file import KINDS, AdapterError, read_header
from .corpus import Corpus
from .draft import ERASED_WORDS, Style
from .make_cases import make_cases, task_list

METHODS = (
    "none", "exact", "drop", "shift", "repair:16", "repair:64", "repair:15%", "repair:16+shift", "repair:100%+shift",
    "adaptive", "refill", "steer:full", "steer", "bridge:16", "bridge:32", "bridge:64", "bridge:16+shift", "steer+repair:16",
)  # fmt: skip
# As asked of make_cases: about 512, 1,024, 2,048, 4,096 and 7,900 tokens come of it, the last within the model's 8,192.
LENGTHS = (420, 870, 1800, 3650, 7000)
MANY, FEW = 200, 100  # contexts a task, up to SHORT tokens and beyond
SHORT = 1024


@dataclass(frozen=True)
class MethodsPart(Part):
    """Some methods may be there and others not."""

    made_with: dict[str, str | None] = field(default_factory=dict)  # by method: SHA-256 of the adapter that it needs

    def missing(self) -> list[str]:
        if not super().is_done():
            return list(self.made_with)
        known = self.read_record().get("made_with", {})
        return [method for method, adapter in self.made_with.items() if method not in known or known[method] != adapter]

    def is_done(self) -> bool:
        return not self.missing()

    def run(self, progress: Progress) -> None:
        begin, missing, before = time.monotonic(), self.missing(), self.read_record()
        kept = read_json_lines(self.outcomes) if len(missing) < len(self.made_with) else []
        made = self.evaluate(progress, "--methods", ",".join(missing))
        by = {(row["id"], row["method"]): row for row in [*kept, *made]}
        ids = dict.fromkeys(id_ for id_, _ in by)
        write_json_lines(self.outcomes, (by[id_, method] for id_ in ids for method in self.made_with))
        tools = dict.fromkeys(missing, self.noted["rasure_sha256"])
        tools = {method: tools.get(method) or before["made_by"][method] for method in self.made_with}
        self.write_record(begin, {"methods": list(self.made_with), "made_with": self.made_with, "made_by": tools})


def adapters_of(methods: Sequence[str], adapters: Sequence[Path]) -> dict[str, str | None]:
    """By method: SHA-256 of the adapter that it needs; None where it needs none."""
    digests = {read_header(path).settings.kind: sha256(path) for path in adapters}
    return {method: next((digests.get(kind) for kind in KINDS if kind in re.split("[:+]", method)), None) for method in methods}


def plan_parts(args: argparse.Namespace) -> list[Part]:
    """Writes the cases, and says what is to be done with them."""
    common = {"max_tokens": args.max_tokens, "isa": args.isa, "model_sha256": sha256(args.model)}
    adapters = {path.name: sha256(path) for path in args.adapter}
    made_with = adapters_of(args.methods, args.adapter)
    corpus = Corpus.load(args.data, args.split)
    style = Style(args.echo, span_words=tuple(args.span_words))
    rasure_sha256 = sha256(args.rasure)
    parts = []
    for tokens in args.lengths:
        for task in args.tasks:
            n = args.n if args.n is not None else MANY if tokens <= SHORT else FEW
            name = f"{args.split}-{args.seed}-{tokens}-{task}"
            cases, outcomes, record = (
                args.out / f"{name}{suffix}" for suffix in (".cases.jsonl", ".outcomes.jsonl", ".record.json")
            )
            write_json_lines(cases, make_cases(corpus, [task], n, tokens, args.seed, style, args.erases))
            command = partial(eval_command, args.rasure, args.model, args.isa, "--max-tokens", args.max_tokens,
                              threads=args.threads, adapters=args.adapter)  # fmt: skip
            parts.append(MethodsPart(
                title=f"{task}, {tokens} tokens",
                command=command,
                cases=cases, outcomes=outcomes, record=record, wanted=common | {"cases_sha256": sha256(cases)},
                work=n * (tokens + 1000.0),
                made_with=made_with,
                noted={"adapters": adapters, "task": task, "tokens": tokens, "split": args.split, "seed": args.seed, "contexts": n,
                       "rasure_sha256": rasure_sha256},
            ))  # fmt: skip
    return parts


def measure(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    say(f"{len(args.lengths) * len(args.tasks)} parts: writing cases")
    run_parts(plan_parts(args), args.jobs)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.measure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_parts(parser)
    add_adapters(parser)
    parser.add_argument("--tasks", type=task_list, default="all", help="with commas (default: %(default)s)")
    parser.add_argument("--lengths", type=numbers, default=list(LENGTHS), metavar="LIST",
                        help=f"of contexts in tokens, roughly, with commas (default: {','.join(map(str, LENGTHS))})")  # fmt: skip
    parser.add_argument("--n", type=positive, help=f"contexts a task and length (default: {MANY} up to {SHORT}, else {FEW})")
    parser.add_argument("--methods", type=words, default=list(METHODS), metavar="LIST",
                        help=f"with commas (default: {','.join(METHODS).replace('%', '%%')})")  # fmt: skip
    parser.add_argument("--erases", type=positive, default=4, help="spans of the task several (default: %(default)s)")
    parser.add_argument("--echo", type=share, default=0.7, metavar="SHARE",
                        help="share of the facts that the next sentence refers back to (default: %(default)s)")  # fmt: skip
    parser.add_argument("--span-words", type=positive, nargs=2, default=ERASED_WORDS, metavar=("LEAST", "MOST"),
                        help="length of erased prose (default: %(default)s)")  # fmt: skip
    args = parse_runtime(parser)
    try:
        measure(args)
    except (AdapterError, DataError, PartError, OSError) as error:
        print(f"measure: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
