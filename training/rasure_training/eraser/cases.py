"""Evaluation cases as lines of JSON: written by `make_cases`, read by `evaluate` and by `rasure eval`.

  id           the case's own
  prefix, span, suffix   the text; the span is erased
  question, cue   what is then asked, and how the answer is forced to begin
  answers, leaks   what is right at its beginning, and what must not be in it
  context      cases with the same one share their text, and are no independent observations
  task, probe, family, split   what it is a case of
  target       what follows the cue in a clean context; a KL divergence can be taken along it. "": nothing known
  leak_target  the erased value as it would follow the cue, for its log-probability. "": there is none
  markers      true: markers of the chat template count in span and suffix too (left out where they do not)
  pieces       instead of prefix, span, suffix where several spans are erased: kept, erased, kept, ..., kept
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..files import read_json_lines
from ..text import DataError
from .documents import Document, EncodedDocument, EncodedUnit, Encoder, Probe, Unit, encode_probe, task_and_probe


def document_cases(document: Document, name: str, context: str, split: str) -> Iterator[dict[str, Any]]:
    """One case for each probe of the document's only unit."""
    (unit,) = document.units
    pieces: list[str] = []
    at = 0
    for begin, end in unit.spans:
        pieces += ["".join(document.segments[at:begin]), "".join(document.segments[begin:end])]
        at = end
    pieces.append("".join(document.segments[at:]))
    for i, probe in enumerate(unit.probes):
        case: dict[str, Any] = {
            "id": f"{name}-{i}" if len(unit.probes) > 1 else name,
            "context": context, "task": unit.task, "probe": probe.name, "family": unit.family, "split": split,
            **unit.details,
        }  # fmt: skip
        if len(pieces) == 3:
            case |= dict(zip(("prefix", "span", "suffix"), pieces, strict=True))
        else:
            case["pieces"] = pieces
        if document.markers:
            case["markers"] = True
        yield case | {
            "question": probe.question, "cue": probe.cue, "target": probe.target, "answers": list(probe.answers),
            "leaks": list(probe.leaks), "leak_target": probe.leak_target,
        }  # fmt: skip


def read_cases(path: Path) -> list[dict[str, Any]]:
    """The cases of a file. What a document is not known to be a case of may be left out."""
    try:
        cases = read_json_lines(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: not lines of JSON: {error}") from error
    for i, case in enumerate(cases, start=1):
        for key in ("id", "question", "answers", "leaks"):
            if key not in case:
                raise DataError(f"{path}:{i}: {key} is missing")
        if "pieces" not in case and not all(key in case for key in ("prefix", "span", "suffix")):
            raise DataError(f"{path}:{i}: neither prefix, span and suffix nor pieces")
    return cases


def task_of(case: dict[str, Any]) -> str:
    """What the case counts for."""
    return task_and_probe(case.get("task", "cases"), case.get("probe", "answer"))


def encode_case(encoder: Encoder, case: dict[str, Any]) -> EncodedDocument:
    """Token ids as `rasure eval` makes them: piece by piece."""
    pieces = case.get("pieces") or [case["prefix"], case["span"], case["suffix"]]
    tokens: list[int] = []
    spans = []
    for i, piece in enumerate(pieces):
        begin = len(tokens)
        tokens += encoder.encode(piece, markers=i == 0 or bool(case.get("markers")))
        if i % 2:
            spans.append((begin, len(tokens)))
    probe = Probe(
        case.get("probe", "answer"), case["question"], case.get("cue", ""), case.get("target", ""), tuple(case["answers"]),
        tuple(case["leaks"]), case.get("leak_target", ""),
    )  # fmt: skip
    unit = Unit(case.get("task", "cases"), case.get("family", ""), (), (probe,))
    return EncodedDocument(tokens, [EncodedUnit(unit, spans, [encode_probe(encoder, probe)])])
