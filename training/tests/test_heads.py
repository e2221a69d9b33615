"""Masks over heads: the distribution, the mixed attention, the samples, and runs on a tiny model."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import model_path, random_tokens
from gguf import GGUFReader

from rasure_training.eraser.documents import Encoder
from rasure_training.gguf_model import GgufModel, load_model
from rasure_training.heads import ablate, chance, masks
from rasure_training.heads.config import HeadsConfig, load_config, parse_config
from rasure_training.heads.model import HeadsModel, Mix, Streaming, attend_locally
from rasure_training.heads.samples import TASKS, Source, draw_sample
from rasure_training.heads.train import Trainer
from rasure_training.reference import Reference
from rasure_training.runs import ConfigError, TrainingError
from rasure_training.text import load_split
from rasure_training.world import World

CONFIG = Path(__file__).with_name("tiny_heads.toml")
SHIPPED = Path(__file__).resolve().parents[1] / "configs"
MODEL = model_path("tiny-llama")


# ----------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize(
    "log_alpha, mean, one, zero", [(4.0, 0.976, 0.917, 0.004), (0.0, 0.50, 0.17, 0.17), (-2.0, 0.14, 0.03, 0.60)]
)
def test_the_distribution_of_a_mask(log_alpha: float, mean: float, one: float, zero: float) -> None:
    z = masks.draw(torch.full((200_000,), log_alpha), torch.Generator().manual_seed(1))
    assert z.mean().item() == pytest.approx(mean, abs=0.01)
    assert (z == 1).float().mean().item() == pytest.approx(one, abs=0.01)
    assert (z == 0).float().mean().item() == pytest.approx(zero, abs=0.01)
    above_zero = torch.sigmoid(torch.tensor(log_alpha - masks.TEMPERATURE * math.log(-masks.LOW / masks.HIGH))).item()
    assert (z > 0).float().mean().item() == pytest.approx(above_zero, abs=0.005)


@pytest.mark.parametrize("share, kept", [(0.0, 90), (0.3, 63), (0.7, 27), (0.8, 18), (0.9, 9), (1.0, 0)])
def test_choice_rounds_as_meant(share: float, kept: int) -> None:
    values = torch.arange(90).float().view(30, 3)
    full = masks.choose(values, share)
    assert full.sum().item() == kept
    assert torch.equal(full, values >= 90 - kept)


def test_choice_among_equals() -> None:
    assert masks.choose(torch.tensor([[0.5, 1.0], [0.5, 0.5]]), 0.5).tolist() == [[True, True], [False, False]]


def test_multipliers_push_towards_the_target() -> None:
    z = torch.full((4, 2), 0.9, requires_grad=True)
    linear, quadratic = torch.tensor(-1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    masks.penalty(z, 0.5, linear, quadratic).backward()
    gap = 0.1 - 0.5
    assert linear.grad.item() == pytest.approx(gap)  # too few local heads: maximising makes it smaller still,
    assert quadratic.grad.item() == pytest.approx(gap**2)
    assert z.grad[0, 0].item() == pytest.approx((1.0 - 2 * 2.0 * gap) / 8)  # and masks fall where this is above 0


def test_the_table_is_what_the_runtime_reads() -> None:
    assert masks.table(torch.tensor([[0.25, 1.0], [0.0, 0.5]])) == "0.250000\t1.000000\n0.000000\t0.500000\n"


# ----------------------------------------------------------------------------------------------------- model


def test_what_a_local_head_sees() -> None:
    mask = Streaming(2, 3).mask(7)
    assert mask[6].tolist() == [True, True, False, False, True, True, True]
    assert mask[2].tolist() == [True, True, True, False, False, False, False]


def test_full_masks_change_nothing(any_model: GgufModel) -> None:
    tokens = random_tokens(40)
    ones = torch.ones(any_model.config.n_layer, any_model.config.n_kv_head)
    model = HeadsModel(any_model)
    with model.mixed(Mix(ones, Streaming(2, 8))):
        mixed = model.forward(tokens)
    torch.testing.assert_close(mixed, Reference(any_model).forward(tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("n, sinks, window", [(40, 2, 8), (41, 8, 8), (64, 20, 16), (5, 2, 16), (70, 1, 1), (33, 0, 4)])
def test_blocks_see_what_the_mask_shows(n: int, sinks: int, window: int) -> None:
    generator, streaming = torch.Generator().manual_seed(n), Streaming(sinks, window)
    q, k, v = (torch.randn(heads, n, 16, generator=generator, requires_grad=True) for heads in (6, 2, 2))
    masked = F.scaled_dot_product_attention(q[None], k[None], v[None], streaming.mask(n), scale=0.25, enable_gqa=True)[0]
    wanted = torch.autograd.grad(masked.sin().sum(), (q, k, v))
    found = attend_locally(q, k, v, 0.25, streaming)
    torch.testing.assert_close(found, masked, atol=1e-5, rtol=1e-5)
    for gradient, other in zip(torch.autograd.grad(found.sin().sum(), (q, k, v)), wanted, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-5)


def test_no_masks_are_a_window(llama: GgufModel) -> None:
    tokens = random_tokens(40)
    zeros = torch.zeros(llama.config.n_layer, llama.config.n_kv_head)
    model, streaming = HeadsModel(llama), Streaming(2, 8)
    with model.mixed(Mix(zeros, streaming)):
        mixed = model.forward(tokens)
    masked = Reference(llama).forward(tokens, visible_mask=streaming.mask(40))
    torch.testing.assert_close(mixed, masked, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mixed, Reference(llama).forward(tokens), atol=1e-2)


def test_the_full_part_may_come_from_another_pass(llama: GgufModel) -> None:
    tokens = random_tokens(30)
    model, streaming = HeadsModel(llama), Streaming(2, 8)
    with model.keeping() as full:
        plain = model.forward(tokens)
    ones = torch.ones(llama.config.n_layer, llama.config.n_kv_head)
    with model.mixed(Mix(ones, streaming, full)):
        torch.testing.assert_close(model.forward(tokens), plain, atol=1e-5, rtol=1e-5)


def test_masks_get_a_gradient(llama: GgufModel) -> None:
    z = torch.full((llama.config.n_layer, llama.config.n_kv_head), 0.5, requires_grad=True)
    model = HeadsModel(llama)
    with model.mixed(Mix(z, Streaming(1, 4))):
        model.forward(random_tokens(30)).square().mean().backward()
    assert (z.grad != 0).all()


# --------------------------------------------------------------------------------------------------- samples


@pytest.fixture(scope="module")
def source(data: Path) -> Source:
    return Source(Encoder(load_model(MODEL).file), load_split(data, "train"), "train", 5.0)


@pytest.mark.parametrize("task", list(TASKS))
def test_samples(source: Source, task: str) -> None:
    for seed in range(5):
        sample = TASKS[task](source, random.Random(seed), 400)
        assert 200 < len(sample.tokens) <= 400
        assert sample == TASKS[task](source, random.Random(seed), 400)
        assert set(sample.weights) <= {0.0, 1.0, 5.0}
        assert (5.0 in sample.weights) == (task != "text")


def test_only_answers_count_in_some(source: Source) -> None:
    for task in TASKS:
        every, answers = (draw_sample(source, random.Random(7), {task: 1.0}, share, 400) for share in (0.0, 1.0))
        assert every.task == answers.task == task
        assert (1.0 in answers.weights) == (task == "text") and (5.0 in answers.weights) == (task != "text")
    drawn = [draw_sample(source, random.Random(seed), {"needles": 1.0}, 0.5, 400) for seed in range(40)]
    assert 10 < sum(1.0 not in sample.weights for sample in drawn) < 30


def test_what_counts_most_can_be_looked_up(source: Source) -> None:
    sample = TASKS["copies"](source, random.Random(3), 400)
    first = sample.weights.index(5.0)
    answer = sample.tokens[first:]
    assert any(sample.tokens[i : i + len(answer)] == answer for i in range(first - len(answer)))


# ------------------------------------------------------------------------------------------------------ runs


def trainer(config: HeadsConfig, data: Path, out: Path) -> Trainer:
    out.mkdir(exist_ok=True)
    return Trainer(config, MODEL, data, out, World())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("objective", ["prulong", "duo"])
def test_a_run_writes_its_files(data: Path, tmp_path: Path, objective: str) -> None:
    config = replace(load_config(CONFIG), objective=objective, initial=4.0 if objective == "prulong" else 1.0, lr=0.3)
    run = trainer(config, data, tmp_path)
    run.run(show=False)
    log = rows(tmp_path / "log.csv")
    assert [row["step"] for row in log] == [str(i + 1) for i in range(6)]
    assert float(log[0]["target"]) == 0.0 and float(log[-1]["target"]) == 0.5
    found = {(row["step"], row["mask"]) for row in rows(tmp_path / "validation.csv")}
    assert found == {(step, mask) for step in ("3", "6") for mask in ("full", "local", "learned", "random")}
    table = [line.split("\t") for line in (tmp_path / "tiny.heads.tsv").read_text().splitlines()]
    assert len(table) == run.model.config.n_layer and all(len(line) == run.model.config.n_kv_head for line in table)
    assert all(0.0 <= float(value) <= 1.0 for line in table for value in line)
    reader = GGUFReader(tmp_path / "tiny.heads.gguf")
    assert reader.get_field("rasure.adapter.fingerprint").contents() == run.base.fingerprint()
    assert [reader.get_field(f"rasure.heads.{key}").contents() for key in ("sinks", "window")] == [config.sinks, config.window]
    assert json.loads(reader.get_field("rasure.adapter.training").contents())["steps"] == 6
    assert reader.tensors[0].name == "heads" and np.allclose(reader.tensors[0].data, run.table_values().numpy())
    assert run.values.detach().std() > 0 or objective == "duo"
    assert "<svg" in (tmp_path / "masks.svg").read_text()


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(data: Path, tmp_path: Path) -> None:
    config = replace(load_config(CONFIG), validate=0)
    whole = trainer(config, data, tmp_path / "whole")
    whole.run(show=False)
    stopped = trainer(config, data, tmp_path / "parts")
    for _ in range(3):
        stopped.do_step()
    stopped.save()
    stopped.do_step()  # lost: it comes after the checkpoint
    resumed = trainer(config, data, tmp_path / "parts")
    resumed.run(show=False)
    torch.testing.assert_close(resumed.values, whole.values)
    torch.testing.assert_close(resumed.multipliers, whole.multipliers)


def test_another_run_is_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    config = replace(load_config(CONFIG), validate=0)
    trainer(config, data, tmp_path).save()
    with pytest.raises(TrainingError, match="another config"):
        trainer(replace(config, window=9), data, tmp_path).resume()


def test_two_processes_take_the_same_steps(data: Path, tmp_path: Path) -> None:
    command = [
        "-m",
        "rasure_training.heads",
        "--config",
        CONFIG,
        "--model",
        MODEL,
        "--data",
        data,
        "--set",
        "validate=0",
        "--out",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*map(str, [*torchrun, *command, tmp_path / "two"])], check=True, capture_output=True, env=environment, timeout=300
    )
    subprocess.run([sys.executable, *map(str, [*command, tmp_path / "one"])], check=True, capture_output=True, env=environment)
    one, two = (rows(tmp_path / name / "log.csv") for name in ("one", "two"))
    assert [row["task_loss"] for row in one] == [row["task_loss"] for row in two]
    assert (tmp_path / "one" / "tiny.heads.tsv").read_text() == (tmp_path / "two" / "tiny.heads.tsv").read_text()


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("smollm2_heads*.toml")), ids=lambda path: path.stem)
def test_shipped_configs(path: Path) -> None:
    assert load_config(path).name.startswith("smollm2-135m-instruct.heads")


@pytest.mark.parametrize(
    "change, says",
    [
        ({"objective": "other"}, "objective"), ({"dtype": "float16"}, "dtype"), ({"steps": "many"}, "steps"),
        ({"tasks": {"nonsense": 1.0}}, "nonsense"), ({"tasks": {}}, "all 0"), ({"local_share": 1}, "local_share"), ({"more": 1}, "more"),
    ],
)  # fmt: skip
def test_bad_configs(change: dict[str, object], says: str) -> None:
    data = tomllib.loads(CONFIG.read_text())
    with pytest.raises(ConfigError, match=says):
        parse_config(data | change)


# -------------------------------------------------------------------------------------------- single-head ablation


def test_ablation_ranks_by_what_a_head_is_worth(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "heads.gguf"
    monkeypatch.setattr(sys, "argv", ["ablate", "--config", str(CONFIG), "--model", str(MODEL), "--data", str(data),
                                      "--sequences", "2", "--out", str(out)])  # fmt: skip
    assert ablate.main() == 0
    found = torch.from_numpy(next(t for t in GGUFReader(out).tensors if t.name == "heads").data.copy())
    trainer = Trainer(load_config(CONFIG), MODEL, data, tmp_path, World())
    z = torch.ones(trainer.values.shape)
    z[-1, 0] = 0.0
    gaps = []
    for i in range(2):
        sample = trainer.draw_sample("train", f"train {i} 0")
        losses = []
        for mask in (z, torch.ones_like(z)):
            with torch.no_grad(), trainer.model.mixed(Mix(mask, trainer.streaming)):
                losses.append(trainer.next_token_loss(trainer.model.forward(torch.tensor(sample.tokens[:-1])), sample).item())
        gaps.append(losses[0] - losses[1])
    assert found.shape == z.shape and found[-1, 0].item() == pytest.approx(sum(gaps) / 2, abs=1e-6)
    assert found.abs().max() > 0


def test_heads_that_see_everything_lose_nothing(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(replace(load_config(CONFIG), window=200), MODEL, data, tmp_path, World())
    assert ablate.increases(trainer, 1).abs().max() < 1e-6


def test_heads_by_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["chance", str(MODEL), "--seeds", "1,2", "--out", str(tmp_path)])
    assert chance.main() == 0
    config = load_model(MODEL).config
    first, second = ((tmp_path / f"heads_chance_{seed}.tsv").read_text().splitlines() for seed in (1, 2))
    assert first != second and len(first) == config.n_layer
    assert all(len(line.split("\t")) == config.n_kv_head for line in first)
    monkeypatch.setattr(sys, "argv", ["chance", str(tmp_path / "nothing.gguf"), "--out", str(tmp_path)])
    assert chance.main() == 1
