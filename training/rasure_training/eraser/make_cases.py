"""Writes evaluation cases of the eraser's tasks, for `rasure eval` and for `rasure_training.eraser.evaluate`.

    python -m rasure_training.eraser.make_cases --tasks conflict,redact --n 200 --tokens 512 --data DIR --out cases.jsonl

Needs no model. The same arguments give the same file. The texts are Wikipedia's (CC BY-SA), and so is the result.
`rasure_training.eraser.cases` describes the fields.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..arguments import positive, share
from ..files import write_json_lines
from ..text import SPLITS, DataError
from .cases import document_cases
from .corpus import Corpus
from .draft import ERASED_WORDS, Style
from .tasks import TASKS, evaluation_document


def make_cases(
    corpus: Corpus, tasks: list[str], n: int, n_tokens: int, seed: int, style: Style, erases: int
) -> Iterator[dict[str, Any]]:
    """n contexts a task, and as many cases, or more where a context is asked twice."""
    for task in tasks:
        for index in range(n):
            name = f"{task}-{corpus.split}-{n_tokens}-{seed}-{index}"
            for attempt in range(100):
                try:
                    document = evaluation_document(random.Random(f"{name} {attempt}"), corpus, task, n_tokens, style, erases)
                    break
                except DataError as error:
                    last = error
            else:
                raise last
            # Documents about one article are no independent observations; neither are two questions to one document.
            title = document.units[0].details.get("title")
            yield from document_cases(document, name, f"{task} {title}" if title else name, corpus.split)


def task_list(text: str) -> list[str]:
    tasks = list(TASKS) if text == "all" else text.split(",")
    for task in tasks:
        if task not in TASKS:
            raise argparse.ArgumentTypeError(f"{task} is none of {', '.join(TASKS)}")
    return tasks


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.eraser.make_cases", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=task_list, default="all", help=f"with commas, or all: {', '.join(TASKS)}")
    parser.add_argument("--n", type=positive, default=100, help="contexts a task (default: %(default)s)")
    parser.add_argument("--tokens", type=positive, default=512, help="length of a context, roughly (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--echo", type=share, default=0.7, metavar="SHARE",
                        help="share of the facts that the next sentence refers back to (default: %(default)s)")  # fmt: skip
    parser.add_argument("--erases", type=positive, default=4, help="spans of the task several (default: %(default)s)")
    parser.add_argument("--span-words", type=positive, nargs=2, default=ERASED_WORDS, metavar=("LEAST", "MOST"),
                        help="length of erased prose (default: %(default)s)")  # fmt: skip
    parser.add_argument("--split", choices=SPLITS, default="validation", help="(default: %(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="folder of wiki_paragraphs.jsonl.gz and nq_passages.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, one JSON object a line")
    args = parser.parse_args()
    try:
        corpus = Corpus.load(args.data, args.split)
        style = Style(args.echo, span_words=tuple(args.span_words))
        write_json_lines(args.out, make_cases(corpus, args.tasks, args.n, args.tokens, args.seed, style, args.erases))
    except (DataError, OSError) as error:
        print(f"make_cases: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
