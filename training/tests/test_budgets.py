"""Tasks that KV caches are tried on: what they hold, and that splits have nothing in common."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from rasure_training.budgets import measure
from rasure_training.budgets.arms import load_arms, parse_arms
from rasure_training.budgets.make_tasks import ALL, load_texts, make_tasks, task_list
from rasure_training.budgets.phrases import CODES, LISTS, SENTENCES, VARIABLES, VOTES
from rasure_training.budgets.tasks import TASKS, Draft
from rasure_training.eraser.prompts import END, HEAD
from rasure_training.runs import ConfigError
from rasure_training.text import SPLITS

TOKENS = 400


@pytest.mark.parametrize("task", list(TASKS))
def test_items(data: Path, task: str) -> None:
    for seed in range(20):
        item = TASKS[task](Draft(random.Random(seed), load_texts(data, "train"), TOKENS))
        assert item == TASKS[task](Draft(random.Random(seed), load_texts(data, "train"), TOKENS))
        assert item.pieces[0].startswith(HEAD) and all(item.pieces)
        for question in item.questions:
            assert question.answers[0].startswith(" ") and question.evidence
            said = " ".join(item.pieces[i] for i in question.evidence)
            last = question.answers[0].split(" = ")[-1].strip()
            assert last in said
            elsewhere = " ".join(piece for i, piece in enumerate(item.pieces) if i not in question.evidence)
            if task in ("needle", "turns", "needles"):
                assert last not in elsewhere


def test_the_second_question_ends_the_first_answer(data: Path) -> None:
    item = TASKS["turns"](Draft(random.Random(1), load_texts(data, "train"), TOKENS))
    assert len(item.questions) == 2 and item.questions[1].question.startswith(END)


def test_evidence_lies_anywhere(data: Path) -> None:
    depths = []
    for seed in range(60):
        item = TASKS["needle"](Draft(random.Random(seed), load_texts(data, "train"), TOKENS))
        at = item.questions[0].evidence[0]
        before = sum(len(piece) for piece in item.pieces[:at])
        depths.append(before / sum(len(piece) for piece in item.pieces))
    assert min(depths) < 0.25 and max(depths) > 0.75 and 0.3 < sum(depths) / len(depths) < 0.7


def test_cases(data: Path) -> None:
    source = load_texts(data, "validation")
    cases = list(make_tasks(source, list(ALL), 3, TOKENS, 1))
    assert cases == list(make_tasks(source, list(ALL), 3, TOKENS, 1))
    assert len({case["id"] for case in cases}) == len(cases) == 3 * len(ALL)
    for case in cases:
        body = case["text"] if case["task"] == "text" else "".join(case["pieces"])
        assert 0.5 * TOKENS < len(body.split()) / 0.63 < 2.0 * TOKENS
        assert case["split"] == "validation"


def test_wordings_differ_between_splits() -> None:
    for wordings in (CODES, VARIABLES, VOTES, LISTS):
        said = [{w.statement for w in wordings[split]} for split in SPLITS]
        assert not (said[0] & said[1] or said[0] & said[2] or said[1] & said[2])
    assert len({text for split in SPLITS for text in SENTENCES[split]}) == sum(len(SENTENCES[split]) for split in SPLITS)


def test_splits_share_no_values(data: Path) -> None:
    answers = []
    for split in SPLITS:
        drafts = (Draft(random.Random(seed), load_texts(data, split), TOKENS) for seed in range(25))
        answers.append({question.answers[0] for draft in drafts for question in TASKS["needle"](draft).questions})
    assert not (answers[0] & answers[1] or answers[0] & answers[2] or answers[1] & answers[2])


def test_unknown_tasks_are_named() -> None:
    with pytest.raises(Exception, match="nonsense"):
        task_list("needle,nonsense")


# ------------------------------------------------------------------------------------------------ measurement

FAKE = """#!/usr/bin/env python3
import json, sys
options = sys.argv[2:]
if "6%" in options:
    sys.exit("rasure: a budget of 6 bytes is too small: a window of one token takes 9")
