"""From cases through a tool that answers them to tables. The tool is a stand-in: what it says is known."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import model_path, random_lora

from rasure_training import markers, parts
from rasure_training.eraser import ablations, card, measure, report
from rasure_training.eraser.adapter_file import Adapter, write_adapter
from rasure_training.eraser.engine import Settings
from rasure_training.eraser.facts import FAMILIES, NEW_FAMILIES
from rasure_training.eraser.goals import best_learned, leak_goals, ratio_goal, torch_goal
from rasure_training.eraser.lora import EraserModel
from rasure_training.eraser.measured import GROUPS, Measured, case_row, difference, load
from rasure_training.eraser.tables import family_table, free_table, gain_table, torch_table
from rasure_training.gguf_model import load_model
from rasure_training.pages import erase_ablations, quoted
from rasure_training.pages.cells import NO_WIDTH, SHARED_TEXT

TOOL = """\
#!{python}
import json, pathlib, sys
arguments = sys.argv[1:]
if arguments[0] == "info":
    sys.exit(print('{{"model": {{"isa": "ref"}}}}'))
value = lambda name: arguments[arguments.index(name) + 1]
with open({log!r}, "a") as log:
    log.write(value("--methods") + "\\n")
fails = pathlib.Path({fails!r})
if fails.exists() and len(open({log!r}).readlines()) >= int(fails.read_text()):
    sys.exit("rasure: the tool failed on purpose")
kl = {{"exact": 0.0, "none": 0.5, "drop": 0.25, "shift": 0.25, "bridge:16": 0.0625, "bridge:32": 0.0625, "steer": 0.2, "repair:16": 0.125,
      "repair:16+shift": 0.1}}
with open(value("--per-case"), "w") as out:
    for line in open(arguments[1]):
        case = json.loads(line)
        for method in value("--methods").split(","):
            row = {{key: case[key] for key in ("id", "context", "task", "probe", "family")}}
            row |= {{"method": method, "kl_to_exact": kl[method], "kl_target": kl[method] if case["target"] else None,
                    "exact_match": True if case["answers"] else None, "leak": False, "agree_with_exact": True,
                    "leak_minus_clean": 0.1 if case["leak_target"] and method == "bridge:16" else 0.0, "erase_ms": 1.5,
                    "n_erased": 12, "n_context": 345}}
            out.write(json.dumps(row) + "\\n")
