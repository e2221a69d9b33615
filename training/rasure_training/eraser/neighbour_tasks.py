"""Span neighbours: text that stands next to an erased chunk, or far from it, is to be copied."""

from __future__ import annotations

import math
import random
import re

from ..text import DataError
from .corpus import Corpus
from .documents import Document, Plan, Probe, compose, tagged
from .draft import ERASED_WORDS
from .prompts import HEAD, question
from .prose import WORDS_PER_TOKEN, sentences

ANCHOR_WORDS = 6
COPIED_WORDS = 9  # of the answer: about twelve tokens

NEIGHBOUR_QUESTIONS = {
    "train": "Copy exactly the text that comes directly {side} <SPAN>{anchor}</SPAN>",
    "validation": "Which words come directly {side} <SPAN>{anchor}</SPAN>",
    "test": "Repeat word for word what the text has directly {side} <SPAN>{anchor}</SPAN>",
}


def neighbours_document(random_: random.Random, corpus: Corpus, n_tokens: int) -> Document:
    """Stage 1: real text with a chunk of a like article in it, which is erased; near and far anchors."""
    n_words = max(60, int(n_tokens * WORDS_PER_TOKEN))
    first = random_.randrange(len(corpus.paragraphs))
    topic = corpus.paragraphs[first]
    candidates = corpus.index.best(sentences(topic.text)[0], 12)
    hard = [corpus.paragraphs[i] for i in candidates if corpus.paragraphs[i].title != topic.title]
    chunk_words = re.findall(r"\s*\S+", " " + " ".join(random_.choice(hard or corpus.paragraphs).text.split()))
    low, high = 8, min(ERASED_WORDS[1], len(chunk_words))
    n_chunk = min(high, round(math.exp(random_.uniform(math.log(low), math.log(max(low, high))))))
    start = random_.randint(0, len(chunk_words) - n_chunk)
    chunk = "".join(chunk_words[start : start + n_chunk])

    text = " ".join(topic.text.split())
    others = random_.sample(corpus.paragraphs, len(corpus.paragraphs))
    while len(text.split()) < n_words:
        more = " ".join(others.pop().text.split())
        text = f"{text}\n\n{more}" if random_.random() < 0.5 else f"{more}\n\n{text}"
    words = re.findall(r"\s*\S+", text)[: max(n_words, 3 * COPIED_WORDS)]
    # At a random place with room for an anchor and its answer on both sides, often between sentences.
    places = range(ANCHOR_WORDS + COPIED_WORDS, len(words) - ANCHOR_WORDS - COPIED_WORDS)
    between = [i for i in places if words[i - 1].endswith((".", "!", "?"))]
    for _ in range(50):
        at = random_.choice(between if between and random_.random() < 0.7 else places)
        found = _near(random_, words, at, corpus.split), _far(random_, words, at, corpus.split)
        probes = [probe for probe in found if probe]
        if probes:
            break
    else:
        raise DataError("no anchor is unique")
    pieces = [tagged("".join(words[:at])), tagged(chunk, "chunk"), tagged("".join(words[at:]))]
    return compose(HEAD, pieces, [Plan("neighbours", "copy", ("chunk",), tuple(probes), {"title": topic.title})])


def _near(random_: random.Random, words: list[str], at: int, split: str) -> Probe | None:
    if random_.random() < 0.7:  # a right answer lies across the cut
        return _copy(words, at - ANCHOR_WORDS, split, "after")
    return _copy(words, at, split, "before")


def _far(random_: random.Random, words: list[str], at: int, split: str) -> Probe | None:
    last = len(words) - ANCHOR_WORDS - COPIED_WORDS
    places = [i for i in range(COPIED_WORDS, last) if i + ANCHOR_WORDS + COPIED_WORDS < at or i - COPIED_WORDS > at]
    if not places:
        return None
    return _copy(words, random_.choice(places), split, "after" if random_.random() < 0.7 else "before")


def _copy(words: list[str], i: int, split: str, side: str) -> Probe | None:
    """Asks for the words after or before the anchor that begins with word i; None where the anchor is not unique."""
    anchor = "".join(words[i : i + ANCHOR_WORDS]).strip()
    if "".join(words).count(anchor) != 1:
        return None
    asked = question(NEIGHBOUR_QUESTIONS[split].format(side=side, anchor=anchor))
    if side == "after":
        return Probe("answer", asked, anchor, "".join(words[i + ANCHOR_WORDS : i + ANCHOR_WORDS + COPIED_WORDS]))
    return Probe("answer", asked, target="".join(words[i - COPIED_WORDS : i]).strip())
