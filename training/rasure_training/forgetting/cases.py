"""Cases that ask for what was erased in every way that a user has: directly, in other words, by letting the text go on.

A made-up fact stands in real prose, in most cases with a sentence behind it that refers back to it. Its sentence is erased, or its
value alone. Besides the value each case names seven rivals, other values of the same kind, for a forced choice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from ..eraser.cases import document_cases
from ..eraser.corpus import Corpus
from ..eraser.documents import Document, Probe
from ..eraser.draft import Draft, Style, finish
from ..eraser.facts import ALL, Fact
from ..eraser.prompts import question
from ..eraser.words import SOURCES
from ..text import DataError

ERASED = ("sentence", "value")
WAYS = ("direct", "words", "completion")
RIVALS = 7


def rivals_of(random_: random.Random, fact: Fact) -> list[str] | None:
    """Other values of the same kind, none of which is part of another; None where there are not enough."""
    source = SOURCES[fact.family.value]
    values = [str(n) for n in range(source[0], source[1] + 1)] if isinstance(source[0], int) else list(source)  # type: ignore[arg-type, call-overload]
    others = [value for value in values if value not in fact.value and fact.value not in value]
    return random_.sample(others, RIVALS) if len(others) >= RIVALS else None


def probe_of(random_: random.Random, fact: Fact, split: str, way: str) -> Probe:
    """`words` takes a phrasing of another split than the case's."""
    if way == "completion":
        asked, cue = f" {fact.cue}", ""
    else:
        splits = [split] if way == "direct" else [other for other in ALL if other != split and fact.family.questions[other]]
        if not splits:
            raise DataError(f"{fact.family.name} has no other words for its question")
        asked, cue = question(fact.question(random_, random_.choice(splits))), fact.cue
    return Probe(way, asked, cue, leaks=(fact.value,), leak_target=f" {fact.value}")


def document(random_: random.Random, asking: random.Random, corpus: Corpus, erased: str, way: str, n_tokens: int) -> Document:
    """The text follows from `random_` alone, whatever way is asked."""
    draft = Draft(random_, corpus, Style())
    while True:
        fact = draft.fact()
        rivals = rivals_of(random_, fact)
        if rivals is not None and len([split for split in ALL if fact.family.questions[split]]) > 1:
            break
    tag = draft.tag()
    draft.insert_fact(fact, tag)
    tags = [tag] if erased == "sentence" else [f"{tag} value"]
    probe = probe_of(asking, fact, corpus.split, way)
    draft.plan(erased, fact.family.name, tags, [probe], rivals=[f" {value}" for value in rivals])
    return finish(draft, n_tokens)


def make_cases(corpus: Corpus, erased: str, way: str, n: int, n_tokens: int, seed: int) -> Iterator[dict[str, Any]]:
    """The same document for each way of asking."""
    for index in range(n):
        name = f"{erased}-{corpus.split}-{n_tokens}-{seed}-{index}"
        for attempt in range(100):
            try:
                text = random.Random(f"{name} {attempt}")
                made = document(text, random.Random(f"{name} {attempt} {way}"), corpus, erased, way, n_tokens)
                break
            except DataError as error:
                last = error
        else:
            raise last
        yield from document_cases(made, f"{name}-{way}", name, corpus.split)
