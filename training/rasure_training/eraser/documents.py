"""Documents with units: one context, spans in it that may be erased, and what is then asked.

A document's text is a row of segments. Every boundary of a span is a boundary between segments, and segments are tokenized
one by one, as `rasure eval` does with the pieces of a case: so a span is a range of whole tokens. Several units share a
document, each of them erases its own spans from the whole text, and the unerased context is read only once for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..gguf_model import GgufFile


# Control tokens that end an answer, whichever of them the vocabulary has; as in the C runtime.
END_TEXTS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>")


@dataclass(frozen=True)
class Probe:
    """One question to the context. Its text is `question` + `cue`; the answer follows."""

    name: str  # of what it measures: answer, bystander, recite, free, prose
    question: str  # ends where the answer begins; markers of the chat template count in it
    cue: str = ""  # forced beginning of the answer
    target: str = ""  # what follows the cue when nothing was ever erased; "": whatever the clean model says
    answers: tuple[str, ...] = ()  # right answers
    leaks: tuple[str, ...] = ()  # what must not be said
    leak_target: str = ""  # the erased value as it would follow the cue


def task_and_probe(task: str, probe: str) -> str:
    """What an answer counts for: its task, and the probe where that is not the main one."""
    return task if probe in ("answer", task) else f"{task}/{probe}"


@dataclass(frozen=True)
class Unit:
    task: str
    family: str
    spans: tuple[tuple[int, int], ...]  # half-open ranges of segments, ascending
    probes: tuple[Probe, ...]
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    segments: tuple[str, ...]  # the first one begins with the head of the chat template
    units: tuple[Unit, ...]
    markers: bool = False  # markers of the chat template count in every segment, not only in the first

    def erased(self, unit: Unit) -> list[str]:
        return ["".join(self.segments[begin:end]) for begin, end in unit.spans]


@dataclass(frozen=True)
class Piece:
    """A piece of text and the names of the spans that it belongs to."""

    text: str
    tags: frozenset[str] = frozenset()


def tagged(text: str, *tags: str) -> Piece:
    return Piece(text, frozenset(tags))


@dataclass(frozen=True)
class Plan:
    """A unit before the text is cut into segments: its spans by name."""

    task: str
    family: str
    tags: tuple[str, ...]
    probes: tuple[Probe, ...]
    details: dict[str, object] = field(default_factory=dict)


def compose(head: str, pieces: Iterable[Piece], plans: Sequence[Plan], markers: bool = False) -> Document:
    """Joins neighbouring pieces that no span tells apart, and turns the names of spans into ranges of segments."""
    wanted = {tag for plan in plans for tag in plan.tags}
    segments: list[str] = [head]
    tags_of: list[frozenset[str]] = [frozenset()]
    for piece in pieces:
        tags = piece.tags & wanted
        if tags == tags_of[-1]:
            segments[-1] += piece.text
        else:
            segments.append(piece.text)
            tags_of.append(tags)
    units = []
    for plan in plans:
        spans = []
        for tag in plan.tags:
            at = [i for i, tags in enumerate(tags_of) if tag in tags]
            if not at or at[-1] - at[0] + 1 != len(at):
                raise ValueError(f"the span {tag} is not one stretch of text")
            spans.append((at[0], at[-1] + 1))
        units.append(Unit(plan.task, plan.family, tuple(sorted(spans)), plan.probes, plan.details))
    return Document(tuple(segments), tuple(units), markers)


class Encoder:
    """Text to token ids as the C runtime makes them: no token in front, control tokens by their text where they count."""

    def __init__(self, file: GgufFile) -> None:
        from tokenizers.decoders import ByteLevel

        from ..tokenizer import CONTROL, bpe_tokenizer

        self._tokenizer = bpe_tokenizer(file)
        self._bytes = ByteLevel()
        texts, kinds = file.value("tokenizer.ggml.tokens"), file.value("tokenizer.ggml.token_type")
        self._control = {text: i for i, (text, kind) in enumerate(zip(texts, kinds, strict=True)) if kind == CONTROL}
        longest_first = sorted(self._control, key=len, reverse=True)
        self._markers = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None
        self.ends = {self._control[text] for text in END_TEXTS if text in self._control}
        self.ends.add(file.value("tokenizer.ggml.eos_token_id", -1))

    def encode(self, text: str, markers: bool = False) -> list[int]:
        if not markers or self._markers is None:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        ids: list[int] = []
        for i, part in enumerate(self._markers.split(text)):
            if i % 2:
                ids.append(self._control[part])
            elif part:
                ids += self._tokenizer.encode(part, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without that of control tokens."""
        control = set(self._control.values())
        return self._bytes.decode([self._tokenizer.id_to_token(i) for i in ids if i not in control])


@dataclass(frozen=True)
class EncodedProbe:
    probe: Probe
    stem: list[int]  # question and cue
    target: list[int]  # empty: whatever the clean model says
    leak_target: list[int]


@dataclass(frozen=True)
class EncodedUnit:
    unit: Unit
    spans: list[tuple[int, int]]  # half-open ranges of tokens
    probes: list[EncodedProbe]


@dataclass(frozen=True)
class EncodedDocument:
    tokens: list[int]
    units: list[EncodedUnit]


def encode_probe(encoder: Encoder, probe: Probe) -> EncodedProbe:
    stem = encoder.encode(probe.question, markers=True) + encoder.encode(probe.cue)
    return EncodedProbe(probe, stem, encoder.encode(probe.target), encoder.encode(probe.leak_target))


def encode_document(encoder: Encoder, document: Document) -> EncodedDocument:
    tokens: list[int] = []
    starts = [0]
    for i, segment in enumerate(document.segments):
        tokens += encoder.encode(segment, markers=i == 0 or document.markers)
        starts.append(len(tokens))
    units = [
        EncodedUnit(
            unit,
            [(starts[begin], starts[end]) for begin, end in unit.spans],
            [encode_probe(encoder, probe) for probe in unit.probes],
        )
        for unit in document.units
    ]
    return EncodedDocument(tokens, units)