"""
METHODS = "none,exact,drop,shift,repair:16,bridge:16"


def tool(folder: Path, fails: int | None = None) -> Path:
    """`fails`: from this run on; None: never."""
    path, flag = folder / "tool", folder / "fails"
    path.write_text(TOOL.format(python=sys.executable, log=str(folder / "log"), fails=str(flag)), encoding="utf-8")
    path.chmod(0o755)
    if fails is None:
        flag.unlink(missing_ok=True)
    else:
        flag.write_text(str(fails), encoding="utf-8")
    return path


def runs(folder: Path) -> list[str]:
    """The methods of each."""
    log = folder / "log"
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def newer_tool(folder: Path) -> None:
    """Another build of it."""
    tool(folder).write_text(tool(folder).read_text(encoding="utf-8") + "# newer\n", encoding="utf-8")


def record_of(outcomes: Path) -> dict[str, Any]:
    return json.loads(outcomes.with_name(outcomes.name.replace(".outcomes.jsonl", ".record.json")).read_text(encoding="utf-8"))


def methods_in(outcomes: Path) -> list[str]:
    return list(dict.fromkeys(json.loads(line)["method"] for line in outcomes.read_text(encoding="utf-8").splitlines()))


def make_adapter(path: Path, name: str, kind: str = "bridge") -> None:
    model = load_model(model_path("tiny-llama"))
    lora = random_lora(EraserModel(model))
    training = {"converted_from": "x", "steps": 7}
    adapter = Adapter(Settings(kind, 16, 2, 4), lora, model.file.fingerprint(), name, "apache-2.0", training)
    write_adapter(path, model.file, adapter)


def call(module: Any, *arguments: object) -> int:
    sys.argv = [module.__name__, *map(str, arguments)]
    return module.main()


@pytest.fixture
def setting(tmp_path: Path, data: Path) -> list[object]:
    (tmp_path / "model").write_text("a model", encoding="utf-8")
    make_adapter(tmp_path / "bridge.gguf", "Tiny")
    return [tool(tmp_path), tmp_path / "model", "--adapter", tmp_path / "bridge.gguf", "--data", data, "--out", tmp_path / "out",
            "--tasks", "conflict,redact", "--lengths", "200,300", "--n", 3, "--methods", METHODS]  # fmt: skip


def without_adapters(setting: list[object]) -> list[object]:
    at = setting.index("--adapter")
    return setting[:at] + setting[at + 2 :]


def test_parts_are_made_once(setting: list[object], tmp_path: Path) -> None:
    outcomes = tmp_path / "out" / "validation-1-200-redact.outcomes.jsonl"
    assert call(measure, *setting) == 0
    assert runs(tmp_path) == [METHODS] * 4
    before = outcomes.read_bytes()
    assert call(measure, *setting) == 0
    assert runs(tmp_path) == [METHODS] * 4
    make_adapter(tmp_path / "bridge.gguf", "Tinier")
    assert call(measure, *setting) == 0
    assert runs(tmp_path)[4:] == ["bridge:16"] * 4
    assert outcomes.read_bytes() == before
    before = record_of(outcomes)["made_by"]
    newer_tool(tmp_path)
    assert call(measure, *setting[:-1], "exact,repair:16+shift,bridge:16") == 0
    assert runs(tmp_path)[8:] == ["repair:16+shift"] * 4
    made_by = record_of(outcomes)["made_by"]
    assert made_by == before | {"repair:16+shift": made_by["repair:16+shift"]} and made_by["repair:16+shift"] != before["exact"]
    (tmp_path / "model").write_text("another model", encoding="utf-8")
    assert call(measure, *setting[:-1], "exact,bridge:16") == 0
    assert runs(tmp_path)[12:] == ["exact,bridge:16"] * 4
    assert methods_in(outcomes) == ["exact", "bridge:16"]
    record = record_of(outcomes)
    assert (record["task"], record["tokens"], record["contexts"]) == ("redact", 200, 3)


def test_what_is_not_asked_for_stays(setting: list[object], tmp_path: Path) -> None:
    outcomes = tmp_path / "out" / "validation-1-200-redact.outcomes.jsonl"
    assert call(measure, *setting) == 0
    lines, record = outcomes.read_text(encoding="utf-8").splitlines(), record_of(outcomes)
    assert call(measure, *setting[:-1], "drop,exact") == 0
    assert len(runs(tmp_path)) == 4 and record_of(outcomes) == record
    newer_tool(tmp_path)
    assert call(measure, *without_adapters(setting)[:-1], "repair:16+shift,drop") == 0
    assert runs(tmp_path)[4:] == ["repair:16+shift"] * 4
    order = [*METHODS.split(","), "repair:16+shift"]
    assert methods_in(outcomes) == order
    assert [line for line in outcomes.read_text(encoding="utf-8").splitlines() if "repair:16+shift" not in line] == lines
    after = record_of(outcomes)
    assert after["methods"] == list(after["made_with"]) == list(after["made_by"]) == order
    assert after["adapters"] == record["adapters"] and after["made_with"]["bridge:16"] == record["made_with"]["bridge:16"]
    assert call(report, tmp_path / "out", "--out", tmp_path) == 0


def test_methods_of_two_adapters_do_not_stay_together(setting: list[object], tmp_path: Path) -> None:
    outcomes = tmp_path / "out" / "validation-1-200-redact.outcomes.jsonl"
    assert call(measure, *setting[:-1], "bridge:16,exact,bridge:32") == 0
    first = record_of(outcomes)["adapters"]
    make_adapter(tmp_path / "bridge.gguf", "Tinier")
    assert call(measure, *setting[:-1], "drop") == 0  # no bridge is asked for: those of before stay, and their adapter
    assert methods_in(outcomes) == ["bridge:16", "exact", "bridge:32", "drop"]
    assert record_of(outcomes)["adapters"] == first
    assert call(measure, *setting[:-1], "drop,bridge:16") == 0
    assert runs(tmp_path)[-1] == "bridge:16" and methods_in(outcomes) == ["bridge:16", "exact", "drop"]
    record = record_of(outcomes)
    assert record["methods"] == list(record["made_with"]) == list(record["made_by"]) == ["bridge:16", "exact", "drop"]
    assert [record["made_with"]["bridge:16"]] == list(record["adapters"].values()) != list(first.values())


def test_a_tool_that_fails_leaves_no_record(setting: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool(tmp_path, fails=1)
    assert call(measure, *setting) == 1
    assert "failed on purpose" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.record.json"))


def test_a_part_that_was_stopped_goes_on(setting: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four parts of three contexts; the third context's run fails, and all that follow."""
    assert call(measure, *setting) == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.outcomes.jsonl")}
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    monkeypatch.setattr(parts, "AT_A_TIME", 1)
    tool(tmp_path, fails=len(runs(tmp_path)) + 3)
    assert call(measure, *setting, "--jobs", 1) == 1
    tool(tmp_path)
    before = len(runs(tmp_path))
    assert call(measure, *setting) == 0
    assert len(runs(tmp_path)) - before == 4 * 3 - 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.outcomes.jsonl")} == whole
    assert len(list((tmp_path / "out").iterdir())) == 3 * len(whole)


