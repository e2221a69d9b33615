"""Sentences that depend on an erased one: the texts, what is erased of them, and the page. The tool is a stand-in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rasure_training.eraser.corpus import Corpus
from rasure_training.forgetting import dependents

TOOL = """\
#!{python}
import json, sys
arguments = sys.argv[1:]
value = lambda name: arguments[arguments.index(name) + 1]
with open(value("--per-case"), "w") as out:
    for i, line in enumerate(open(arguments[1])):
        case = json.loads(line)
        row = {{key: case[key] for key in ("id", "context", "task")}}
        if "depends_on" in case:
            # In every other context another sentence loses more.
            nats = [None if k <= case["depends_on"] else 0.1 for k in range(len(case["pieces"]))]
            nats[case["dependent"][0]] = 5.0
            other = next((k for k in range(case["depends_on"] + 1, len(nats)) if k not in case["dependent"]))
            nats[other] = 6.0 if i % 2 else 1.5
            out.write(json.dumps(row | {{"nats": nats, "n_context": 100}}) + "\\n")
            continue
        kept = "".join(case["pieces"][::2])
        for method in value("--methods").split(","):
            said = case["leaks"][0] in kept
            out.write(json.dumps(row | {{"method": method, "leak": said, "leak_logprob": -1.0 if said else -5.0}}) + "\\n")
"""


@pytest.mark.parametrize("kind", dependents.KINDS)
def test_texts(data: Path, kind: str) -> None:
    for text in dependents.make_texts(Corpus.load(data, "test"), kind, 20, 200, 1):
        fact = text.fact
        assert text.sentences[text.erased] == f" {fact.statement}" and text.erased > 0
        assert text.dependent > text.erased + 1, "prose is between"
        assert text.dependent < len(text.sentences) - 1, "and behind"
        later = text.sentences[text.dependent]
        assert fact.value not in later
        if kind == "derived":
            assert later.endswith(f" {fact.family.derived[fact.value]}.")
        prose = [s for i, s in enumerate(text.sentences) if i not in (text.erased, text.dependent)]
        assert not any(fact.value in sentence for sentence in prose)


def test_pieces(data: Path) -> None:
    (text,) = dependents.make_texts(Corpus.load(data, "test"), "derived", 1, 200, 1)
    n = len(text.sentences)
    for erased in ({2}, {2, 3}, {1, 2, n - 1}, {2, 5}):
        pieces = dependents.pieces_without(text, erased)
        assert len(pieces) % 2 == 1 and "".join(pieces) == "".join(text.sentences)
        assert "".join(pieces[1::2]) == "".join(text.sentences[i] for i in sorted(erased))
        assert all(pieces[:-1])


def test_from_texts_to_a_page(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "tool"
    tool.write_text(TOOL.format(python=sys.executable), encoding="utf-8")
    tool.chmod(0o755)
    (tmp_path / "model").write_text("a model", encoding="utf-8")
    arguments = ["dependents", tool, tmp_path / "model", "--isa", "ref", "--data", data, "--work", tmp_path / "work", "--out", tmp_path,
                 "--n", 4, "--tokens", 200]  # fmt: skip
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    assert dependents.main() == 0
    rows = json.loads((tmp_path / "dependents.json").read_text())["figures"]
    derived = rows[0]
    assert derived["first"]["mean"] == 0.5 and derived["order"]["mean"] < 1
    assert [row["others"]["mean"] for row in derived["bounds"]] == [1, 1, 0.5, 0.5, 0]
    assert [row["found"]["mean"] for row in derived["bounds"]] == [1, 1, 1, 1, 0]
    by = {(row["variant"], row["task"]): row for row in rows[2:] if row["method"] == "adaptive"}
    assert by["fact", "what follows"]["above"]["mean"] == 4 and by["fact", "what follows"]["said"]["mean"] == 1
    assert by["fact and first", "what follows"]["above"]["mean"] == 2
    assert by["fact and dependent", "what follows"]["above"]["mean"] == 0 and by["fact", "fact"]["said"]["mean"] == 0
    assert "states what follows from it" in (tmp_path / "dependents.md").read_text()
    tool.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    assert dependents.main() == 0, "what was measured is not measured again"
