"""Long natural text of short articles: paragraphs of one split, one after the other, each followed by the one that is most like it.

The data has one paragraph of each article, about eighty words long, so this is not the text of one document: what a paragraph shares
with those before it are its matter, its names and its manner. Every paragraph is in one text at most. So a split gives only so many
texts, fewer the longer they are; they are independent of each other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from ..eraser.bm25 import Bm25
from ..text import Paragraph
from .tasks import WORDS_PER_TOKEN, Texts

QUERY_WORDS = 200  # of a text's end, by which the next paragraph is looked for


def long_texts(random_: random.Random, texts: Texts, n: int, n_tokens: int) -> Iterator[tuple[str, str]]:
    """Up to n texts, each with the title of its first paragraph."""
    paragraphs = texts.paragraphs
    index = Bm25([paragraph.text for paragraph in paragraphs])
    n_words = int(n_tokens * WORDS_PER_TOKEN)
    left = dict.fromkeys(random_.sample(range(len(paragraphs)), len(paragraphs)))
    for _ in range(n):
        chosen: list[Paragraph] = []
        while left and sum(len(paragraph.text.split()) for paragraph in chosen) < n_words:
            query = " ".join(" ".join(paragraph.text for paragraph in chosen).split()[-QUERY_WORDS:])
            alike = (i for i in index.best(query, len(paragraphs)) if i in left)
            at = next(alike, next(iter(left)))
            del left[at]
            chosen.append(paragraphs[at])
        if sum(len(paragraph.text.split()) for paragraph in chosen) < n_words:
            return
        yield chosen[0].title, "\n\n".join(" ".join(paragraph.text.split()) for paragraph in chosen)
