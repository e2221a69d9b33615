"""Pages that are made of figures alone: those of the documentation, and what does not agree."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from rasure_training.eraser import calibrate, replace
from rasure_training.eraser.measured import GROUPS
from rasure_training.forgetting import cases, contexts, dependents
from rasure_training.pages import __main__ as pages
from rasure_training.pages import dependents as dependents_page
from rasure_training.pages import erase_auto, forgetting, leaks, page, probes, quoted
from rasure_training.pages import replace as replace_page
from rasure_training.pages.cells import NO_WIDTH

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMITTED = sorted(path for path in DOCS.glob("*.json") if "page" in page.read(path))
GOALS = [{"text": "a", "wanted": "<= 1", "found": "0.50", "met": True}, {"text": "b", "wanted": "<= 1", "found": "2.00", "met": False}]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    for path in COMMITTED:
        shutil.copy(path, tmp_path)
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["pages", *map(str, arguments)])
    return pages.main()


def test_what_pages_take_for_granted_is_what_was_measured() -> None:
    assert leaks.CANDIDATES == cases.RIVALS + 1
    assert tuple(leaks.WHAT) == cases.ERASED and tuple(leaks.ASKED) == cases.WAYS
    assert len(contexts.CITIES) == probes.CITIES and tuple(probes.WHAT) == contexts.ERASED
    assert erase_auto.ESTIMATED == tuple(calibrate.METHODS)
    assert tuple(dependents_page.WHAT) == dependents.KINDS
    assert set(quoted.KINDS) == set(GROUPS)
    assert tuple(replace_page.WHAT) == replace.KINDS and replace_page.OVERWRITTEN in replace.METHODS


def test_every_page_of_the_documentation_can_be_made_again(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {page.read(path)["page"] for path in COMMITTED} == set(page.KINDS)
    assert call(monkeypatch, docs) == 0
    made = {path.name for path in docs.iterdir()}
    assert made == {path.with_suffix(suffix).name for path in COMMITTED for suffix in (".json", ".md", ".svg")} | {
        "forgetting.md"
    }
    for path in docs.glob("*.md"):
        assert path.read_bytes() == (DOCS / path.name).read_bytes(), path.name
    assert call(monkeypatch, docs, "--check") == 0


def test_every_page_says_once_what_brackets_without_width_mean() -> None:
    for path in COMMITTED:
        assert page.text_of(path.stem, page.read(path)).count(NO_WIDTH) == 1, path.name


def test_a_figure_that_was_changed_is_told(
    docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, docs) == 0
    path = docs / "many_erases.json"
    data = json.loads(path.read_text())
    row = next(row for row in data["figures"] if row["method"] == "adaptive")
    row["kl_kept"]["mean"] += 0.1
    path.write_text(json.dumps(data))
    assert call(monkeypatch, docs, "--check") == 1
    said = capsys.readouterr().err
    assert "many_erases.md" in said and "forgetting.md" in said and "leaks.md" not in said


@pytest.mark.parametrize(
    ("name", "method", "figure", "value"),
    [
        ("probes", "adaptive", ("best", "mean"), 0.9),
        ("probes", "shift", ("best", "low"), 0.1),
        ("probes", "steer", ("together", "low"), 0.1),
        ("leaks", "steer", ("chosen", "high"), 0.6),
        ("leaks", "shift", ("log_p", "low"), -0.1),
    ],
)
def test_what_figures_no_longer_bear_is_not_said(
    docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, method: str,
    figure: tuple[str, str], value: float,
) -> None:  # fmt: skip
    path = docs / f"{name}.json"
    data = json.loads(path.read_text())
    for row in data["figures"]:
        if row["method"] == method and row.get("erased") == "value" and figure[0] in row:
            row[figure[0]][figure[1]] = value
    path.write_text(json.dumps(data))
    assert call(monkeypatch, docs) == 1
    assert "cannot say any more" in capsys.readouterr().err


def test_a_page_that_quotes_a_report_is_held_to_it(
    docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, docs) == 0
    kinds = [{"group": "values", "tokens": size, "method": method, "kl": kl}
             for size, method, kl in (("527", "drop", 0.1634), ("1,026", "drop", 0.2514), ("527", "adaptive", 0.00731))]  # fmt: skip
    (docs / "report.json").write_text(json.dumps({"kinds": kinds, "short": [], "goals": GOALS}))
    quoting = docs / "quoting.md"
    quoting.write_text("# By hand\n<!-- report_kinds:begin -->\n<!-- report_kinds:end -->\n")
    assert call(monkeypatch, docs, "--check") == 1
    assert "quoting.md" in capsys.readouterr().err
    assert call(monkeypatch, docs) == 0 and call(monkeypatch, docs, "--check") == 0
    lines = quoting.read_text().splitlines()
    assert lines[4:6] == ["| a value inside a sentence | 527 | .163 | .0073 |", "|  | 1,026 | .251 |  |"]
    quoting.write_text(quoting.read_text().replace(".251", ".215"))
    assert call(monkeypatch, docs, "--check") == 1
    capsys.readouterr()
    quoting.write_text("<!-- report_kinds:begin -->\n")
    assert call(monkeypatch, docs) == 1 and "not the other behind it" in capsys.readouterr().err


def test_goals_that_were_missed_are_quoted() -> None:
    lines = quoted.parts_of("report", {"kinds": [], "short": [], "goals": GOALS})["report_goals"]
    assert lines[0] == "1 of 2 goals were met. The others:" and lines[-1] == "| b | <= 1 | 2.00 | missed |" and len(lines) == 5
    assert quoted.missed_table(GOALS[:1]) == ["1 of 1 goals were met."]


def test_without_all_parts_there_is_no_page_of_them(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (docs / f"{forgetting.PARTS[0]}.json").unlink()
    assert call(monkeypatch, docs) == 0
    assert not (docs / "forgetting.md").exists() and (docs / "replace.md").exists()


def test_nothing_to_check_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.json").write_text("[1]")
    assert call(monkeypatch, tmp_path, "--check") == 1
    (tmp_path / "broken.json").write_text("{")
    assert call(monkeypatch, tmp_path) == 1


def test_a_page_of_no_kind_is_told(docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (docs / "other.json").write_text('{"page": "leeks", "measured": {}, "figures": []}')
    assert call(monkeypatch, docs, "--check") == 1
    assert "no page is called 'leeks'" in capsys.readouterr().err
