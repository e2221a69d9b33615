"""BM25 over a few thousand paragraphs (Robertson and Zaragoza, 2009), for hard negatives: other articles on like matters."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

K1, B = 1.2, 0.75


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class Bm25:
    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(words(text)) for text in texts]
        lengths = [count.total() for count in counts]
        mean_length = sum(lengths) / max(1, len(lengths))
        self._norms = [K1 * (1.0 - B + B * length / mean_length) for length in lengths]
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for i, count in enumerate(counts):
            for word, n in count.items():
                self._postings[word].append((i, n))

    def best(self, query: str, n: int) -> list[int]:
        """Indices of the n best texts, best first; the earlier one of equals. Fewer if fewer share a word with the query."""
        scores: dict[int, float] = defaultdict(float)
        for word in sorted(set(words(query))):
            postings = self._postings.get(word, [])
            weight = math.log(1.0 + (len(self._norms) - len(postings) + 0.5) / (len(postings) + 0.5))
            for i, count in postings:
                scores[i] += weight * count * (K1 + 1.0) / (count + self._norms[i])
        return sorted(scores, key=lambda i: (-scores[i], i))[:n]
