"""The report on budgets: critical footprints, intervals, the pass line, and that it is written whole."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rasure_training import markers
from rasure_training.budgets import card, report
from rasure_training.budgets.arms import load_arms
from rasure_training.budgets.critical import critical_footprint, interval, share_at_most, shown_with_interval, surely_at_most
from rasure_training.budgets.measured import (
    WINDOW_TOKENS,
    MeasuredError,
    difference,
    is_recent,
    load,
    nll_increase,
    perplexity_increase_at,
)
from rasure_training.budgets.passline import LOCAL, PassLine, pass_line, perplexity_goal, verdict
from rasure_training.budgets.tables import arms_table, bucket_table, cost_table, curve_of, question_table
from rasure_training.eraser.goals import Goal
from rasure_training.files import sha256
from rasure_training.gguf_model import GgufModel
from rasure_training.heads.sidecar import write_sidecar
from rasure_training.pages.cells import NO_WIDTH
from rasure_training.pages.quoted import goal_table

ROOT = Path(__file__).resolve().parents[2]
N, N_CONTEXT, BATCH = 60, 1000, 128
# Where the pass line judges heads.
MORE, AT = ("heads-prulong", "window"), "36%"
ARMS = ("full", "window", "snapkv", "gates", "gates-constant", "static", "heads-prulong", "heads-duo")
BUDGETS = ("12%", "25%")
TASKS = ("needle", "needles", "variables", "words")


@pytest.mark.parametrize(
    "points, found",
    [
        ([(0.2, 0.1), (0.4, 0.5), (0.6, 0.9)], 0.4 + 0.2 * (0.72 - 0.5) / 0.4),
        ([(0.2, 0.8), (0.4, 0.1), (0.6, 0.8)], 0.4 + 0.2 * (0.72 - 0.1) / 0.7),  # the first crossing from above counts
        ([(0.2, 0.8), (0.4, 0.8)], "< 0.20"),
        ([(0.2, 0.8), (0.4, 0.5)], "> 0.40"),
    ],
)
def test_critical_footprint(points: list[tuple[float, float]], found: str | float) -> None:
    assert critical_footprint(points, 0.8) == (found if isinstance(found, str) else pytest.approx(found))


@pytest.mark.parametrize(
    ("footprint", "other", "found"),
    [(0.5, 0.5, True), (0.6, 0.5, False), (0.5, "> 0.53", True), (0.6, "> 0.53", False), ("> 0.3", "> 0.5", False),
     ("< 0.3", 0.3, True), ("< 0.3", "> 0.3", True), (0.2, "< 0.3", False), ("< 0.3", "< 0.3", False)],
)  # fmt: skip
def test_surely_at_most(footprint: str | float, other: str | float, found: bool) -> None:
    assert surely_at_most(footprint, other) is found


def worse(arm: str, share: float) -> float:
    """NLL of the later half, above the full cache's."""
    return 0.01 if arm == "gates" else 0.05 if share == 0.36 else 0.5


