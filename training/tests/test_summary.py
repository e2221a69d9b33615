"""Outcomes of the runtime as figures."""

from __future__ import annotations

from rasure_training.eraser.evaluate import summarise
from rasure_training.eraser.summary import outcome

ROW = {
    "id": "a-0", "context": "a", "task": "conflict", "probe": "answer", "method": "drop", "exact_match": True, "leak": False,
    "kl_to_exact": 0.5, "kl_target": None, "agree_with_exact": True, "leak_logprob": -3.0, "leak_minus_clean": 0.25,
    "erase_ms": 0.2,
}  # fmt: skip


def test_what_a_case_lacks_is_missing() -> None:
    found = outcome(ROW)
    assert found["kl"] == 0.5 and found["task"] == "conflict" and "kl_target" not in found and "erase_ms" not in found


def test_prose_counts_along_its_text_only() -> None:
    found = outcome({**ROW, "probe": "prose", "task": "prose", "kl_target": 0.125})
    assert found["kl_target"] == 0.125 and "kl" not in found and "agree" not in found


def test_contexts_are_the_clusters() -> None:
    rows = [outcome({**ROW, "id": f"{context}-{i}", "context": context, "kl_to_exact": kl})
            for context, kl in (("a", 0.0), ("b", 1.0)) for i in range(3)]  # fmt: skip
    (figure,) = summarise(rows)
    assert figure["kl"] == {"mean": 0.5, "low": 0.0, "high": 1.0, "n": 6, "clusters": 2}
