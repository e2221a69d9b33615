"""Tiny random models from the golden files, and a small data folder of made-up articles: the tests need neither the default
model nor real text."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
import torch

from rasure_training.eraser.engine import Engine, Settings
from rasure_training.eraser.lora import EraserModel, Lora
from rasure_training.gguf_model import GgufModel, load_model

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "data"
SYLLABLES = "ba de fi go lu ma ne pi ro su ta ve wi xo zu ka".split()

torch.set_num_threads(1)


def model_path(name: str) -> Path:
    return GOLDEN / f"{name}.gguf"


@pytest.fixture(scope="session")
def llama() -> GgufModel:
    return load_model(model_path("tiny-llama"))


@pytest.fixture(scope="session", params=["tiny-llama", "tiny-qwen2", "tiny-qwen3", "tiny-gemma3"])
def any_model(request: pytest.FixtureRequest) -> GgufModel:
    return load_model(model_path(request.param))


def random_tokens(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(256, (n,), generator=torch.Generator().manual_seed(seed))


def random_lora(model: EraserModel, rank: int = 4, scale: float = 0.02) -> Lora:
    """An adapter that does change something."""
    lora = model.fresh_lora(rank, 8.0, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for b in lora.b.values():
            b.normal_(0.0, scale, generator=generator)
    return lora


def engine_of(model: GgufModel, kind: str, window: int = 8, sinks: int = 2, tokens: int = 6, zero: bool = True) -> Engine:
    frozen = EraserModel(model)
    lora = frozen.fresh_lora(4, 8.0, seed=3) if zero else random_lora(frozen)
    return Engine(frozen, Settings(kind, window, sinks, tokens), lora, filler=[5, 6, 7])


def _word(random_: random.Random) -> str:
    return "".join(random_.choice(SYLLABLES) for _ in range(random_.randint(1, 3)))


def _sentence(random_: random.Random, n: int) -> str:
    return " ".join(_word(random_) for _ in range(n)).capitalize() + "."


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as the real one, of nonsense."""
    folder = tmp_path_factory.mktemp("data")
    random_ = random.Random(7)
    paragraphs = [
        {"title": f"Article {i}", "text": " ".join(_sentence(random_, random_.randint(5, 14)) for _ in range(6))}
        for i in range(400)
    ]
    passages = []
    for i in range(300):
        answer = f"{_word(random_)} {random_.randint(10, 99)}"
        text = f"{_sentence(random_, 9)} {_sentence(random_, 8)[:-1]} is {answer}, {_sentence(random_, 6)}"
        passages.append({"title": f"Topic {i}", "question": f"what is {_word(random_)}", "answers": [answer], "passage": text})
    for name, rows in (("wiki_paragraphs", paragraphs), ("nq_passages", passages)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder
