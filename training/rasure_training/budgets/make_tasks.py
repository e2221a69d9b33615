"""Writes contexts with questions, and long texts, for `rasure eval` to try a KV cache on.

    python -m rasure_training.budgets.make_tasks --tasks all --n 200 --tokens 1024 --split test --data DATA --out tasks.jsonl

Needs no model. The same arguments give the same file. Every line is a case as `rasure eval --help` describes them, with "family",
"split" and "context", which names what is not independent of each other. Task `text` gives paragraphs of different articles, one
after the other, each paragraph once in a file as far as there are enough. The texts are Wikipedia's (CC BY-SA), and so is the result.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..arguments import positive
from ..files import write_json_lines
from ..text import SPLITS, DataError, Paragraph, load_split
from .tasks import TASKS, WORDS_PER_TOKEN, Draft, Item, Texts

TEXT = "text"
ALL = (*TASKS, TEXT)
ATTEMPTS = 100


def make_item(task: str, name: str, texts: Texts, n_tokens: int) -> Item:
    """The prose that is drawn may have nothing that the task can be made of: then other prose is drawn."""
    for attempt in range(ATTEMPTS):
        try:
            return TASKS[task](Draft(random.Random(f"{name} {attempt}"), texts, n_tokens))
        except DataError as error:
            last = error
    raise last


def question_cases(task: str, n: int, texts: Texts, n_tokens: int, seed: int) -> Iterator[dict[str, Any]]:
    for index in range(n):
        name = f"{task}-{texts.split}-{n_tokens}-{seed}-{index}"
        item = make_item(task, name, texts, n_tokens)
        questions = [
            {"question": q.question, "cue": q.cue, "answers": list(q.answers), "evidence": list(q.evidence)}
            for q in item.questions
        ]
        yield {
            "id": name, "context": name, "task": task, "family": item.family, "split": texts.split,
            "pieces": list(item.pieces), "markers": True, "questions": questions,
        }  # fmt: skip


def _paragraphs(random_: random.Random, paragraphs: list[Paragraph]) -> Iterator[Paragraph]:
    """All of them in random order, again and again."""
    while True:
        yield from random_.sample(paragraphs, len(paragraphs))


def text_cases(n: int, texts: Texts, n_tokens: int, seed: int) -> Iterator[dict[str, Any]]:
    source = _paragraphs(random.Random(f"text {texts.split} {seed}"), texts.paragraphs)
    for index in range(n):
        name = f"{TEXT}-{texts.split}-{n_tokens}-{seed}-{index}"
        written, n_words = [], 0
        while n_words < n_tokens * WORDS_PER_TOKEN:
            paragraph = next(source)
            written.append(paragraph.text)
            n_words += len(paragraph.text.split())
        yield {"id": name, "context": name, "task": TEXT, "split": texts.split, "text": "\n\n".join(written)}


def make_cases(tasks: list[str], n: int, texts: Texts, n_tokens: int, seed: int) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield from text_cases(n, texts, n_tokens, seed) if task == TEXT else question_cases(task, n, texts, n_tokens, seed)


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
        texts = Texts(args.split, load_split(args.data, args.split))
        write_json_lines(args.out, make_cases(args.tasks, args.n, texts, args.tokens, args.seed))
    except (DataError, OSError) as error:
        print(f"make_tasks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
