"""Command-line options that several programs have, and their values, checked."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .text import SPLITS


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: not a number above 0")
    return value


def numbers(text: str) -> list[int]:
    return [positive(item) for item in text.split(",")]


def words(text: str) -> list[str]:
    return text.split(",")


def share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text}: not a number from 0 to 1")
    return value


def add_runtime(parser: argparse.ArgumentParser, splits: Sequence[str] = SPLITS) -> None:
    """The tool and the model that are measured, and on what."""
    parser.add_argument("rasure", type=Path, metavar="RASURE", help="the command-line tool, as build/release has it")
    parser.add_argument("model", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--data", type=Path, required=True, help="folder of wiki_paragraphs.jsonl.gz and nq_passages.jsonl.gz")
    parser.add_argument("--split", choices=splits, default="validation", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--isa", default="auto", help="instruction set, as `rasure run --isa` takes it (default: %(default)s)")
    parser.add_argument("--jobs", type=positive, default=2, help="parts at a time (default: %(default)s)")


def parse_runtime(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, "auto" resolved: a record that says no more would let a run go on with the kernels of another machine."""
    args = parser.parse_args()
    if args.isa == "auto":
        command = [args.rasure, "info", "--json", "--model", args.model]
        try:
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            parser.error(f"{args.rasure}: {(getattr(error, 'stderr', '') or str(error)).strip()}")
        args.isa = json.loads(told)["model"]["isa"]
    return args


def add_parts(parser: argparse.ArgumentParser) -> None:
    """A measurement in parts (`rasure_training.parts`): the above, and what becomes of them."""
    add_runtime(parser)
    parser.add_argument("--out", type=Path, required=True, help="the folder of cases, outcomes and records")
    parser.add_argument("--max-tokens", type=positive, default=8, help="longest answer (default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=1, help="of each part (default: %(default)s)")


def add_page(parser: argparse.ArgumentParser, name: str, n: int = 200, tokens: int | None = 420) -> None:
    """A page of contexts that are evaluated for it. Defaults; tokens None: their length is not to be chosen."""
    parser.add_argument("--work", type=Path, required=True, help="the folder of cases and outcomes")
    parser.add_argument("--out", type=Path, required=True, help="where the page, its figures and its picture go")
    parser.add_argument("--name", default=name, help="of the three files (default: %(default)s)")
    parser.add_argument("--n", type=positive, default=n, help="contexts of each kind (default: %(default)s)")
    if tokens:
        parser.add_argument("--tokens", type=positive, default=tokens, help="length of a context, roughly (default: %(default)s)")


def add_adapters(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument("--adapter", type=Path, action="append", default=[], required=required, help="one of each kind, at most")


def add_sources(parser: argparse.ArgumentParser) -> None:
    """What a report is made of."""
    parser.add_argument("sources", type=Path, nargs="+", metavar="FOLDER", help="what measure --out named, or an archive of it")
    parser.add_argument("--archive", type=Path, help="write this archive of the outcomes")
