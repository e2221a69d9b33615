"""Wikipedia paragraphs for goldens, training and evaluation.

The data folder holds `wiki_paragraphs.jsonl.gz`, one object a line with `title` and `text`. It is split by title, never by
row, so that what is measured on one split was not in another.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARAGRAPHS_FILE = "wiki_paragraphs.jsonl.gz"
TEST_SHARE = 26  # of 256 titles
VALIDATION_SHARE = 20  # of 256 titles, out of those that are not for tests
SPLITS = ("train", "validation", "test")


class DataError(Exception):
    """The text data is missing or not as expected."""


@dataclass(frozen=True)
class Paragraph:
    title: str
    text: str


def is_test_title(title: str) -> bool:
    """Whether paragraphs of this title are kept for goldens and tests (a tenth of the titles, by SHA-256)."""
    return split_of_title(title) == "test"


def split_of_title(title: str) -> str:
    """One of SPLITS."""
    byte = hashlib.sha256(title.encode()).digest()[0]
    return "test" if byte < TEST_SHARE else "validation" if byte < TEST_SHARE + VALIDATION_SHARE else "train"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of gzipped lines of JSON."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; the data folder holds {path.name}")
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not the expected lines of JSON: {error}") from error


def _all_paragraphs(folder: str | Path) -> list[Paragraph]:
    path = Path(folder) / PARAGRAPHS_FILE
    try:
        return [Paragraph(row["title"], row["text"]) for row in read_rows(path)]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not the expected lines of JSON: {error}") from error


def load_paragraphs(folder: str | Path, test: bool) -> list[Paragraph]:
    """The paragraphs of the test split, or all others, in the order of the file."""
    return [paragraph for paragraph in _all_paragraphs(folder) if is_test_title(paragraph.title) == test]


def load_split(folder: str | Path, split: str) -> list[Paragraph]:
    """The paragraphs of one of SPLITS, in the order of the file."""
    return [paragraph for paragraph in _all_paragraphs(folder) if split_of_title(paragraph.title) == split]


def shuffled(paragraphs: list[Paragraph], seed: int) -> list[Paragraph]:
    return random.Random(seed).sample(paragraphs, len(paragraphs))
