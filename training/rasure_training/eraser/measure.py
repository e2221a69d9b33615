"""Measures erase methods in the C runtime: makes cases by task and length and lets `rasure eval` answer them.

    python -m rasure_training.eraser.measure RASURE MODEL.gguf --adapter bridge.gguf --adapter steer.gguf --data DATA --out FOLDER

Every task and length is a part: its cases, the outcomes of all methods, and a record of what they were made with are files of
FOLDER. What is there and was made with the same cases, model and options is not made again, so a run that was stopped goes on; of
methods that need an adapter, if it was made with the same adapter. Methods that are there and not asked for stay.
`rasure_training.eraser.report` makes tables and plots of the folder.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..arguments import add_adapters, add_parts, numbers, parse_runtime, positive, share, words
from ..evaluated import eval_command
from ..files import Row, read_json_lines, sha256, write_json_lines
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
# As asked of make_cases: about 512, 1,024, 2,048, 4,096 and 7,900 tokens come of it, the last within the model's 8,192. Notes, whose
# markers count for fewer words than they have tokens, become a fifth longer: within 8,192 they are with 6000.
LENGTHS = (420, 870, 1800, 3650, 7000)
MANY, FEW = 200, 100  # contexts a task, up to SHORT tokens and beyond
SHORT = 1024


@dataclass(frozen=True)
class MethodsPart(Part):
    """Some methods may be there and others not. Those that are there stay, whether they are asked for or not, unless one that is
    asked for takes another adapter of their kind."""

    made_with: dict[str, str | None] = field(default_factory=dict)  # by method: SHA-256 of the adapter that it needs

    def before(self) -> Row:
        """The record of what is there, where that was made of the same; else empty."""
        return self.read_record() if super().is_done() else {}

    def tell_style(self) -> None:
        """Another style may give the same cases, as the number of erases does to all tasks but one: the record has that asked for
        now, so that parts made with the same options agree."""
        before = self.before()
        if "style" in before and before["style"] != self.noted["style"]:
            self.record.write_text(json.dumps(before | {"style": self.noted["style"]}, indent=1) + "\n", encoding="utf-8")

    def missing(self) -> list[str]:
        known = self.before().get("made_with", {})
        return [method for method, adapter in self.made_with.items() if method not in known or known[method] != adapter]

    def is_done(self) -> bool:
        return not self.missing()

    def kept(self, before: Row) -> dict[str, str | None]:
        """What stays, as `made_with`."""
        wanted = {kind_of(method): adapter for method, adapter in self.made_with.items()}
        known: dict[str, str | None] = before.get("made_with", {})
        return {method: adapter for method, adapter in known.items() if wanted.get(kind_of(method), adapter) == adapter}

    def adapters(self, before: Row, made_with: dict[str, str | None]) -> dict[str, str]:
        """By name, those given now; where methods stay that were made with others, those that something was made with."""
        given, used = self.noted["adapters"], set(made_with.values())
        others = {name: digest for name, digest in before.get("adapters", {}).items()
                  if digest in used and digest not in given.values()}  # fmt: skip
        return {name: digest for name, digest in given.items() if digest in used} | others if others else given

    def run(self, progress: Progress) -> None:
        begin, missing, before = time.monotonic(), self.missing(), self.before()
        kept = self.kept(before)
        rows = read_json_lines(self.outcomes) if kept else []
        rows += self.evaluate(progress, "--methods", ",".join(missing))
        by = {(row["id"], row["method"]): row for row in rows}
        # In the order of the first run, so that tables of several parts agree.
        order = [method for method in dict.fromkeys([*before.get("made_with", {}), *self.made_with])
                 if method in kept or method in self.made_with]  # fmt: skip
        write_json_lines(self.outcomes, (by[id_, method] for id_ in dict.fromkeys(id_ for id_, _ in by) for method in order))
        made_with = {method: (kept | self.made_with)[method] for method in order}
        made_by = {method: self.noted["rasure_sha256"] if method in missing else before["made_by"][method] for method in order}
        self.write_record(begin, {"adapters": self.adapters(before, made_with), "methods": order, "made_with": made_with,
                                  "made_by": made_by})  # fmt: skip


def kind_of(method: str) -> str:
    """Of the adapter that it needs; "": none."""
    return next((kind for kind in KINDS if kind in re.split("[:+]", method)), "")


def adapters_of(methods: Sequence[str], adapters: Sequence[Path]) -> dict[str, str | None]:
    """By method: SHA-256 of the adapter that it needs; None where it needs none."""
    digests = {read_header(path).settings.kind: sha256(path) for path in adapters}
    return {method: digests.get(kind_of(method)) for method in methods}


def plan_parts(args: argparse.Namespace) -> list[MethodsPart]:
    """Writes the cases, and says what is to be done with them."""
    common = {"max_tokens": args.max_tokens, "isa": args.isa, "model_sha256": sha256(args.model)}
    adapters = {path.name: sha256(path) for path in args.adapter}
    made_with = adapters_of(args.methods, args.adapter)
    corpus = Corpus.load(args.data, args.split)
    style = Style(args.echo, span_words=tuple(args.span_words))
    told = {"echo": args.echo, "erases": args.erases, "span_words": list(args.span_words)}
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
                       "rasure_sha256": rasure_sha256, "style": told},
            ))  # fmt: skip
    return parts


def measure(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    say(f"{len(args.lengths) * len(args.tasks)} parts: writing cases")
    parts = plan_parts(args)
    for part in parts:
        part.tell_style()
    run_parts(parts, args.jobs)


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
