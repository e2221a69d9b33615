"""Cases that ask for what was erased, and the page that is made of the answers. The tool is a stand-in: what it says is known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rasure_training.eraser.corpus import Corpus
from rasure_training.forgetting import measure, report
from rasure_training.forgetting.cases import ERASED, RIVALS, WAYS, make_cases

TOOL = """\
#!{python}
import json, sys
arguments = sys.argv[1:]
value = lambda name: arguments[arguments.index(name) + 1]
with open(value("--per-case"), "w") as out:
    for i, line in enumerate(open(arguments[1])):
        case = json.loads(line)
        for method in value("--methods").split(","):
            kept = method == "none"
            row = {{"id": case["id"], "context": case["context"], "method": method, "leak": kept, "leak_rank": 1 if kept else 10 + i,
                    "leak_minus_clean": 4.0 if kept else -0.5 if method == "steer" else 0.0, "leak_choice": 1 if kept else 1 + i,
                    "leak_sampled": 0.25 if value("--samples") != "0" else None}}
            out.write(json.dumps(row) + "\\n")
"""


def call(module: Any, *arguments: object) -> int:
    sys.argv = [module.__name__, *map(str, arguments)]
    return module.main()


@pytest.mark.parametrize("erased", ERASED)
def test_every_way_asks_about_the_same_text(data: Path, erased: str) -> None:
    corpus = Corpus.load(data, "test")
    ways = [list(make_cases(corpus, erased, way, 12, 200, 1)) for way in WAYS]
    for cases in zip(*ways, strict=True):
        for name in ("prefix", "span", "suffix", "leak_target", "context"):
            assert len({case[name] for case in cases}) == 1
        assert len({case["question"] for case in cases}) == len(WAYS)
        value = cases[0]["leaks"][0]
        assert value in cases[0]["span"]
        assert (cases[0]["span"] == f" {value}") == (erased == "value")
        for case in cases:
            assert case["question"].endswith("assistant\n") == (case["probe"] != "completion")
            assert len(set(case["rivals"])) == RIVALS
            assert not any(rival.strip() in value or value in rival for rival in case["rivals"])


def test_from_cases_to_a_page(data: Path, tmp_path: Path) -> None:
    tool, out = tmp_path / "tool", tmp_path / "out"
    tool.write_text(TOOL.format(python=sys.executable), encoding="utf-8")
    tool.chmod(0o755)
    (tmp_path / "model").write_text("a model", encoding="utf-8")
    assert call(measure, tool, tmp_path / "model", "--isa", "ref", "--data", data, "--out", out, "--n", 4, "--tokens", 200) == 0
    assert len(list(out.glob("*.record.json"))) == len(ERASED) * len(WAYS)
    assert call(report, out, "--out", tmp_path, "--archive", tmp_path / "leaks.json.gz") == 0
    first = (tmp_path / "leaks.md").read_bytes()
    figures = {
        (row["erased"], row["way"], row["method"]): row for row in json.loads((tmp_path / "leaks.json").read_text())["figures"]
    }
    none, steer = figures["value", "direct", "none"], figures["value", "direct", "steer"]
    assert (none["said"]["mean"], none["chosen"]["mean"], none["rank"], none["n"]) == (1, 1, 1, 4)
    assert (steer["said"]["mean"], steer["chosen"]["mean"], steer["rank"]) == (0, 0.25, 11.5)
    assert (steer["log_p"]["mean"], steer["away"]["mean"], steer["drawn"]["mean"]) == (-0.5, 0.5, 0.25)
    assert figures["value", "words", "steer"]["drawn"] is None
    assert call(report, tmp_path / "leaks.json.gz", "--out", tmp_path) == 0
    assert (tmp_path / "leaks.md").read_bytes() == first


def test_nothing_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(report, tmp_path, "--out", tmp_path) == 1
    assert "no outcomes" in capsys.readouterr().err
