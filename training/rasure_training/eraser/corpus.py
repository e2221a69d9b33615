"""The texts of one split that documents are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..text import Paragraph, load_split
from .bm25 import Bm25
from .passages import Passage, load_passages


@dataclass(frozen=True)
class Corpus:
    split: str
    paragraphs: list[Paragraph]
    passages: list[Passage]

    @classmethod
    def load(cls, folder: str | Path, split: str) -> Corpus:
        return cls(split, load_split(folder, split), load_passages(folder, split))

    @cached_property
    def index(self) -> Bm25:
        return Bm25([paragraph.text for paragraph in self.paragraphs])
