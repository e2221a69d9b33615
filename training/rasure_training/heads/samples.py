"""Sequences to learn masks from: text as it is, and text with something to be looked up.

Weights say how much the prediction of a token counts. Everything follows from the random generator and the texts of one split.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..eraser.documents import Encoder
from ..eraser.facts import draw
from ..eraser.prose import WORDS_PER_TOKEN, draw_prose
from ..text import Paragraph


@dataclass(frozen=True)
class Sample:
    task: str
    tokens: list[int]
    weights: list[float]  # of each token's prediction from those before it

    def __post_init__(self) -> None:
        assert len(self.tokens) == len(self.weights)


@dataclass(frozen=True)
class Source:
    """What samples are made of."""

    encoder: Encoder
    paragraphs: list[Paragraph]
    split: str
    answer_weight: float
    body_weight: float = 1.0  # of what is not looked up

    def prose(self, random_: random.Random, n_tokens: int) -> list[str]:
        words = max(20, int(n_tokens * WORDS_PER_TOKEN))
        return draw_prose(random_, self.paragraphs, words, 1, [])


class Writer:
    """Text as it grows, token by token."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tokens: list[int] = []
        self.weights: list[float] = []

    def add(self, text: str, weight: float) -> None:
        ids = self.source.encoder.encode(text)
        self.tokens += ids
        self.weights += [weight] * len(ids)

    def append(self, other: Writer) -> None:
        self.tokens += other.tokens
        self.weights += other.weights

    def sample(self, task: str, n_tokens: int) -> Sample:
        return Sample(task, self.tokens[:n_tokens], self.weights[:n_tokens])


def text(source: Source, random_: random.Random, n_tokens: int) -> Sample:
    """Paragraphs, one after the other."""
    writer = Writer(source)
    while len(writer.tokens) < n_tokens:
        writer.add("".join(source.prose(random_, n_tokens)) + "\n\n", source.body_weight)
    return writer.sample("text", n_tokens)


def copies(source: Source, random_: random.Random, n_tokens: int) -> Sample:
    """Paragraphs, and at the end a stretch of them once more: how it goes on can be looked up. Its first tokens do not count."""
    length = min(random_.randint(32, 96), n_tokens // 4)
    body = text(source, random_, n_tokens - length)
    at = random_.randrange(max(1, len(body.tokens) // 2 - length))
    again = body.tokens[at : at + length]
    known = 6
    weights = [0.0] * min(known, len(again)) + [source.answer_weight] * max(0, len(again) - known)
    return Sample("copies", body.tokens + again, body.weights + weights)


@dataclass(frozen=True)
class Lookup:
    """Names and numbers: how they are said, and how they are asked for."""

    statement: str
    cue: str
    end: str


LINE = Lookup("{k}: {v}\n", "{k}:", "\n")
NEEDLE = Lookup(" The secret number of {k} is {v}.", "The secret number of {k} is", ".\n")


@dataclass(frozen=True)
class Item:
    key: str
    value: str


def _items(random_: random.Random, source: Source, n: int) -> list[Item]:
    found: dict[str, str] = {}
    while len(found) < n:
        found.setdefault(draw(random_, "name", source.split), draw(random_, "number", source.split))
    return [Item(key, value) for key, value in found.items()]


def _ask(writer: Writer, lookup: Lookup, items: list[Item]) -> None:
    for item in items:
        writer.add(lookup.cue.format(k=item.key), 0.0)
        writer.add(f" {item.value}", writer.source.answer_weight)
        writer.add(lookup.end, 0.0)


def _tail(source: Source, lookup: Lookup, items: list[Item]) -> Writer:
    writer = Writer(source)
    writer.add("\n", 0.0)
    _ask(writer, lookup, items)
    return writer


def recall(source: Source, random_: random.Random, n_tokens: int) -> Sample:
    """Lines of names and numbers, and then some of the names again in another order."""
    per_line = len(source.encoder.encode(LINE.statement.format(k="Anna Weber", v="1234")))
    items = _items(random_, source, max(2, n_tokens // per_line))
    asked = random_.sample(items, max(1, min(len(items) // 4, 12)))
    tail = _tail(source, LINE, asked)
    writer = Writer(source)
    others = [item for item in items if item not in asked]
    # As many others as there is room for, the asked ones among them.
    room = n_tokens - len(tail.tokens) - sum(len(source.encoder.encode(LINE.statement.format(k=i.key, v=i.value))) for i in asked)
    lines = []
    for item in others:
        line = LINE.statement.format(k=item.key, v=item.value)
        room -= len(source.encoder.encode(line))
        if room < 0:
            break
        lines.append(item)
    for item in random_.sample([*lines, *asked], len(lines) + len(asked)):
        writer.add(LINE.cue.format(k=item.key), source.body_weight)
        writer.add(f" {item.value}\n", 0.0)
    writer.append(tail)
    return writer.sample("recall", n_tokens)


def needles(source: Source, random_: random.Random, n_tokens: int) -> Sample:
    """Sentences with names and numbers in prose, and then some of them once more."""
    items = _items(random_, source, random_.choice((1, 2, 4, 8)))
    tail = _tail(source, NEEDLE, random_.sample(items, min(4, len(items))))
    statements = [NEEDLE.statement.format(k=item.key, v=item.value) for item in items]
    room = n_tokens - len(tail.tokens) - sum(len(source.encoder.encode(text)) for text in statements)
    pieces = []
    for piece in source.prose(random_, n_tokens):
        room -= len(source.encoder.encode(piece))
        if room < 0:
            break
        pieces.append(piece)
    places = sorted(random_.randrange(len(pieces) + 1) for _ in statements)
    writer = Writer(source)
    for i in range(len(pieces) + 1):
        for text, place in zip(statements, places, strict=True):
            if place == i:
                writer.add(text, 0.0)
        if i < len(pieces):
            writer.add(pieces[i], source.body_weight)
    writer.append(tail)
    return writer.sample("needles", n_tokens)


TASKS: dict[str, Callable[[Source, random.Random, int], Sample]] = {
    "text": text, "copies": copies, "recall": recall, "needles": needles,
}  # fmt: skip


def draw_sample(source: Source, random_: random.Random, tasks: dict[str, float], answers_only: float, n_tokens: int) -> Sample:
    """One of the tasks, by their weights. Of those with something to be looked up, only the answers count in a share `answers_only`:
    among a thousand tokens of prose they would hardly be heard."""
    task = random_.choices(list(tasks), list(tasks.values()))[0]
    if task != "text" and random_.random() < answers_only:
        source = replace(source, body_weight=0.0)
    return TASKS[task](source, random_, n_tokens)
