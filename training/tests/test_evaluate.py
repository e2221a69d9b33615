"""Evaluation: answers, intervals, and the way from cases to figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import model_path, random_lora

from rasure_training.eraser import evaluate, make_cases
from rasure_training.eraser.adapter_file import Adapter, write_adapter
from rasure_training.eraser.engine import Settings
from rasure_training.eraser.evaluate import begins, contains, normalise
from rasure_training.eraser.lora import EraserModel
from rasure_training.figures import clustered
from rasure_training.gguf_model import GgufModel, load_model


def test_normalising_is_that_of_rasure_eval() -> None:
    assert normalise(" The  Hague, an old-town! ") == "hague oldtown"
    assert normalise("\u201cA\u201d Ä \u2014 B") == "Ä b"


def test_answers_begin_and_leak_at_words() -> None:
    assert begins(" 12 years.", ["12"]) and not begins("123", ["12"]) and not begins("in 12", ["12"])
    assert begins("The Netherlands.", ["the Netherlands"])
    assert contains("she lives in Paris, France", ["paris"]) and not contains("Parisian", ["Paris"])
    assert not contains("anything", [""])


def test_intervals_are_of_clusters() -> None:
    """A hundred copies of two values say no more than the two."""
    values = [0.0] * 100 + [1.0] * 100
    narrow = clustered(values, [str(i) for i in range(200)])
    wide = clustered(values, ["a"] * 100 + ["b"] * 100)
    assert narrow["mean"] == wide["mean"] == 0.5
    assert (wide["low"], wide["high"], wide["clusters"], wide["n"]) == (0.0, 1.0, 2, 200)
    assert 0.42 < narrow["low"] < 0.46 and 0.54 < narrow["high"] < 0.58


def call(module, *arguments: object) -> int:  # noqa: ANN001
    sys.argv = [module.__name__, *map(str, arguments)]
    return module.main()


@pytest.fixture(scope="module")
def figures(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cases, an adapter and what was measured with it."""
    folder = tmp_path_factory.mktemp("evaluation")
    model = load_model(model_path("tiny-llama"))
    lora = random_lora(EraserModel(model))
    adapter = Adapter(Settings("bridge", 16, 2, 4), lora, model.file.fingerprint(), "Tiny", "apache-2.0", {"converted_from": "x"})
    write_adapter(folder / "a.gguf", model.file, adapter)
    tasks = "conflict,redact,prose,stale-before,notes,several"
    made = call(make_cases, "--tasks", tasks, "--n", 2, "--tokens", 80, "--split", "test", "--data", data, "--out", folder / "c")
    assert made == 0
    done = call(
        evaluate, model.file.path, "--cases", folder / "c", "--adapter", folder / "a.gguf", "--max-tokens", 4,
        "--dtype", "float32", "--methods", "none,exact,drop,repair:4,bridge,bridge+shift",
        "--out", folder / "f.json", "--per-case", folder / "p",
    )  # fmt: skip
    assert done == 0
    return folder


def test_cases_are_made_the_same_again(data: Path, figures: Path, tmp_path: Path) -> None:
    call(make_cases, "--tasks", "conflict", "--n", 2, "--tokens", 80, "--split", "test", "--data", data, "--out", tmp_path / "c")
    again = (tmp_path / "c").read_text().splitlines()
    assert again == (figures / "c").read_text().splitlines()[:2]
    case = json.loads(again[0])
    # The fields that `rasure eval` demands.
    for key in ("prefix", "span", "suffix", "question", "cue"):
        assert isinstance(case[key], str)
    assert case["span"] and case["question"] and isinstance(case["answers"], list) and isinstance(case["leaks"], list)


def test_outcomes(figures: Path) -> None:
    rows = [json.loads(line) for line in (figures / "p").read_text().splitlines()]
    cases = [json.loads(line) for line in (figures / "c").read_text().splitlines()]
    assert len(cases) == 2 * (1 + 1 + 1 + 3 + 1 + 1)
    assert len(rows) == 6 * len(cases)
    for row in rows:
        exact = row["method"] == "exact"
        for key in ("kl", "kl_target"):
            if key in row:
                assert row[key] == 0 if exact else row[key] > -1e-6
        if exact:
            assert row.get("agree", True) and row.get("leak_minus_clean", 0.0) == 0.0
        assert row["n_erased"] > 0
    none = [row for row in rows if row["method"] == "none" and row["task"] == "redact"]
    assert all("exact_match" not in row and "leak" in row and row["kl"] > 0 for row in none)
    prose = [row for row in rows if row["task"] == "prose"]
    assert prose and all("kl" not in row and "kl_target" in row for row in prose)


def test_summary(figures: Path) -> None:
    result = json.loads((figures / "f.json").read_text())
    by = {(figure["task"], figure["method"]): figure for figure in result["figures"]}
    assert by["conflict", "exact"]["kl"]["mean"] == 0.0
    assert by["conflict", "drop"]["n"] == 2
    assert "stale-before/recite" in {task for task, _ in by}
    bridge, drop = by["redact", "bridge"], by["redact", "drop"]
    assert bridge["kl_minus_drop"]["mean"] == pytest.approx(bridge["kl"]["mean"] - drop["kl"]["mean"])
    assert result["model_sha256"] and len(result["adapters"]) == 1


def test_cases_that_say_no_more_than_they_must(llama: GgufModel, tmp_path: Path) -> None:
    case = {"id": "x", "prefix": "Ada likes tea.", "span": " Bob likes gin.", "suffix": " So it is.", "question": " Who?",
            "cue": "", "answers": ["Ada"], "leaks": ["gin"]}  # fmt: skip
    (tmp_path / "c").write_text(json.dumps(case) + "\n")
    torch.manual_seed(0)
    done = call(evaluate, llama.file.path, "--cases", tmp_path / "c", "--dtype", "float32", "--max-tokens", 2,
                "--out", tmp_path / "f.json")  # fmt: skip
    assert done == 0
    figures = json.loads((tmp_path / "f.json").read_text())["figures"]
    assert {figure["method"] for figure in figures} == {
        "none", "exact", "drop", "shift", "repair:16", "repair:64", "repair:15%", "repair:16+shift", "adaptive", "refill"
    }  # fmt: skip


def test_methods_without_their_adapter_are_refused(llama: GgufModel, figures: Path, capsys) -> None:  # noqa: ANN001
    assert call(evaluate, llama.file.path, "--cases", figures / "c", "--methods", "drop,steer") == 1
    assert "steer needs an adapter" in capsys.readouterr().err
