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

PARAGRAPHS_FILE = "wiki_paragraphs.jsonl.gz"
TEST_SHARE = 26  # of 256 titles


class DataError(Exception):
    """The text data is missing or not as expected."""


@dataclass(frozen=True)
class Paragraph:
    title: str
    text: str


def is_test_title(title: str) -> bool:
    """Whether paragraphs of this title are kept for goldens and tests (a tenth of the titles, by SHA-256)."""
    return hashlib.sha256(title.encode()).digest()[0] < TEST_SHARE


def load_paragraphs(folder: str | Path, test: bool) -> list[Paragraph]:
    """The paragraphs of the test split, or all others, in the order of the file."""
    path = Path(folder) / PARAGRAPHS_FILE
    if not path.is_file():
        raise DataError(f"{path}: no such file; --text-data names the folder that holds {PARAGRAPHS_FILE}")
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
            paragraphs = [Paragraph(row["title"], row["text"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the expected lines of JSON: {error}") from error
    return [paragraph for paragraph in paragraphs if is_test_title(paragraph.title) == test]


def shuffled(paragraphs: list[Paragraph], seed: int) -> list[Paragraph]:
    return random.Random(seed).sample(paragraphs, len(paragraphs))
