"""Writes contexts with questions that a KV cache under a budget is tried on, for `rasure eval --policy`.

    python -m rasure_training.budgets.make_tasks --tasks all --n 200 --tokens 1024 --data DIR --out tasks.jsonl

Needs no model. The same arguments give the same file. The texts are Wikipedia's (CC BY-SA), and so is the result.
`rasure_training.budgets.tasks` describes the tasks; "text" is long text without questions (`long_texts`), of which there may be less
than was asked for. Fields of a line:

  id, task, family, split   what it is a case of
  context      cases with the same one are no independent observations
  pieces       the context, tokenized piece by piece
  markers      true: markers of the chat template count in pieces and questions
  questions    asked one after the other: question, cue (the beginning of the answer), answers (with the space before them), and
               evidence, the numbers of the pieces that hold what must be known
  text         in place of pieces, markers and questions
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..arguments import positive
from ..files import write_json_lines
from ..text import SPLITS, DataError, load_split
from .long_texts import long_texts
from .tasks import TASKS, Draft, Item, Texts

TEXT = "text"
ALL = (*TASKS, TEXT)


def make_item(name: str, texts: Texts, task: str, n_tokens: int) -> Item:
    for attempt in range(100):
        try:
            return TASKS[task](Draft(random.Random(f"{name} {attempt}"), texts, n_tokens))
        except DataError as error:
            last = error
    raise last


def make_tasks(texts: Texts, tasks: list[str], n: int, n_tokens: int, seed: int) -> Iterator[dict[str, Any]]:
    """n contexts a task, of the long texts as many as there are."""
    for task in tasks:
        group = f"{task}-{texts.split}-{n_tokens}-{seed}"
        if task == TEXT:
            for i, (title, text) in enumerate(long_texts(random.Random(group), texts, n, n_tokens)):
                yield {"id": f"{group}-{i}", "context": title, "task": task, "split": texts.split, "text": text}
            continue
        for i in range(n):
            name = f"{group}-{i}"
            item = make_item(name, texts, task, n_tokens)
            yield {
                "id": name, "context": name, "task": task, "family": item.family, "split": texts.split, "pieces": item.pieces,
                "markers": True, "questions": [asdict(asked) for asked in item.questions],
            }  # fmt: skip


def load_texts(folder: Path, split: str) -> Texts:
    return Texts(split, load_split(folder, split))


def task_list(text: str) -> list[str]:
    tasks = list(ALL) if text == "all" else text.split(",")
    for task in tasks:
        if task not in ALL:
            raise argparse.ArgumentTypeError(f"{task} is none of {', '.join(ALL)}")
    return tasks


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.budgets.make_tasks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=task_list, default="all", help=f"with commas, or all: {', '.join(ALL)}")
    parser.add_argument("--n", type=positive, default=200, help="contexts a task (default: %(default)s)")
    parser.add_argument("--tokens", type=positive, default=1024, help="length of a context, roughly (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--split", choices=SPLITS, default="validation", help="(default: %(default)s)")
    parser.add_argument("--data", type=Path, required=True, help="folder of wiki_paragraphs.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, one JSON object a line")
    args = parser.parse_args()
    try:
        texts = load_texts(args.data, args.split)
        write_json_lines(args.out, make_tasks(texts, args.tasks, args.n, args.tokens, args.seed))
    except (DataError, OSError) as error:
        print(f"make_tasks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
