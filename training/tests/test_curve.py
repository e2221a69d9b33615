"""From outcomes to the curve of KL by what is encoded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rasure_training.eraser import curve
from rasure_training.eraser.engine import parse_method
from rasure_training.pages import page


def row(task: str, method: str, kl: float, n: int, index: int = 0, **more: Any) -> dict[str, Any]:
    name = f"{task}-{index}"
    return {"id": name, "context": name, "task": task, "method": method, "kl": kl, "n_reencoded": n, **more}


def outcomes() -> list[dict[str, Any]]:
    rows = []
    for task, dropped in (("near", 0.05), ("far", 0.3)):
        for i in range(3):
            rows += [row(task, "exact", 0.0, 100, i), row(task, "drop", dropped, 0, i), row(task, "shift", dropped, 0, i)]
            rows += [row(task, f"repair:{share}%+shift", dropped / share, share, i) for share in curve.SHARES]
            rows.append(row(task, "adaptive:echo=0.3", 9.0, 10, i, kl_target=0.001))
    return rows


def test_figures_and_page(tmp_path: Path) -> None:
    figures = curve.figures_of(outcomes())
    by = {(figure["kind"], figure["method"]): figure for figure in figures}
    assert by["far", "drop"]["tasks"] == ["far"]
    assert by["all", "drop"]["kl"]["mean"] == pytest.approx(0.175)
    echoes = by["far", "adaptive:echo=0.3"]
    assert echoes["kl"]["mean"] == pytest.approx(0.001)  # along the text where there is one
    assert (echoes["share"]["mean"], echoes["kl"]["n"]) == (pytest.approx(0.1), 3)
    measured = {"split": "test", "contexts": 3, "tokens": 200, "seed": 1, "tasks": ["near", "far"], "far": curve.FAR}
    page.write(tmp_path, "curve", "erase_curve", measured, figures)
    text = (tmp_path / "curve.md").read_text()
    assert "| echoes | `adaptive:echo=0.3` | 0.100 (0.100 to 0.100) | 0.0010 (0.0010 to 0.0010) | 6 |" in text
    assert (tmp_path / "curve.svg").stat().st_size > 1000


def test_ways_are_methods() -> None:
    for methods in curve.WAYS.values():
        for method in methods:
            parse_method(method)