def test_report(setting: list[object], tmp_path: Path) -> None:
    assert call(measure, *setting) == 0
    out = tmp_path / "docs"
    out.mkdir()
    assert call(report, tmp_path / "out", "--out", out, "--default", "bridge:16") == 0
    figures = json.loads((out / "erase_quality.json").read_text(encoding="utf-8"))
    found = {(row["tokens"], row["task"], row["method"]): row for row in figures["figures"]}
    assert found[200, "redact", "bridge:16"]["kl"]["mean"] == 0.0625
    goals = {goal["text"]: goal for goal in figures["goals"]}
    assert goals["redaction: `bridge:16` against `drop`"]["met"]
    assert goals["redaction: `bridge:16` against `repair:16`"]["found"].startswith("0.50;")
    leaks = goals["`bridge:16`: mean log P(erased value) above that of `drop`, by task and length"]
    assert not leaks["met"] and leaks["found"].startswith("conflict, 345 tokens: 0.100 (0.100 to 0.100); ")
    text = (out / "erase_quality.md").read_text(encoding="utf-8")
    assert "| `bridge:16` | 0.0625 (0.0625 to 0.0625) |" in text and "KL, 345 tokens" in text
    assert "| `repair:16` | -0.1250 (-0.1250 to -0.1250) | -0.1250 (-0.1250 to -0.1250) |" in text  # against drop
    assert text.count("### 345 tokens") == 2
    assert text.count(NO_WIDTH) == text.count(SHARED_TEXT) == 1 and "builds of the tool" not in text
    assert all((out / f"erase_quality{which}.svg").stat().st_size > 1000 for which in ("", "_by_length"))


def test_families_that_training_has_not_stand_apart(setting: list[object], tmp_path: Path) -> None:
    assert NEW_FAMILIES == {family.name for family in FAMILIES if "train" not in family.splits} >= {"day", "room", "sport"}
    assert call(measure, *setting) == 0
    measured = load(tmp_path / "out")
    assert {row["family"] for row in measured.rows} <= {family.name for family in FAMILIES}
    rows = [
        row(method, kl * (4 if i == 0 else 1), f"{task}-{i}", task=task, family="day" if i == 0 else "city")
        for task in ("conflict", "redact") for i in range(4) for method, kl in (("exact", 0.0), ("drop", 0.25))
    ]  # fmt: skip
    head, _, exact, drop = family_table(Measured([], rows))
    assert head == ("| method | whole sentences, families of training, n = 3 | whole sentences, families of the test split alone, n = 1 | "
                    "values, families of training, n = 3 | values, families of the test split alone, n = 1 |")  # fmt: skip
    assert drop == "| `drop` |" + 2 * " 0.2500 (0.2500 to 0.2500) | 1.0000 (1.0000 to 1.0000) |"
    assert exact.count("0.0000 (") == 4


def test_a_best_method_stands_beside_the_default(setting: list[object], tmp_path: Path) -> None:
    assert call(measure, *setting) == 0
    assert call(report, tmp_path / "out", "--out", tmp_path, "--default", "shift") == 0
    goals = {goal["text"]: goal for goal in json.loads((tmp_path / "erase_quality.json").read_text(encoding="utf-8"))["goals"]}
    best = goals["conflict, 345 tokens: exact match of the best method, `drop`, minus `exact`"]
    assert best["met"] and best["found"] == "0.000 (0.000 to 0.000); the default, `shift`: 0.000 (0.000 to 0.000)"
    assert call(report, tmp_path / "out", "--out", tmp_path) == 0  # the default is adaptive, which was not measured
    text = (tmp_path / "erase_quality.md").read_text(encoding="utf-8")
    assert "| 0.000 (0.000 to 0.000); the default, `adaptive`: - | met |" in text
    assert "was selected on the cases that its row judges it by" in text


