"""Contexts from which a known value was erased, as files, and what is taken down of them for `probe`."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..archive import MeasuredError
from ..eraser.cases import document_cases, encode_case
from ..eraser.corpus import Corpus
from ..eraser.documents import Document, Encoder, Probe
from ..eraser.draft import Draft, Style, finish
from ..eraser.facts import FAMILIES, Fact, draw
from ..evaluated import eval_command
from ..files import Row, sha256, write_json_lines
from ..gguf_model import load_model
from ..runs import say
from ..text import DataError
from . import saved

CITIES = ("Berlin", "London", "Madrid", "Moscow", "Paris", "Rome", "Tokyo", "Vienna")
ERASED = ("sentence", "value")
METHODS = ("exact", "shift", "repair:16+shift", "adaptive", "bridge:16+shift", "steer")
MADE = ("shift", "repair:16+shift", "adaptive", "bridge:16+shift")  # whose tokens and positions are those of `exact`
OTHER_ISA = "avx2"  # of the machine of somebody who reads again
NEAR, NEXT = 4, 16  # rows behind the erased span that are averaged by themselves
LEAST_BEHIND = 20  # words of the text behind it
BATCH = 50  # contexts


# --------------------------------------------------------------------------------------------------------- cases


def document(random_: random.Random, corpus: Corpus, erased: str, city: str, n_tokens: int) -> Document:
    family = next(family for family in FAMILIES if family.name == "city")
    draft = Draft(random_, corpus, Style())
    key = draw(random_, family.key, corpus.split)
    fact = Fact(family, key, city, random_.choice(family.statements[corpus.split]).format(k=key, v=city))
    draft.known += [key, *CITIES]
    tag = draft.tag()
    draft.insert_fact(fact, tag)
    draft.plan(
        erased, family.name, [tag if erased == "sentence" else f"{tag} value"], [Probe("probe", " ")], city=CITIES.index(city)
    )
    return finish(draft, n_tokens)


def make_cases(corpus: Corpus, erased: str, n: int, n_tokens: int, seed: int) -> Iterator[Row]:
    """Each city as often as the others."""
    for index in range(n):
        name = f"probe-{erased}-{corpus.split}-{n_tokens}-{seed}-{index}"
        for attempt in range(100):
            try:
                made = document(random.Random(f"{name} {attempt}"), corpus, erased, CITIES[index % len(CITIES)], n_tokens)
                (case,) = document_cases(made, name, name, corpus.split)
                if len(case["suffix"].split()) < LEAST_BEHIND:
                    raise DataError(f"{name}: too little stands behind what is erased")
                break
            except DataError as error:
                last = error
        else:
            raise last
        yield case


# ------------------------------------------------------------------------------------------------------ contexts


def features(context: saved.Saved, begin: int) -> np.ndarray:
    """float32 [layers, 3 * 2 * width]: keys and values, averaged over rows from `begin` on."""
    parts = []
    for first, end in ((begin, begin + NEAR), (begin + NEAR, begin + NEXT), (begin + NEXT, len(context.tokens))):
        for rows in (context.keys, context.values):
            some = rows[:, first:end]
            parts.append(some.mean(1) if some.shape[1] else np.zeros((rows.shape[0], rows.shape[2]), np.float32))
    return np.concatenate(parts, axis=1)


def distance(context: saved.Saved, again: saved.Saved) -> np.ndarray:
    """float32 [n]: how far each token's rows are from those of the second reading, by their length, over all layers."""

    def relative(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (np.linalg.norm(a - b, axis=-1) / np.maximum(np.linalg.norm(b, axis=-1), 1e-6)).mean(0)

    return (relative(context.keys, again.keys) + relative(context.values, again.values)) / 2


class Reader:
    """Lets the runtime read and erase, and takes down of the contexts what is needed."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        model = load_model(args.model)
        config = model.config
        self.shape = (config.n_layer, config.n_kv_head, config.head_dim)
        self.encoder = Encoder(model.file)

    def contexts(self, cases: Path, methods: Sequence[str], isa: str, folder: Path) -> None:
        args = self.args
        options = ["--methods", ",".join(methods), "--max-tokens", 1, "--save", folder]
        command = eval_command(args.rasure, args.model, isa, *options, cases=cases, adapters=args.adapter)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MeasuredError(f"{cases.name}: {done.stderr.strip().splitlines()[-1]}")

    def batch(self, cases: Sequence[Row], path: Path, compare: bool) -> None:
        with tempfile.TemporaryDirectory(dir=path.parent) as name:
            folder = Path(name)
            here, there = folder / "here", folder / "there"
            here.mkdir()
            there.mkdir()
            write_json_lines(folder / "cases.jsonl", cases)
            self.contexts(folder / "cases.jsonl", METHODS, self.args.isa, here)
            if compare:
                self.contexts(folder / "cases.jsonl", ("exact",), OTHER_ISA, there)
            found: dict[str, list[Any]] = {"city": [], "features": [], "largest": [], "where": [], "bytes": [], "first": []}
            for line, case in enumerate(cases, start=1):
                begin = encode_case(self.encoder, case).units[0].spans[0][0]
                kept = {method: saved.read(here / f"{line}.{method}.context", *self.shape) for method in METHODS}
                found["city"].append(case["city"])
                found["features"].append(np.stack([features(kept[method], begin) for method in METHODS]).astype(np.float16))
                if compare:
                    self.compare(kept, saved.read(there / f"{line}.exact.context", *self.shape), begin, found)
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, **{key: np.array(value) for key, value in found.items()})
            os.replace(partial, path)

    def compare(self, kept: dict[str, saved.Saved], again: saved.Saved, begin: int, found: dict[str, list[Any]]) -> None:
        """By method, `exact` first: the largest difference to a reading elsewhere and where it is behind the span's begin; and how
        many tokens' rows differ at all from what the same machine gives, and where the first of them is."""
        largest, where, differ, first = [], [], [], []
        for method in ("exact", *MADE):
            rows = distance(kept[method], again)
            largest.append(float(rows.max()))
            where.append(int(rows.argmax()) - begin)
            same = np.array([(kept[method].keys[:, i] == kept["exact"].keys[:, i]).all()
                             and (kept[method].values[:, i] == kept["exact"].values[:, i]).all()
                             for i in range(len(rows))])  # fmt: skip
            differ.append(int((~same).sum()))
            first.append(int(np.argmin(same)) - begin if not same.all() else -1)
        for name, value in (("largest", largest), ("where", where), ("bytes", differ), ("first", first)):
            found[name].append(value)


def collect(args: argparse.Namespace, erased: str, split: str, n: int, reader: Reader) -> dict[str, np.ndarray]:
    cases = list(make_cases(Corpus.load(args.data, split), erased, n, args.tokens, args.seed))
    args.work.mkdir(parents=True, exist_ok=True)
    made_with = [sha256(args.model), args.isa, list(METHODS), *(sha256(adapter) for adapter in args.adapter)]
    parts = []
    for first in range(0, n, BATCH):
        path = args.work / f"{erased}-{split}-{args.tokens}-{args.seed}-{first}.npz"
        note, said = path.with_suffix(".json"), json.dumps([made_with, cases[first : first + BATCH]])
        if not (path.exists() and note.exists() and note.read_text(encoding="utf-8") == said):
            parts.append((cases[first : first + BATCH], path, note, said))

    def run(part: tuple[Sequence[Row], Path, Path, str]) -> None:
        reader.batch(part[0], part[1], compare=split == args.split)
        part[2].write_text(part[3], encoding="utf-8")
        say(f"{part[1].stem}: done")

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(run, parts))
    files = [np.load(args.work / f"{erased}-{split}-{args.tokens}-{args.seed}-{first}.npz") for first in range(0, n, BATCH)]
    return {key: np.concatenate([file[key] for file in files]) for key in files[0].files}