def outcome(arm: str, task: str, i: int, share: float) -> dict[str, Any]:
    context = f"{task}-{i // 2 if task == 'turns' else i}"
    row = {
        "id": context,
        "context": context,
        "task": task,
        "n_context": N_CONTEXT,
        "kv_bytes": int(1000 * share),
        "footprint": share,
        "read_ms": 10.0,
        "policy_ms": 0.1,
        "streams": [int(100 * share), int(100 * share) + (arm == "gates")],
    }
    if task == "text":
        return row | {"nll": [[1, 512, 511, 2.0 + 0.001 * i], [512, 1000, 488, 2.0 + worse(arm, share) * (share < 1)]]}
    right = arm == "full" or (i % 10 < {"gates": 9, "heads-prulong": 9}.get(arm, 1))
    end = N_CONTEXT - BATCH - WINDOW_TOKENS + 1 if i >= N - 4 else 500
    number = i % 2 if task == "turns" else 0
    return row | {"exact_match": right, "answer_logprob": -1.0, "question": number, "evidence": [[end - 10, end]]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "measured"
    out.mkdir()
    for order, arm in enumerate(ARMS):
        for budget in [""] if arm == "full" else BUDGETS:
            for task in [*TASKS, "text"]:
                write_part(out, order, arm, budget, task)
    for arm in MORE:
        for task in [*TASKS, "text"]:
            write_part(out, ARMS.index(arm), arm, AT, task)
    return out


def write_part(out: Path, order: int, arm: str, budget: str, task: str, build: str = "0" * 64) -> None:
    stem = f"{task}-{arm}-{budget}"
    record = {
        "arm": arm,
        "order": order,
        "budget": budget,
        "task": task,
        "tokens": 1000,
        "split": "test",
        "seed": 1,
        "model_sha256": "0",
        "max_tokens": 8,
        "batch": BATCH,
        "isa": "auto",
        "contexts": N,
        "options": [],
        "files": {},
        "rasure_sha256": build,
        "seconds": 1.0,
    }
    if arm == "snapkv" and budget == "12%":
        record["refused"] = "rasure: 12% is too small"
    else:
        share = float(budget.rstrip("%") or 100) / 100
        lines = [json.dumps(outcome(arm, task, i, share)) for i in range(N)]
        (out / f"{stem}.outcomes.jsonl").write_text("\n".join(lines) + "\n")
    (out / f"{stem}.record.json").write_text(json.dumps(record))


def without(folder: Path, *arms: str, budget: str = "") -> None:
    """The folder without what was measured of these arms, at a budget or at all."""
    for arm in arms:
        for path in folder.glob(f"*-{arm}-{budget}*"):
            path.unlink()


def test_recent_items_are_left_out(folder: Path) -> None:
    measured = load(folder)
    assert len(measured.select("gates", "25%", ["needle"])) == N - 4
    assert len(measured.select("gates", "25%", ["needle"], recent=True)) == 4
    assert len(measured.select("gates", "25%", ["needle"], recent=None)) == N
    assert measured.arms() == list(ARMS) and measured.budgets() == [*BUDGETS, AT]


def test_what_is_recent_follows_from_the_chunk() -> None:
    row = {"n_context": N_CONTEXT, "evidence": [[100, 110], [N_CONTEXT - BATCH - WINDOW_TOKENS - 10, N_CONTEXT - BATCH - WINDOW_TOKENS]]}
    assert not is_recent(row, BATCH) and is_recent(row, BATCH + 1) and is_recent(row, 4 * BATCH)


def test_differences(folder: Path) -> None:
    measured = load(folder)
    full = measured.select("full", "", ["text"])
    assert difference(full, full)["mean"] == 0.0
    gap = nll_increase(measured.select("window", "25%", ["text"]), full)
    nll = sum(511 * (2.0 + 0.001 * i) + 488 * 2.0 for i in range(N)) / N / 999
    assert gap["mean"] == pytest.approx(0.5 * 488 / 999 / nll, rel=1e-6)


def test_pass_line(folder: Path) -> None:
    found = pass_line(load(folder))
    assert [goal.met for goal in found.gates + found.heads] == [True] * 4
    assert "4: needle above window, snapkv, gates-constant, static" in found.gates[1].found
    assert "their bytes, of its own: window 1.00" in found.gates[1].found
    assert all(goal.text.startswith("`heads-prulong` at 36% of the bytes, 70 % local heads") for goal in found.heads)
    assert "60 texts of 1,000 to 1,000 tokens" in found.heads[0].text and "contexts of 1,000 tokens" in found.heads[1].text
    assert [goal.met for goal in found.beside] == [None, False, True, True, True]
    assert "texts of about 7,500 tokens" in found.beside[0].text and "80 % local heads" in found.beside[2].text
    assert all(re.search(rf"{task} < 0.12 / > 0.25 \(\d+\.\d %\)", found.beside[3].found) for task in TASKS)


def test_heads_without_a_window_at_equal_bytes(folder: Path) -> None:
    without(folder, "window", budget=AT)
    goal = pass_line(load(folder)).heads[1]
    assert (goal.found, goal.met) == ("not measured: window", None)


def goal_of(met: bool | None) -> Goal:
    return Goal(f"what is {met}", "", "", met)


@pytest.mark.parametrize(
    ("gates", "heads", "says"),
    [
        ([True, True], [None], "`gates` meets the pass line"),
        ([True, False], [True, True], "`gates` misses the pass line. `heads` meets the pass line"),
        ([False, None], [True, None], "`heads` meets the pass line is open, for some of what it asks for has not been measured (what is None)"),
        ([True, None], [True], "`gates` meets the pass line is open"),
        ([False], [False, None], "is `window`"),
        ([False], [], "(anything of it)"),
    ],
)
def test_the_verdict(gates: list[bool | None], heads: list[bool | None], says: str) -> None:
    assert says in verdict(PassLine([*map(goal_of, gates)], [*map(goal_of, heads)], []))


def tasks_above_all(folder: Path) -> Goal:
    return next(goal for goal in pass_line(load(folder)).gates if "tasks above" in goal.text)


def test_a_rival_that_was_not_measured(folder: Path) -> None:
    without(folder, "gates-constant")
    goal = tasks_above_all(folder)
    assert goal.met is None and goal.found.startswith("4: needle above window, snapkv, static; ")
    assert verdict(pass_line(load(folder))).startswith("Whether `gates` meets the pass line is open")
    assert goal.found.endswith("; not measured: gates-constant")
    assert goal_table([vars(goal)])[-1].endswith("| not measured |")
    for task in TASKS[:2]:  # as good as the gates on two tasks of four: on three they cannot be above all
        source, path = (folder / f"{task}-{arm}-25%.outcomes.jsonl" for arm in ("gates", "static"))
        path.write_text(source.read_text())
    goal = tasks_above_all(folder)
    assert goal.met is False and goal.found.startswith("2: ") and goal.found.endswith("; not measured: gates-constant")


def test_perplexity_of_local_heads(folder: Path) -> None:
    def found() -> Goal | None:
        return perplexity_goal(load(folder), "heads-prulong", AT)

    more = 100 * (math.exp(0.05 * 488 / 999) - 1)  # the same of every text
    assert found().found == f"{more:.2f} ({more:.2f} to {more:.2f})" and found().met
    path = folder / "text-heads-prulong-36%.outcomes.jsonl"
    lines = [json.dumps(row | {"nll": [[1, 1000, 999, 0.1 + sum(n * nll for _, _, n, nll in row["nll"]) / 999]]})
             for row in map(json.loads, path.read_text().splitlines())]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    assert found().found.startswith(f"{100 * (math.exp(0.05 * 488 / 999 + 0.1) - 1):.2f} (") and found().met is False
    without(folder, "heads-prulong", budget="36%")
    assert (found().found, found().met) == ("-", None)
    without(folder, "heads-prulong")
    assert found() is None and not pass_line(load(folder)).heads


def test_perplexity_by_position(folder: Path) -> None:
    measured = load(folder)
    full, mine = (measured.select(arm, budget, ["text"]) for arm, budget in (("full", ""), ("heads-prulong", AT)))
    assert perplexity_increase_at(mine, full, 1)["mean"] == 0.0
    later = perplexity_increase_at(mine, full, 512)
    assert later["mean"] == pytest.approx(math.expm1(0.05)) and later["clusters"] == N
    assert perplexity_increase_at(mine, full, 1024) is None
    lines = bucket_table(measured, [("heads-prulong", AT), ("gates", AT)], 1000)
    assert lines[0] == "| arm | 1 to 512, n = 60 | 512 to 1,000, n = 60 |" and lines[-1].startswith("| `heads-prulong`, 36%: % | 0.00")


def test_critical_footprints_have_intervals(folder: Path) -> None:
    for budget in (*BUDGETS, AT):
        path = folder / f"needle-heads-prulong-{budget}.outcomes.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        # At the least budget half are right of those that count, and all that stand at the end of the context, which do not.
        rows = [row | {"exact_match": budget != "12%" or i % 2 == 0 or i >= N - 4} for i, row in enumerate(rows)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    measured = load(folder)
    mine, others = (curve_of(measured, arm, "needle") for arm in ("heads-prulong", "window"))
    assert mine.n.sum() == N - 4 and mine.critical() == pytest.approx(0.12 + 0.8 * 0.13)
    assert others.critical() == "> 0.36"
    low, high = interval(mine.resampled())
    assert low < mine.critical() < high and shown_with_interval(mine).endswith(f"({low:.2f} to {high:.2f})")
    assert shown_with_interval(others) == "> 0.36"
    assert share_at_most(mine.resampled(), others.resampled()) == 1.0


def test_intervals_of_what_is_beyond_the_tested() -> None:
    assert interval(["< 0.12"] + [0.3] * 98 + ["> 0.50"]) == (0.3, 0.3)
    assert interval(["< 0.12"] * 5 + [0.3] * 90 + ["> 0.50"] * 5) == ("< 0.12", "> 0.50")
    assert share_at_most([0.3, 0.3, "> 0.50"], ["> 0.50", 0.2, "> 0.50"]) == pytest.approx(1 / 3)


def test_questions_of_one_context_apart(folder: Path) -> None:
    for order, arm in enumerate(("full", "gates")):
        write_part(folder, ARMS.index(arm), arm, "25%" if order else "", "turns")
    lines = question_table(load(folder))
    assert lines[0] == "| arm | bytes | turns, question 1 | turns, question 2 |" and len(lines) == 4
    assert lines[2].startswith("| `full` |  | 1.00 ") and lines[3].startswith("| `gates` | 25% | 1.00 ")  # all that are odd
    assert not lines[3].endswith("| 1.00 (1.00 to 1.00) |")


def test_what_was_measured_with_which_build(folder: Path) -> None:
    arms = load_arms(report.ARMS)
    assert "one build of the tool" in report.heading(load(folder))[2]
    write_part(folder, ARMS.index("static"), "static", "25%", "words", build="f" * 64)
    measured = load(folder)
    assert "2 builds of the tool" in report.heading(measured)[2]
    lines = {line.split(" | ")[0]: line for line in arms_table(measured, arms)}
    assert lines["| `static`"] == "| `static` | not run | 1,000 | 1,000 |  | not run | `00000000`, `ffffffff` |"
    assert lines["| `keynorm`"].count("not run") == 4
    assert "1,000 (refused)" in lines["| `snapkv`"]
    without(folder, "static", budget="12%")
    write_part(folder, ARMS.index("static"), "static", "12%", "text")
    assert "| 1,000 (text) |" in "".join(arms_table(load(folder), arms))


def test_the_cost_of_a_policy_is_that_of_texts(folder: Path) -> None:
    for path in folder.glob("*-gates-25%.outcomes.jsonl"):
        if not path.name.startswith("text"):
            path.write_text(path.read_text().replace('"policy_ms": 0.1', '"policy_ms": 5.0'))
    assert "| `gates` | 1.00 % |" in cost_table(load(folder), "25%")


def test_the_page_says_what_the_archive_does() -> None:
    page, measured = ROOT / "docs" / report.PAGE, load(ROOT / "docs" / "kv_budgets_outcomes.json.gz")
    parts = report.parts_of(measured, load_arms(report.ARMS), pass_line(measured))
    assert markers.filled(page, parts) == page.read_text(encoding="utf-8")


def test_local_heads_are_those_of_the_arms() -> None:
    (arm,) = (arm for arm in load_arms(report.ARMS) if arm.name == "heads-prulong")
    assert {budget: f"{100 * float(arm.at[budget][1]):.0f} %" for budget in LOCAL} == LOCAL


def test_the_weights_of_gates_are_the_share_that_the_page_says() -> None:
    figures = json.loads((ROOT / "docs" / "kv_budgets.json").read_text(encoding="utf-8"))["figures"]
    (held,) = (row["kv_bytes"] for row in figures if (row["arm"], row["task"]) == ("gates", "needle"))
    weights = (ROOT / "models" / "smollm2-135m-instruct.gates.gguf").stat().st_size
    said = f"{weights / 1e6:.1f} MB, are {100 * weights / held:.0f} % of the {held / 1e6:.1f} MB"
    assert said in re.sub(r"\s+", " ", (ROOT / "docs" / report.PAGE).read_text(encoding="utf-8"))


def test_report(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "kv-budgets.md"
    arguments = ["report", str(folder), "--out", str(tmp_path), "--layers", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    page.write_text("# Budgets\n")
    assert report.main() == 1 and "lacks the markers" in capsys.readouterr().err
    page.write_text("# Budgets\n<!-- report:begin -->\nstale\n<!-- report:end -->\nbehind\n")
    assert report.main() == 0
    text = page.read_text()
    assert text.startswith("# Budgets\n") and text.endswith("behind\n") and "stale" not in text
    assert "| `snapkv` | refused" not in text.split("### Critical")[0]
    assert "too small" in text and "| `gates` - `static` |" in text
    data = json.loads((tmp_path / "kv_budgets.json").read_text())
    assert len(data["figures"]) == (1 + 7 * 2 - 1 + 2) * 5
    assert {part["rasure_sha256"] for part in data["parts"]} == {"0" * 64}
    assert text.count(NO_WIDTH) == 1
    assert (tmp_path / "kv_budgets_scores.svg").exists() and (tmp_path / "kv_budgets_streams.svg").exists()


def test_a_folder_without_the_full_cache(tmp_path: Path) -> None:
    with pytest.raises(MeasuredError, match="full cache"):
        load(tmp_path)


def test_card(llama: GgufModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sidecar, figures, out = tmp_path / "heads.gguf", tmp_path / "figures.json", tmp_path / "card.md"
    record = {"config": {"tokens": 512, "sequences": 2, "tasks": {"text": 1.0}, "objective": "duo", "lr": 0.1, "betas": [0.9, 0.9],
                         "weight_decay": 0.0},
              "steps": 5, "seed": 3, "seconds": 61, "processes": 1, "threads": 1, "data": {"a": "b"}, "versions": {"torch": "2"}}  # fmt: skip
    write_sidecar(sidecar, llama.file, "tiny heads", torch.zeros(2, 2), 4, 32, record)
    score, nll = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 60}, {"mean": -2.0, "low": -3.0, "high": -1.0, "n": 48}
    figure = {"arm": "heads", "budget": "25%", "tokens": 1000}
    found = {"split": "test", "isa": "ref", "parts": [{"arm": "heads", "files": {"--heads": sha256(sidecar)}}],
             "figures": [figure | {"task": "needle", "n_context": 1030.2, "score": score},
                         figure | {"task": "text", "n_context": 1133.5, "score": nll}]}  # fmt: skip
    figures.write_text(json.dumps(found))
    assert card.main([str(sidecar), "--figures", str(figures), "--arm", "heads", "--out", str(out)]) == 0
    text = out.read_text()
    assert "the first 4 tokens and the last\n32" in text and "DuoAttention" in text and "1 min" in text
    assert text.count(NO_WIDTH) == 1
    assert "| bytes | needle, 1,030 tokens, n = 60 | NLL, 1,134 tokens, n = 48 |" in text and "kernels: ref" in text
    assert "| 25% | 0.50 (0.25 to 0.75) | 2.000 (1.000 to 3.000) |" in text
    assert "up to 512 tokens of context" in text and "One seed." in text
    found["parts"][0]["files"] = {}
    figures.write_text(json.dumps(found))
    assert card.main([str(sidecar), "--figures", str(figures), "--arm", "heads", "--out", str(out)]) == 1
    assert "another file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "arm"), [("gates", "gates"), ("gates-static", "static"), ("heads", "heads-prulong"), ("heads-duo", "heads-duo")]
)
def test_shipped_cards_are_what_the_figures_make(name: str, arm: str) -> None:
    sidecar = ROOT / "models" / f"smollm2-135m-instruct.{name}.gguf"
    figures = json.loads((ROOT / "docs" / "kv_budgets.json").read_text(encoding="utf-8"))
    assert card.card(sidecar, arm, figures) == sidecar.with_suffix(".md").read_text(encoding="utf-8")


def test_the_card_of_constant_gates_knows_no_network() -> None:
    text = (ROOT / "models" / "smollm2-135m-instruct.gates-static.md").read_text(encoding="utf-8")
    assert "and no network" in text and "small networks" not in text and "One seed" not in text and " 0 tokens" not in text