def test_every_build_of_the_tool_is_named(setting: list[object], tmp_path: Path) -> None:
    assert call(measure, *setting) == 0
    newer_tool(tmp_path)
    assert call(measure, *setting[:-1], "repair:16+shift") == 0
    kept = tmp_path / "kept.json.gz"
    for source, more in ((tmp_path / "out", ["--archive", kept]), (kept, [])):
        assert call(report, source, "--out", tmp_path, *more) == 0
        for part in json.loads((tmp_path / "erase_quality.json").read_text(encoding="utf-8"))["parts"]:
            assert list(part["made_by"].values()) == [METHODS.split(","), ["repair:16+shift"]]
            assert list(part["made_by"])[1] == part["rasure_sha256"]
        assert "kernels: ref; measured with 2 builds of the tool; adapters `bridge.gguf`" in (
            tmp_path / "erase_quality.md").read_text(encoding="utf-8")  # fmt: skip


def test_older_records_do_not_say_which_build_it_was(setting: list[object], tmp_path: Path) -> None:
    assert call(measure, *setting) == 0
    for path in (tmp_path / "out").glob("*.record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({key: value for key, value in record.items() if key != "made_by"}), encoding="utf-8")
    assert call(report, tmp_path / "out", "--out", tmp_path) == 0
    figures = json.loads((tmp_path / "erase_quality.json").read_text(encoding="utf-8"))
    assert all(part["made_by"] == {} for part in figures["parts"])
    assert "builds of the tool" not in (tmp_path / "erase_quality.md").read_text(encoding="utf-8")


def test_a_page_quotes_the_report(setting: list[object], tmp_path: Path) -> None:
    assert call(measure, *setting) == 0
    page = tmp_path / "erasing.md"
    assert call(report, tmp_path / "out", "--out", tmp_path) == 0
    tables = quoted.parts_of("erase_quality", json.loads((tmp_path / "erase_quality.json").read_text(encoding="utf-8")))
    for text, said in (("# Erasing\n", "lacks the markers"), ("<!-- erase_quality_kinds:begin -->\n", "not the other behind it")):
        page.write_text(text, encoding="utf-8")
        with pytest.raises(markers.MarkersError, match=said):
            markers.fill(page, tables)
        assert page.read_text(encoding="utf-8") == text
    page.write_text(
        "before\n<!-- erase_quality_kinds:begin -->\nold\n<!-- erase_quality_kinds:end -->\nafter\n", encoding="utf-8"
    )
    markers.fill(page, tables)
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "before" and lines[-1] == "after" and "old" not in lines
    assert "| a value inside a sentence | 345 | .250 | .250 | .125 | .062 |" in lines


def test_an_archive_stands_for_the_folder(setting: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(measure, *setting) == 0
    pages, kept = [], tmp_path / "kept.json.gz"
    for source, more in ((tmp_path / "out", ["--archive", kept]), (kept, [])):
        out = tmp_path / f"docs{len(pages)}"
        out.mkdir()
        assert call(report, source, "--out", out, *more) == 0
        pages.append((out / "erase_quality.md").read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
    assert call(report, kept, tmp_path / "out", "--out", tmp_path) == 1
    assert "the same part is in two of them: " in capsys.readouterr().err
    kept.write_bytes(b"no archive")
    assert call(report, kept, "--out", tmp_path) == 1
    assert "report:" in capsys.readouterr().err


def test_a_folder_of_two_adapters_is_refused(setting: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(measure, *setting) == 0
    make_adapter(tmp_path / "bridge.gguf", "Tinier")
    assert call(measure, *[200 if argument == "200,300" else argument for argument in setting]) == 0
    assert call(report, tmp_path / "out", "--out", tmp_path) == 1
    assert "adapters" in capsys.readouterr().err


def test_a_folder_of_two_styles_is_refused(setting: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(measure, *setting) == 0
    style = {"echo": 0.7, "erases": 4, "span_words": [1, 180]}
    records = sorted((tmp_path / "out").glob("*.record.json"))
    assert all(json.loads(path.read_text(encoding="utf-8"))["style"] == style for path in records)
    shorter = [200 if argument == "200,300" else argument for argument in setting]
    assert call(measure, *shorter, "--echo", 0) == 0
    assert call(report, tmp_path / "out", "--out", tmp_path) == 1
    assert "not all made with the same style" in capsys.readouterr().err
    for path in records[:2]:  # as records were before they said it
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record.pop("style") == style | {"echo": 0}
        path.write_text(json.dumps(record), encoding="utf-8")
    assert call(report, tmp_path / "out", "--out", tmp_path) == 0
    ran = len(runs(tmp_path))
    assert call(measure, *shorter, "--echo", 0) == 0
    assert len(runs(tmp_path)) == ran


def test_a_style_that_gives_the_same_cases_is_no_other(setting: list[object], tmp_path: Path) -> None:
    """The number of erases is that of one task: the others are not made again, and the report takes them together."""
    settings = ["several,redact" if argument == "conflict,redact" else argument for argument in setting]
    assert call(measure, *settings) == 0
    assert call(measure, *settings, "--erases", 2) == 0
    assert len(runs(tmp_path)) == 4 + 2
    assert call(report, tmp_path / "out", "--out", tmp_path) == 0


def test_a_part_that_was_stopped_before_styles_were_noted_goes_on(
    setting: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "AT_A_TIME", 1)
    planned = measure.plan_parts

    def without_style(args: Namespace) -> list[measure.MethodsPart]:
        return [replace(part, noted={key: part.noted[key] for key in part.noted if key != "style"}) for part in planned(args)]

    monkeypatch.setattr(measure, "plan_parts", without_style)
    tool(tmp_path, fails=2)
    assert call(measure, *setting, "--jobs", 1) == 1
    monkeypatch.setattr(measure, "plan_parts", planned)
    tool(tmp_path)
    before = len(runs(tmp_path))
    assert call(measure, *setting) == 0
    assert len(runs(tmp_path)) - before == 4 * 3 - 1


def test_the_card_has_the_figures_of_its_adapter(
    setting: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(measure, *setting) == 0
    assert call(report, tmp_path / "out", "--out", tmp_path) == 0
    figures = ["--figures", tmp_path / "erase_quality.json", "--out", tmp_path / "CARD.md"]
    assert call(card, tmp_path / "bridge.gguf", *figures) == 0
    text = (tmp_path / "CARD.md").read_text(encoding="utf-8")
    assert text.count(NO_WIDTH) == 1
    assert "| `bridge:16` | 0.0625 (0.0625 to 0.0625) |" in text
    assert "kernels: ref, the" in text and "whole sentences: log P(erased) - clean" in text
    assert "| `bridge:16` | 1.00 (1.00 to 1.00) | 0.10 (0.10 to 0.10) |" in text
    assert "never the span" in text and "apache-2.0" in text

    (tmp_path / "bridge.gguf").write_bytes((tmp_path / "bridge.gguf").read_bytes().replace(b"Tiny", b"Tinz"))
    assert call(card, tmp_path / "bridge.gguf", *figures) == 1
    assert "other adapters" in capsys.readouterr().err


def given_to_ablations(setting: list[object], data: Path) -> dict[str, Any]:
    return {"rasure": setting[0], "model": setting[1], "adapter": [setting[3]], "data": data, "tokens": 200, "n": 2, "isa": "ref"}


def test_settings_of_a_trained_adapter(
    setting: list[object], tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given = given_to_ablations(setting, data)

    def lines(**more: object) -> list[str]:
        plan = {"title": "A title", "methods": ["exact", "drop", "bridge:16"], **more}
        args = Namespace(**given)
        shipped = ablations.measure_shipped({"settings": [plan]}, args)
        measured = {"n": 2, "tokens": 200, "isa": "ref", "adapters": ""}
        return erase_ablations.lines("name", measured, ablations.compare_settings(plan, args, shipped))

    found = lines()
    assert "## A title" in found
    assert next(line for line in found if line.startswith("| `bridge:16`")).count("0.0625 (0.0625 to 0.0625)") == len(GROUPS)
    found = lines(tasks=["several"], erases=[1, 2])
    assert "|  | 1, KL | 1, exact match | 2, KL | 2, exact match |" in found
    assert "| `drop` |" + " 0.2500 (0.2500 to 0.2500) | 1.00 (1.00 to 1.00) |" * 2 in found
    found = lines(tasks=["prose"], span_words=[10, 20], tokens=300)
    assert any("5 to 16 tokens, n = 2" in line for line in found)


def test_a_setting_pools_nothing_from_before(setting: list[object], tmp_path: Path, data: Path) -> None:
    given = given_to_ablations(setting, data)

    def measured(methods: str, *tasks: str, **more: object) -> Measured:
        adapters = given["adapter"]
        return ablations.measure(adapters, methods.split(","), Namespace(**(given | more)), tmp_path / "settings", tasks)

    assert measured("exact,drop,bridge:16", "conflict", "redact").lengths() == [200]
    found = measured("exact,drop", "conflict", tokens=300, n=3)
    assert found.lengths() == [300] and found.tasks() == ["conflict"] and len(found.rows) == 2 * 3
    assert [record["contexts"] for record in found.records] == [3]
    again = measured("drop,exact", "redact")
    assert again.lengths() == [200] and again.methods() == ["exact", "drop"] and len(again.rows) == 2 * 2


def test_the_page_of_ablations(setting: list[object], tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = tmp_path / "plan.toml"
    setting_of_plan = '[[settings]]\ntitle = "A title"\nmethods = ["exact", "drop"]\n'
    config.write_text(f"steps = 1\nvariants = []\n{setting_of_plan}", encoding="utf-8")
    ablations.write(Namespace(**given_to_ablations(setting, data), config=config, out=tmp_path))
    text = (tmp_path / "erase_ablations.md").read_text(encoding="utf-8")
    assert text.count(NO_WIDTH) == 1
    assert "| bridge as shipped, 7 steps | 0.0625 (0.0625 to 0.0625) |" in text and "## A title" in text


def test_trainings_share_measurements_and_are_held_against_the_first_of_their_kind(
    setting: list[object], tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_adapter(tmp_path / "other.gguf", "Other")
    make_adapter(tmp_path / "steer.gguf", "Steer", "steer")
    trained = {"bridge": [("a", tmp_path / "bridge.gguf"), ("b", tmp_path / "other.gguf")], "steer": [("c", tmp_path / "steer.gguf")]}
    monkeypatch.setattr(ablations, "train_all", lambda plan, args: trained)
    args = Namespace(**given_to_ablations(setting, data))
    plan: dict[str, Any] = {"settings": []}
    figures = ablations.compare_trainings(plan, args, ablations.measure_shipped(plan, args))
    assert list(dict.fromkeys(runs(tmp_path))) == ["drop,repair:16,bridge:16", "bridge:16,steer", "bridge:16"]
    held = {entry["row"]: "difference" in entry for entry in figures}
    assert held == {"(`drop`)": False, "(`repair:16`)": False, "a": False, "b": True, "c": False, "bridge as shipped, 7 steps": True}
    values = [entry for entry in figures if entry["column"] == "values"]
    assert [entry["figure"]["mean"] for entry in values] == [0.25, 0.125, 0.0625, 0.0625, 0.2, 0.0625]


def test_what_is_too_far_from_pytorch_is_named() -> None:
    def figure(task: str, method: str, mean: float) -> dict[str, object]:
        return {"task": task, "method": method, "difference": {"mean": mean, "low": mean, "high": mean, "n": 9}}

    goal = torch_goal([figure("redact", "steer", 0.02), figure("ask", "bridge:16", 0.01), figure("ask", "drop", 0.5)])
    assert not goal.met and goal.found.startswith("redact `steer` 0.020") and "ask" not in goal.found
    assert torch_goal([figure("ask", "bridge:16", 0.01)]).met
    nearer = torch_goal([figure("redact", "steer", 0.02), figure("ask", "steer", -0.03)])  # nearer to exact than PyTorch is as far
    assert not nearer.met and nearer.found.startswith("ask `steer` -0.0300")


def row(method: str, kl: float, id_: str = "a", **more: object) -> dict[str, Any]:
    fields = {
        "id": id_,
        "context": id_,
        "task": "redact",
        "probe": "answer",
        "method": method,
        "kl_to_exact": kl,
        "kl_target": None,
    }
    return case_row({**fields, **more}, 512)


def test_kl_is_along_the_text_where_there_is_one() -> None:
    assert row("drop", 0.5)["kl"] == 0.5
    assert row("drop", 0.5, kl_target=0.125)["kl"] == 0.125
    assert row("drop", 0.5, task="conflict", probe="bystander")["task"] == "bystander"
    assert row("drop", 0.5, task="stale-before", probe="recite")["task"] == "stale-before/recite"


def test_what_is_more_after_the_default_is_said_even_where_it_may_be_chance() -> None:
    def goal(*gaps: float) -> Any:
        dropped = [row("drop", 0.5, str(i), leak_minus_clean=0.0) for i in range(len(gaps))]
        ours = [row("adaptive", 0.1, str(i), leak_minus_clean=gap) for i, gap in enumerate(gaps)]
        return leak_goals(Measured([], [one | {"n_context": 527} for one in dropped + ours]), "adaptive")[1]

    assert goal(-0.1, -0.2).met and goal(-0.1, -0.2).found == "none"
    unsure, sure = goal(-1.0, 2.0, -1.0, 2.0), goal(1.0, 2.0, 1.0, 2.0)
    assert unsure.met and unsure.found.startswith("redact, 527 tokens: 0.500 (")
    assert unsure.found.endswith("; nowhere shown to be more (95 %)")
    assert not sure.met and "nowhere" not in sure.found


def test_one_trained_method_is_judged_on_answers_and_on_reciting() -> None:
    def rows(method: str, answers: float, reciting: float) -> list[dict[str, Any]]:
        return [row(method, kl, task="stale-before", probe=probe) for kl, probe in ((answers, "answer"), (reciting, "recite"))]

    dropped = rows("drop", 1.0, 1.0)
    measured = Measured([], dropped + rows("steer", 0.1, 0.9) + rows("bridge:16", 0.9, 0.1) + rows("bridge:64", 0.4, 0.5)
                        + rows("steer+repair:16", 0.01, 0.01))  # fmt: skip
    assert best_learned(measured) == "bridge:64"  # the last sees a prefix of any length
    assert best_learned(Measured([], dropped)) is None


def test_means_over_lengths_are_of_methods_that_have_them_all() -> None:
    rows = [row(method, kl, f"{tokens}") | {"tokens": tokens}
            for tokens, method, kl in ((512, "drop", 0.5), (1024, "drop", 0.5), (512, "adaptive", 0.1), (1024, "adaptive", 0.1),
                                       (512, "repair:16", 0.2))]  # fmt: skip
    measured = Measured([], rows)
    assert measured.everywhere() == ["drop", "adaptive"]
    assert [line.split(" | ")[0] for line in gain_table(measured)[2:]] == ["| `adaptive`"]


def test_too_few_right_answers_are_said_and_not_shared_out() -> None:
    def table(n_right: int) -> str:
        rows = [row("exact", 0.0, str(i), task="stale-before", probe="free", exact_match=i < n_right) for i in range(40)]
        return "\n".join(free_table(Measured([{"max_tokens": 8}], rows)))

    assert "of 40 cases `exact` itself answers 2 with" in table(2) and "right where" not in table(2)
    assert "No exact match" not in table(30) and "right where exact is right" in table(30)


def test_differences_are_case_by_case() -> None:
    ours = [row("bridge:16", kl, id_) for id_, kl in (("a", 0.1), ("b", 0.4))]
    theirs = [row("drop", kl, id_) for id_, kl in (("b", 1.0), ("a", 0.5), ("c", 9.0))]
    found = difference(ours, theirs, "kl", 0.5)
    assert found and found["n"] == 2
    assert found["mean"] == pytest.approx((0.1 - 0.25 + 0.4 - 0.5) / 2)
    goal = ratio_goal(Measured([], ours + theirs), "redaction", ["redact"], "bridge:16", "drop", 0.25)
    assert goal and goal.met is (0.25 / 3.5 <= 0.25)


def test_against_pytorch() -> None:
    theirs = [{"id": "a", "method": "drop", "kl": 0.4}, {"id": "b", "method": "drop", "kl": 0.1, "kl_target": 0.2}]
    measured = Measured([], [row("drop", 0.5), row("drop", 0.9, "b", kl_target=0.2), row("shift", 0.5)])
    assert torch_table(measured)[1] == []
    _, (figure,) = torch_table(measured.with_torch(theirs))
    assert figure["difference"]["mean"] == pytest.approx(0.05) and figure["difference"]["n"] == 2
