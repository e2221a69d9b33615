"""Many erases in a row, and new text in place of old: the cases, and their pages. The tool is a stand-in."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rasure_training.eraser import replace
from rasure_training.eraser.corpus import Corpus
from rasure_training.files import write_json_lines
from rasure_training.forgetting import many

ADAPTERS = Path(__file__).resolve().parents[2] / "models"
# The more is erased, the farther away; `exact` is at 0, and says nothing of what is erased.
TOOL = """\
#!{python}
import json, sys
arguments = sys.argv[1:]
value = lambda name: arguments[arguments.index(name) + 1]
with open(value("--per-case"), "w") as out:
    for line in open(arguments[1]):
        case = json.loads(line)
        erased = len(case["pieces"]) // 2 if "pieces" in case else 1
        for k, method in enumerate(value("--methods").split(",")):
            exact = method == "exact"
            kl = 0.0 if exact else 0.01 * erased + 0.001 * k
            out.write(json.dumps({{key: case[key] for key in ("id", "context", "task", "probe") if key in case}} | {{
                "method": method, "kl_to_exact": kl, "kl_target": kl if case.get("target") else None,
                "exact_match": exact if case["answers"] else None, "leak": False if case["leaks"] else None,
                "leak_minus_clean": kl if case["leaks"] else None, "n_context": 100, "n_recomputed": 16 * erased,
                "erase_ms": None if method == "none" else 2.0 * erased}}) + "\\n")
"""


@pytest.fixture(scope="module")
def many_articles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough of them in the test split for a sentence of each between any two facts."""
    folder = tmp_path_factory.mktemp("articles")
    rows = [
        {"title": f"Article {i}", "text": " ".join(f"Bado kima {i * 7 + k} ruwe sota." for k in range(60))} for i in range(1200)
    ]
    for name, some in (("wiki_paragraphs", rows), ("nq_passages", [])):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in some)
    return folder


def test_texts_of_many_facts(many_articles: Path) -> None:
    for text in many.make_texts(Corpus.load(many_articles, "test"), 10, 1):
        assert len(text.order) == many.COUNTS[-1] == len(set(text.order))
        assert text.sentences[text.order[0]] == f" {text.erased.statement}"
        assert f" {text.kept.statement}" in text.sentences
        assert text.sentences.index(f" {text.kept.statement}") not in text.order
        spoken = [i for i, sentence in enumerate(text.sentences) if text.erased.value in sentence.rstrip(".").split()]
        assert spoken in ([], [text.order[0]]), "what is erased is said nowhere else"
        ordered = sorted(text.order)
        assert all(b - a > 1 for a, b in zip(ordered, ordered[1:], strict=False)), "prose is between"
        for count in many.COUNTS:
            erased, kept = many.ask_cases(text, count, "test")
            assert len(erased["pieces"]) == 2 * count + 1
            assert text.erased.statement in "".join(erased["pieces"][1::2]) and erased["answers"] == []
            assert text.kept.statement in "".join(kept["pieces"][::2]) and kept["answers"] == [text.kept.value]
            assert "".join(erased["pieces"]) == "".join(text.sentences), "it is the same text, whatever is erased"


@pytest.mark.parametrize("kind", replace.KINDS)
def test_replacements(data: Path, kind: str) -> None:
    cases = list(replace.make_cases(Corpus.load(data, "test"), kind, 20, 200, 1))
    assert len(cases) == 40
    for case in cases[::2]:
        (new,), (old,) = case["answers"], case["leaks"]
        span, there = case["span"], case["replacement"]
        assert old in span and old not in there and new in there and new not in span
        assert there.startswith(" ") and span.startswith(" ")
        if kind == "value":
            assert (span, there) == (f" {old}", f" {new}")
        else:
            assert (len(there) > len(span) + 20) == (kind == "longer") and (len(span) > len(there) + 20) == (kind == "shorter")
        edited = case["prefix"] + there + case["suffix"]
        assert old not in edited.split("\n\n", 1)[1].replace(".", "").replace(",", "").split(), "nothing else says it"


@pytest.mark.parametrize(("module", "name"), [(many, "many_erases"), (replace, "replace")])
def test_from_texts_to_a_page(
    many_articles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    tool = tmp_path / "tool"
    tool.write_text(TOOL.format(python=sys.executable), encoding="utf-8")
    tool.chmod(0o755)
    write_json_lines(tmp_path / "model", [])
    adapter = ADAPTERS / "smollm2-135m-instruct.bridge.gguf"
    arguments = [name, tool, tmp_path / "model", "--isa", "ref", "--data", many_articles, "--work", tmp_path / "work",
                 "--out", tmp_path, "--n", 3, "--adapter", adapter]  # fmt: skip
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    assert module.main() == 0
    rows = json.loads((tmp_path / f"{name}.json").read_text())["figures"]
    page = (tmp_path / f"{name}.md").read_text()
    assert (tmp_path / f"{name}.svg").stat().st_size > 1000
    if module is many:
        by = {(row["erases"], row["method"]): row for row in rows if row["calls"] == row["erases"]}
        assert [row["method"] for row in rows if row["calls"] != row["erases"]] == list(many.AT_ONCE)
        assert by[64, "exact"]["kl_kept"]["mean"] == 0 and by[64, "exact"]["right"]["mean"] == 1
        assert by[16, "drop"]["kl_erased"]["mean"] == pytest.approx(0.162) and by[16, "drop"]["kl_erased"]["clusters"] == 3
        assert by[1, "shift"]["kl_kept"]["mean"] == pytest.approx(0.013)
        assert "| `adaptive` | 16; 2.0 ms | 16; 2.0 ms | 16; 2.0 ms | 16; 2.0 ms |" in page
        assert "| `exact` | 16; 2.0 ms | 64; 8.0 ms |" in page
    else:
        by = {(row["kind"], row["method"]): row for row in rows}
        assert by["longer", "drop"]["kl"]["mean"] == pytest.approx(0.012)
        assert by["value", "exact"]["right"]["mean"] == 1 and by["value", "none"]["ms"] is None
        assert "| 1.00 |" in page and "Two sentences are replaced by a shorter one" in page
    tool.write_text("#!/bin/sh\necho no such model >&2; exit 3\n", encoding="utf-8")
    assert module.main() == 0, "what was measured is not measured again"
    monkeypatch.setattr(sys, "argv", [*map(str, arguments), "--seed", "2"])
    assert module.main() == 1