if "broken" in options:
    sys.exit("rasure: it broke")
with open(options[options.index("--per-case") + 1], "w") as file:
    for line in open(options[0]):
        file.write(json.dumps({"id": json.loads(line)["id"]}) + "\\n")
"""
ARMS = """
[[arm]]
name = "full"
options = []
budgets = [""]

[[arm]]
name = "window"
options = ["--policy", "window"]
budgets = ["6%", "25%"]
"""


@pytest.fixture
def setting(data: Path, tmp_path: Path) -> list[str]:
    rasure, model, arms = tmp_path / "rasure", tmp_path / "model.gguf", tmp_path / "arms.toml"
    rasure.write_text(FAKE)
    rasure.chmod(0o755)
    model.write_text("a model")
    arms.write_text(ARMS)
    out = tmp_path / "out"
    return [str(rasure), str(model), "--arms", str(arms), "--isa", "ref", "--data", str(data), "--out", str(out),
            "--lengths", "300,400", "--tasks", "needle,text", "--n", "2", "--jobs", "1"]  # fmt: skip


def run(setting: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["measure", *setting])
    return measure.main()


def test_a_measurement_goes_on_where_it_was(
    setting: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(setting[setting.index("--out") + 1])
    assert run(setting, monkeypatch) == 0
    assert "0 parts are there already" in capsys.readouterr().err
    assert len(list(out.glob("*.record.json"))) == 12
    refused = json.loads((out / "validation-1-300-needle-window-6.record.json").read_text())
    assert "is too small" in refused["refused"] and refused["budget"] == "6%"
    assert len((out / "validation-1-300-needle-window-25.outcomes.jsonl").read_text().splitlines()) == 2
    (out / "validation-1-400-text-full.record.json").unlink()
    assert run(setting, monkeypatch) == 0
    assert "11 parts are there already" in capsys.readouterr().err


def test_some_arms_and_budgets(setting: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(setting[setting.index("--out") + 1])
    assert run([*setting, "--budgets", "25%"], monkeypatch) == 0
    records = [json.loads(path.read_text()) for path in out.glob("*.record.json")]
    assert {(record["arm"], record["order"], record["budget"]) for record in records} == {("full", 0, ""), ("window", 1, "25%")}
    assert run([*setting, "--only", "window"], monkeypatch) == 0
    assert "4 parts are there already" in capsys.readouterr().err
    assert run([*setting, "--only", "door"], monkeypatch) == 1
    assert "no arm door" in capsys.readouterr().err


def test_other_failures_end_a_measurement(
    setting: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = Path(setting[setting.index("--arms") + 1])
    arms.write_text(ARMS.replace('"--policy", "window"', '"broken"'))
    assert run(setting, monkeypatch) == 1
    assert "it broke" in capsys.readouterr().err


@pytest.mark.parametrize(
    "data, says",
    [
        ({}, "nothing else"), ({"arm": [{"name": "a"}]}, "name, options and budgets"),
        ({"arm": [{"name": "a", "options": [1], "budgets": [""]}]}, "strings"),
        ({"arm": [{"name": "a", "options": [], "budgets": []}]}, "no budget"),
        ({"arm": [{"name": "a", "options": [], "budgets": ["6%"], "at": {"7%": []}}]}, "none of the arm's"),
        ({"arm": [{"name": "a", "options": [], "budgets": [""]}] * 2}, "one name"),
    ],
)  # fmt: skip
def test_bad_arms(data: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_arms(data)


def test_options_by_budget() -> None:
    (arm,) = parse_arms({"arm": [{"name": "a", "options": ["-x"], "budgets": ["6%", "12%"], "at": {"6%": ["-y", "1"]}}]})
    assert arm.options_at("6%") == ["-x", "-y", "1", "--budget", "6%"]
    assert arm.options_at("12%") == ["-x", "--budget", "12%"]


def test_shipped_arms() -> None:
    arms = load_arms(Path(__file__).resolve().parents[1] / "configs" / "budgets.toml")
    assert [arm.name for arm in arms][:2] == ["full", "window"]
