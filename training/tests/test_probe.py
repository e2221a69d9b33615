"""Saved contexts as a stranger reads them, and what probes and comparisons make of known rows."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from rasure_training.eraser.corpus import Corpus
from rasure_training.forgetting import contexts, probe, saved

LAYERS, HEADS, HEAD_DIM = 2, 2, 8
BLANK = -1


def write(path: Path, keys: np.ndarray, values: np.ndarray, tokens: np.ndarray, n_logits: int = 0) -> None:
    """keys, values: int8 [layers * heads, n, head_dim] with a scale of 0.5 and 0.25; one hole in the first page."""
    n = len(tokens)
    slots = [0, 1, 2, *range(4, n + 1)]  # 3 is empty
    n_pages = (n + saved.PAGE) // saved.PAGE
    body = b""
    for stream in range(LAYERS * HEADS):
        for page in range(n_pages):
            k, v = np.zeros(saved.PAGE * HEAD_DIM, np.int8), np.zeros(saved.PAGE * HEAD_DIM, np.int8)
            scales, positions = np.zeros((2, saved.PAGE), "<f4"), np.full(saved.PAGE, BLANK, "<i4")
            for i, slot in enumerate(slots):
                if slot // saved.PAGE != page:
                    continue
                e = slot % saved.PAGE
                scales[:, e], positions[e] = (0.5, 0.25), i
                for d in range(HEAD_DIM):
                    k[d // 4 * 4 * saved.PAGE + e * 4 + d % 4] = keys[stream, i, d]
                    v[e // 4 * HEAD_DIM * 4 + d * 4 + e % 4] = values[stream, i, d]
            body += k.tobytes() + v.tobytes() + scales.tobytes() + positions.tobytes()
    head = saved.HEAD.pack(saved.MAGIC, 2, n_logits, 0, 0, n, n, 0, 0, 0, 0)
    lengths = struct.pack("<II", n_pages, (n + 1 - 1) % saved.PAGE + 1) * (LAYERS * HEADS)
    path.write_bytes(head + tokens.astype("<i4").tobytes() + np.arange(n, dtype="<i4").tobytes() + bytes(4 * n) + lengths
                     + bytes(4 * n_logits) + body + bytes(8))  # fmt: skip


@pytest.mark.parametrize("n_logits", [0, 5])
def test_reads_what_was_written(tmp_path: Path, n_logits: int) -> None:
    rng = np.random.default_rng(1)
    keys, values = (rng.integers(-127, 128, (LAYERS * HEADS, 20, HEAD_DIM)).astype(np.int8) for _ in range(2))
    write(tmp_path / "a", keys, values, np.arange(20) + 7, n_logits)
    found = saved.read(tmp_path / "a", LAYERS, HEADS, HEAD_DIM)
    assert found.tokens.tolist() == list(range(7, 27)) and found.positions.tolist() == list(range(20))
    for rows, written, scale in ((found.keys, keys, 0.5), (found.values, values, 0.25)):
        by_layer = written.reshape(LAYERS, HEADS, 20, HEAD_DIM).transpose(0, 2, 1, 3).reshape(LAYERS, 20, HEADS * HEAD_DIM)
        assert np.array_equal(rows, by_layer * np.float32(scale))


def test_what_is_none_is_refused(tmp_path: Path) -> None:
    rows = np.ones((LAYERS * HEADS, 20, HEAD_DIM), np.int8)
    write(tmp_path / "a", rows, rows, np.arange(20))
    data = (tmp_path / "a").read_bytes()
    for wrong, shape in (
        (b"", (2, 2, 8)),
        (b"x" + data[1:], (2, 2, 8)),
        (data, (2, 2, 16)),
        (data, (1, 2, 8)),
        (data[:-4], (2, 2, 8)),
    ):
        (tmp_path / "b").write_bytes(wrong)
        with pytest.raises(saved.SavedError):
            saved.read(tmp_path / "b", *shape)


def test_cases_differ_in_nothing_but_their_splits(data: Path) -> None:
    for erased in contexts.ERASED:
        cases = list(contexts.make_cases(Corpus.load(data, "test"), erased, 16, 200, 1))
        assert [case["city"] for case in cases] == [i % 8 for i in range(16)]
        for case in cases:
            city = contexts.CITIES[case["city"]]
            assert city in case["span"] and (case["span"] == f" {city}") == (erased == "value")
            assert not re.search(rf"\b({'|'.join(contexts.CITIES)})\b", case["prefix"] + case["suffix"])
            assert len(case["suffix"].split()) >= contexts.LEAST_BEHIND


def made_up(n: int, signal: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 8
    directions = np.random.default_rng(0).standard_normal((8, 96))
    return signal * directions[labels] + rng.standard_normal((n, 96)), labels


def test_a_probe_finds_what_is_there_and_nothing_else() -> None:
    for signal, low, high in ((1.0, 0.9, 1.0), (0.0, 0.0, 0.2)):
        train, labels = made_up(400, signal, 1)
        test, wanted = made_up(400, signal, 2)
        said, _ = probe.scores(train, labels, test)
        assert low <= (said.argmax(1) == wanted).mean() <= high


def test_how_often_one_is_above_another() -> None:
    assert probe.auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1
    assert probe.auc(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.5
    assert probe.auc(np.array([1.0]), np.array([2.0, 1.0])) == 0.25


def test_distance_is_of_rows() -> None:
    rng = np.random.default_rng(1)
    keys, values = rng.standard_normal((2, 5, 4)).astype(np.float32), rng.standard_normal((2, 5, 4)).astype(np.float32)
    other = saved.Saved(np.arange(5), np.arange(5), keys.copy(), values.copy())
    other.keys[1, 3] *= 3
    found = contexts.distance(other, saved.Saved(np.arange(5), np.arange(5), keys, values))
    assert found.argmax() == 3 and found[3] == pytest.approx(2 / 2 / 2) and found[[0, 1, 2, 4]].max() == 0
