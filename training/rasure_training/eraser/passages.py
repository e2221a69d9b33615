"""Questions with a passage that answers them (Natural Questions), and near-duplicates of passages that say something else.

The data folder holds `nq_passages.jsonl.gz`, one object a line with `question`, `answers`, `title`, `passage`; it is split by
title as the paragraphs are.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

from ..text import DataError, read_rows, split_of_title

PASSAGES_FILE = "nq_passages.jsonl.gz"
SENTENCE_START = re.compile(r"[.!?][\"')]*\s+(?=[A-Z\"'(])")
LEAD_WORDS = 6  # that a sentence must have before the answer, so that an answer can be begun with them


@dataclass(frozen=True)
class Passage:
    """A passage with one answer in it, once."""

    title: str
    question: str
    before: str  # of the sentence with the answer
    lead: str  # of that sentence, up to the answer and the space before it
    answer: str
    after: str

    @property
    def text(self) -> str:
        return f"{self.before}{self.lead} {self.answer}{self.after}"

    def with_answer(self, answer: str) -> str:
        return f"{self.before}{self.lead} {answer}{self.after}"


def kind_of(answer: str) -> str:
    """Answers of a kind can stand in for each other without the sentence sounding wrong at once."""
    if re.fullmatch(r"\d{4}", answer):
        return "year"
    if re.search(r"\d", answer):
        return "number"
    names = [word[0].isupper() for word in answer.split()]
    return f"name {len(names) > 1}" if all(names) else "words"


def parse_passage(row: dict) -> Passage | None:
    """None where no answer stands once in the passage with enough words of its sentence before it."""
    text = " ".join(row["passage"].split())
    for answer in row["answers"]:
        places = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", text)]
        if len(places) != 1 or places[0] == 0 or text[places[0] - 1] != " ":
            continue
        at = places[0]
        start = max((match.end() for match in SENTENCE_START.finditer(text) if match.end() <= at), default=0)
        lead = text[start : at - 1]
        if len(lead.split()) >= LEAD_WORDS:
            return Passage(row["title"], row["question"], text[:start], lead, answer, text[at + len(answer) :])
    return None


def load_passages(folder: str | Path, split: str) -> list[Passage]:
    """The usable passages of a split, in the order of the file."""
    path = Path(folder) / PASSAGES_FILE
    try:
        rows = [row for row in read_rows(path) if split_of_title(row["title"]) == split]
        passages = [parse_passage(row) for row in rows]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not the expected lines of JSON: {error}") from error
    return [passage for passage in passages if passage is not None]


def other_answer(random_: random.Random, passages: list[Passage], passage: Passage) -> str:
    """The answer of another passage, of the same kind, that does not occur in this one."""
    kind, text = kind_of(passage.answer), passage.text.lower()
    candidates = [p.answer for p in passages if kind_of(p.answer) == kind and p.answer.lower() not in text]
    if not candidates:
        candidates = [p.answer for p in passages if p.answer.lower() not in text]
    return random_.choice(candidates)
