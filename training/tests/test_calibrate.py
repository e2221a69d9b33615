"""What auto expects: evidence and fit against their definitions, the page from outcomes, and the numbers in the runtime."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rasure_training.eraser import calibrate

REPOSITORY = Path(__file__).parents[2]


def test_evidence_is_the_definition() -> None:
    tokens = [5, 1, 2, 3, 9, 9, 8, 7, *range(100, 120), 2, 3, 50, 3, 60, 60]
    span = (1, 4)
    left = [5, *tokens[4:]]
    words = {5, 1, 2, 3}
    echo, found = 0.0, []
    for token in left[1:]:
        echo *= 0.8
        if token in words:
            echo += 1 / left.count(token)
        found.append(echo)
    far = found[16:]
    expected = {
        "shift": (max(found), sum(found)),
        "repair": (max(far), sum(far)),
        "adaptive": (max(e for e in far if e < 0.3), sum(e for e in far if e < 0.3)),
    }
    actual = calibrate.evidence(tokens, [span])
    for name, values in expected.items():
        assert actual[name] == pytest.approx(values)
    assert max(found) > 1.3  # 2, and 3 behind it


def test_evidence_of_several_spans_and_of_nothing() -> None:
    assert calibrate.evidence([1, 2, 3, 4], [(2, 4)]) == {}
    assert calibrate.evidence([1, 2, 3, 4], [(1, 3)])["adaptive"] == (0.0, 0.0)
    tokens = [*range(10), *range(40, 70), *range(10)]
    found = calibrate.evidence(tokens, [(0, 3), (10, 12)])
    assert found["shift"][1] > found["repair"][1] > found["adaptive"][1] > 0


def test_fit_finds_what_made_the_data() -> None:
    rng = np.random.default_rng(3)
    x = np.array([calibrate.features(*pair) for pair in zip(rng.uniform(0, 3, 4000), rng.uniform(0, 8, 4000), strict=True)])
    log_kl = x @ [-5, 0.9, 0.4] + 0.7 * rng.standard_normal(4000)
    found = calibrate.fit(x, log_kl)
    assert (found["level"], found["by_strongest"], found["by_sum"]) == pytest.approx((-5, 0.9, 0.4), abs=0.1)
    assert found["spread"] == pytest.approx(0.7, abs=0.05)
    within = math.erf(math.log(2) / 0.7 / math.sqrt(2))
    assert found["within_2x"] == pytest.approx(within, abs=0.03)
    falling = calibrate.fit(x, x @ [-5, -0.9, 0.4])
    assert falling["by_strongest"] == 0


def test_hindsight() -> None:
    found = calibrate.hindsight([0.0, 0.5, 3.0, 9.0], ["a", "a", "a", "b"])
    assert found == {"pairs": 3, "pairs_within_2x": round(1 / 3, 3), "hindsight_within_2x": round(1 / 3, 3)}
    assert calibrate.hindsight([1.0], ["a"])["pairs_within_2x"] is None


def row(i: int, method: str, taken: str, kl: float, expected: float) -> dict[str, Any]:
    return {"id": f"a-{i}", "context": f"a-{i}", "task": "ask", "probe": "answer", "method": method, "answer": "x", "exact_match": None,
            "leak": None, "kl_to_exact": kl, "kl_target": None, "leak_logprob": None, "leak_minus_clean": None,
            "agree_with_exact": True, "erase_ms": 3.0, "n_context": 90, "n_erased": 4, "n_recomputed": 16, "taken": taken,
            "expected_kl": expected, "expected_kl_most": 4 * expected, "expected_ms": 2.0}  # fmt: skip


def test_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tried"
    folder.mkdir()
    rows = [row(i, "auto:kl=0.01", "shift", kl, 0.004) for i, kl in enumerate([0.004, 0.007, 0.012, 0.03])]
    rows += [row(i, "auto:ms=2", "exact", 0.0, 0.0) for i in range(4)]
    record = {"task": "ask", "tokens": 90, "split": "test", "contexts": 4, "model_sha256": "m", "isa": "ref",
              "methods": ["exact", "auto:kl=0.01", "auto:ms=2"]}  # fmt: skip
    (folder / "x.record.json").write_text(json.dumps(record))
    (folder / "x.outcomes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    monkeypatch.setattr(sys, "argv", ["calibrate", "report", str(folder), "--out", str(tmp_path), "--archive",
                                      str(tmp_path / "a.json.gz")])  # fmt: skip
    assert calibrate.main() == 0
    by_kl, by_ms = json.loads((tmp_path / "erase_auto.json").read_text())["figures"]
    assert by_kl["above"]["mean"] == 0.5 and by_kl["above_twice"]["mean"] == 0.25
    assert by_kl["within_2x"]["mean"] == 0.5 and by_kl["below_median"]["mean"] == 0.25 and by_kl["below_most"]["mean"] == 0.75
    assert by_ms["late"]["mean"] == 1 and by_ms["time"]["mean"] == 1 and by_ms["within_2x_estimated"] is None
    assert [len(row["points"]["shift"]) for row in (by_kl, by_ms)] == [4, 0]
    page = (tmp_path / "erase_auto.md").read_text()
    monkeypatch.setattr(
        sys, "argv", ["calibrate", "report", str(tmp_path / "a.json.gz"), "--out", str(tmp_path), "--name", "again"]
    )
    assert calibrate.main() == 0
    assert (tmp_path / "again.md").read_text() == page.replace("erase_auto.", "again.")


def test_the_test_split_is_not_for_fitting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    record = {"task": "ask", "tokens": 90, "split": "test", "contexts": 4, "model_sha256": "m", "isa": "ref", "methods": []}
    (tmp_path / "x.record.json").write_text(json.dumps(record))
    (tmp_path / "x.outcomes.jsonl").write_text("")
    monkeypatch.setattr(sys, "argv", ["calibrate", "fit", str(tmp_path), "--model", "none", "--out", str(tmp_path)])
    assert calibrate.main() == 1
    assert "not for fitting" in capsys.readouterr().err


def test_the_runtime_has_the_fit() -> None:
    fits = json.loads((REPOSITORY / "docs" / "erase_calibration.json").read_text())
    source = (REPOSITORY / "runtime" / "auto.c").read_text()
    for name in calibrate.METHODS:
        values = fits[name]
        (numbers,) = re.findall(rf"\.{name} = {{(.*?)}}", source)
        assert [float(number.rstrip("f")) for number in numbers.split(", ")] == [
            values[key] for key in ("level", "by_strongest", "by_sum", "spread")
        ]
