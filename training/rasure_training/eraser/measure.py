"""Measures erase methods in the C runtime: makes cases by task and length and lets `rasure eval` answer them.

    python -m rasure_training.eraser.measure RASURE MODEL.gguf --adapter bridge.gguf --adapter steer.gguf --data DATA --out FOLDER

Every task and length is a part: its cases, the outcomes of all methods, and a record of what they were made with are files of
FOLDER. Parts that are there and were made with the same cases, model, adapters and options are not made again, so a run that was
stopped goes on. `rasure_training.eraser.report` makes tables and plots of the folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arguments import positive, share
from ..files import sha256, write_json_lines
from ..runs import duration, say
from ..text import SPLITS, DataError
from .make_cases import make_cases, task_list
from .tasks import ERASED_WORDS, Corpus, Style

METHODS = (
    "none", "exact", "drop", "shift", "repair:16", "repair:64", "repair:15%", "refill", "steer:full", "steer", "bridge:16",
    "bridge:32", "bridge:64", "bridge:16+shift", "bridge:64+shift", "steer+repair:16",
)  # fmt: skip
# As asked of make_cases: about 512, 1,024, 2,048, 4,096 and 7,900 tokens come of it, the last within the model's 8,192.
LENGTHS = (420, 870, 1800, 3650, 7000)
MANY, FEW = 200, 100  # contexts a task, up to SHORT tokens and beyond
SHORT = 1024


class MeasureError(Exception):
    """The measurement cannot go on; the message says why."""


@dataclass(frozen=True)
class Part:
    task: str
    tokens: int
    n: int
    cases: Path
    outcomes: Path
    record: Path

    @property
    def work(self) -> float:
        """What it costs, roughly, in tokens."""
        return self.n * (self.tokens + 1000.0)


def plan_parts(folder: Path, split: str, tasks: Sequence[str], lengths: Sequence[int], n: int | None, seed: int) -> list[Part]:
    parts = []
    for tokens in lengths:
        for task in tasks:
            name = f"{split}-{seed}-{tokens}-{task}"
            count = n if n is not None else MANY if tokens <= SHORT else FEW
            files = (folder / f"{name}{suffix}" for suffix in (".cases.jsonl", ".outcomes.jsonl", ".record.json"))
            parts.append(Part(task, tokens, count, *files))
    return parts


def is_done(part: Part, wanted: dict[str, Any]) -> bool:
    """Whether the part's record says that its outcomes are those of `wanted`, whatever else it says."""
    try:
        record = json.loads(part.record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return part.outcomes.exists() and all(record.get(key) == value for key, value in wanted.items())


def run_part(part: Part, args: argparse.Namespace, wanted: dict[str, Any]) -> None:
    command = [str(args.rasure), "eval", str(part.cases), "--model", str(args.model), "--threads", str(args.threads)]
    command += ["--methods", ",".join(args.methods), "--max-tokens", str(args.max_tokens), "--per-case", str(part.outcomes)]
    for adapter in args.adapter:
        command += ["--eraser", str(adapter)]
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasureError(f"{part.cases.name}: {done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode}")
    record = wanted | {
        "task": part.task, "tokens": part.tokens, "split": args.split, "seed": args.seed, "contexts": part.n,
        "rasure_sha256": sha256(args.rasure), "seconds": round(time.monotonic() - begin, 1),
    }  # fmt: skip
    part.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measure(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    parts = plan_parts(args.out, args.split, args.tasks, args.lengths, args.n, args.seed)
    common = {
        "methods": list(args.methods), "max_tokens": args.max_tokens, "model_sha256": sha256(args.model),
        "adapters": {path.name: sha256(path) for path in args.adapter},
    }  # fmt: skip
    say(f"{len(parts)} parts: writing cases")
    corpus = Corpus.load(args.data, args.split)
    style = Style(args.echo, span_words=tuple(args.span_words))
    waiting = []
    for part in parts:
        write_json_lines(part.cases, make_cases(corpus, [part.task], part.n, part.tokens, args.seed, style, args.erases))
        wanted = common | {"cases_sha256": sha256(part.cases)}
        if not is_done(part, wanted):
            waiting.append((part, wanted))
    say(f"{len(parts) - len(waiting)} parts are there already")

    begin, done = time.monotonic(), 0.0
    total = sum(part.work for part, _ in waiting)
    with ThreadPoolExecutor(args.jobs) as pool:
        running = {pool.submit(run_part, part, args, wanted): part for part, wanted in waiting}
        try:
            for future in as_completed(running):
                future.result()
                part = running[future]
                done += part.work
                left = (time.monotonic() - begin) * (total - done) / done
                say(f"{part.task}, {part.tokens} tokens: done; {duration(left)} left")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def numbers(text: str) -> list[int]:
    return [positive(item) for item in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.measure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rasure", type=Path, metavar="RASURE", help="the command-line tool, as build/release has it")
    parser.add_argument("model", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--adapter", type=Path, action="append", default=[], help="one of each kind, at most")
    parser.add_argument("--data", type=Path, required=True, help="folder of wiki_paragraphs.jsonl.gz and nq_passages.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="the folder of cases, outcomes and records")
    parser.add_argument("--split", choices=SPLITS, default="validation", help="(default: %(default)s)")
    parser.add_argument("--tasks", type=task_list, default="all", help="with commas (default: %(default)s)")
    parser.add_argument("--lengths", type=numbers, default=list(LENGTHS), metavar="LIST",
                        help=f"of contexts in tokens, roughly, with commas (default: {','.join(map(str, LENGTHS))})")  # fmt: skip
    parser.add_argument("--n", type=positive, help=f"contexts a task and length (default: {MANY} up to {SHORT}, else {FEW})")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS), metavar="LIST",
                        help=f"with commas (default: {','.join(METHODS).replace('%', '%%')})")  # fmt: skip
    parser.add_argument("--max-tokens", type=positive, default=8, help="longest answer (default: %(default)s)")
    parser.add_argument("--erases", type=positive, default=4, help="spans of the task several (default: %(default)s)")
    parser.add_argument("--echo", type=share, default=0.7, metavar="SHARE",
                        help="share of the facts that the next sentence refers back to (default: %(default)s)")  # fmt: skip
    parser.add_argument("--span-words", type=positive, nargs=2, default=ERASED_WORDS, metavar=("LEAST", "MOST"),
                        help="length of erased prose (default: %(default)s)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--jobs", type=positive, default=2, help="parts at a time (default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=1, help="of each (default: %(default)s)")
    args = parser.parse_args()
    try:
        measure(args)
    except (DataError, MeasureError, OSError) as error:
        print(f"measure: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
