"""Real text of a wanted length."""

from __future__ import annotations

import random
import re

from ..text import DataError, Paragraph

WORDS_PER_TOKEN = 0.7  # of Wikipedia prose in SmolLM2's vocabulary


def sentences(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split()))


def draw_prose(
    random_: random.Random, paragraphs: list[Paragraph], words: int, at_least: int, forbidden: list[str]
) -> list[str]:
    """At least `at_least` sentences of about `words` words in all, each with the white space before it. No paragraph contains
    a word of `forbidden`, so that the facts are the only ones of their kind."""
    pieces: list[str] = []
    count = 0
    barred = {word for text in forbidden for word in text.lower().split()}
    for paragraph in random_.sample(paragraphs, len(paragraphs)):
        if barred & set(re.findall(r"\w+", paragraph.text.lower())):
            continue
        for i, sentence in enumerate(sentences(paragraph.text)):
            pieces.append(sentence if not pieces else ("\n\n" if i == 0 else " ") + sentence)
            count += len(sentence.split())
            if count >= words and len(pieces) >= at_least:
                return pieces
    raise DataError("the data has too little text for one case of this length")
