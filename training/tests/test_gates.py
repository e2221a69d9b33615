"""Retention gates: forms, losses, the gated model, what is evicted, files, and runs on a tiny model."""

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
from rasure_training.gates.config import GatesConfig, parse_config
from rasure_training.gates.evict import Rule, keep, scores
from rasure_training.gates.forms import FORMS, Gates
from rasure_training.gates.golden import decisions
from rasure_training.gates.loss import BLOCK, Divergence, capacity, lifetime_loss, lifetimes, soft_cache
from rasure_training.gates.model import GatedModel
from rasure_training.gates import static
from rasure_training.gates.sidecar import load_weights, named, write_sidecar
from rasure_training.gates.train import Trainer
from rasure_training.gguf_model import GgufModel, load_model
from rasure_training.reference import Reference
from rasure_training.runs import ConfigError, TrainingError, load_toml
from rasure_training.world import World

CONFIG = Path(__file__).with_name("tiny_gates.toml")
SHIPPED = Path(__file__).resolve().parents[1] / "configs"
MODEL = model_path("tiny-llama")


def make_gates(form: str, model: GgufModel, bias: float = 4.0) -> Gates:
    c = model.config
    return Gates(form, c.n_layer, c.n_kv_head, c.d_model, 32, 32, bias, 3)


# ----------------------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize("form", FORMS)
def test_what_gates_give(llama: GgufModel, form: str) -> None:
    gates = make_gates(form, llama)
    x = torch.randn(7, llama.config.d_model, generator=torch.Generator().manual_seed(1))
    for layer in range(llama.config.n_layer):
        lambdas = gates(layer, x)
        assert lambdas.shape == (llama.config.n_kv_head, 7)
        assert (lambdas <= 0).all() and lambdas.dtype == torch.float32
    assert (gates(0, x).std() > 0) == (form != "constant")


def test_what_is_tied(llama: GgufModel) -> None:
    c = llama.config
    sizes = {form: {name: tuple(t.shape) for name, t in named(make_gates(form, llama))} for form in FORMS}
    assert sizes["tied"]["gate.out.weight"] == (1, 32) and sizes["tied"]["gate.out.bias"] == (1,)
    assert sizes["rows"]["gate.out.weight"] == (c.n_kv_head, 32) and sizes["rows"]["gate.out.bias"] == (c.n_kv_head,)
    assert sizes["untied"]["blk.1.gate.out.weight"] == (c.n_kv_head, 32) and "gate.out.weight" not in sizes["untied"]
    assert set(sizes["constant"]) == {f"blk.{layer}.gate.out.bias" for layer in range(c.n_layer)}


def test_long_lives_are_told_apart(llama: GgufModel) -> None:
    gates = make_gates("constant", llama, 18.0)
    assert gates(0, torch.zeros(1, llama.config.d_model))[0, 0].item() == pytest.approx(-1.523e-8, rel=1e-3)


# ---------------------------------------------------------------------------------------------------- losses


def test_the_soft_cache_is_a_sum_of_powers() -> None:
    lambdas = torch.tensor([[-0.1, -0.5, -2.0], [0.0, 0.0, 0.0]])
    held = soft_cache(lambdas, torch.tensor([2, 0]))
    assert held[0, 0].item() == pytest.approx(math.exp(-0.2) + math.exp(-0.5) + 1.0)
    assert held[1].tolist() == [3.0, 1.0] and held[0, 1].item() == 1.0


@pytest.mark.parametrize("scope", ["global", "head"])
def test_the_capacity_loss_is_the_formula(scope: str) -> None:
    lambdas = -torch.rand(4, 9, generator=torch.Generator().manual_seed(2)) * 0.3
    budget, found = 2, []
    for t in range(9):
        held = [sum(math.exp(lambdas[s, i].item() * (t - i)) for i in range(t + 1)) for s in range(4)]
        if scope == "global":
            found.append((sum(held) - budget * 4) / max(1.0, t * 4 - budget * 4))
        else:
            found += [(h - budget) / max(1.0, t - budget) for h in held]
    positive = [f for f in found if f > 0]
    assert capacity(lambdas, budget, scope, torch.arange(9)).item() == pytest.approx(sum(positive) / len(positive), rel=1e-5)
    assert capacity(lambdas, 9, scope, torch.arange(9)).item() == 0.0


def test_the_divergence_is_that_of_all_scores_at_once() -> None:
    generator = torch.Generator().manual_seed(4)
    n, n_vocab = 2 * BLOCK + 3, 50
    hidden, wanted = torch.randn(2, n, 16, generator=generator)
    head, share = torch.randn(n_vocab, 16, generator=generator), torch.rand(n, generator=generator).softmax(0)
    labels = torch.randint(n_vocab, (n,), generator=generator)
    hidden.requires_grad_()
    scores, of_model = hidden @ head.T, (wanted @ head.T).log_softmax(-1)
    kl = (F.kl_div(scores.log_softmax(-1), of_model, reduction="none", log_target=True).sum(-1) * share).sum()
    nll = (F.cross_entropy(scores, labels, reduction="none") * share).sum()
    (expected,) = torch.autograd.grad(3.0 * 0.5 * (kl + nll), hidden)
    loss, *parts = Divergence.apply(hidden, wanted, labels, share, head)
    (found,) = torch.autograd.grad(3.0 * loss, hidden)
    torch.testing.assert_close(torch.stack((loss, *parts)), torch.stack((0.5 * (kl + nll), kl, nll)))
    torch.testing.assert_close(found, expected)
    assert not any(part.requires_grad for part in parts)


def test_lifetimes_are_read_off_the_attention() -> None:
    attention = torch.eye(8)[None].repeat(2, 1, 1)
    attention[1, 5, 2] = 0.5  # one head of the group looks back once
    ages, censored = lifetimes(attention, 2)
    assert ages[0].tolist() == [1, 1, 3, 1, 1, 1, 1, 1]
    assert censored[0].tolist() == [False] * 7 + [True]


def test_what_may_have_lived_longer_is_no_error() -> None:
    age, yes, no = torch.tensor([[4.0]]), torch.tensor([[True]]), torch.tensor([[False]])
    exact = torch.tensor([[math.log(0.5) / 4.0]])
    assert lifetime_loss(exact, age, no).item() == pytest.approx(0.0, abs=1e-6)
    longer, shorter = exact / 3.0, exact * 3.0
    assert lifetime_loss(longer, age, yes).item() == 0.0 < lifetime_loss(longer, age, no).item()
    assert lifetime_loss(shorter, age, yes).item() == pytest.approx(lifetime_loss(shorter, age, no).item())


# ----------------------------------------------------------------------------------------------------- model


def test_gates_that_forget_nothing_change_nothing(any_model: GgufModel) -> None:
    tokens = random_tokens(40)
    model = GatedModel(any_model, make_gates("constant", any_model, 40.0), torch.float32)
    reference = Reference(any_model).forward(tokens)
    for mode in ("soft", "watch"):
        with model.in_mode(mode):
            torch.testing.assert_close(model.forward(tokens), reference, atol=1e-4, rtol=1e-4)


def test_age_is_added_to_the_logits(llama: GgufModel) -> None:
    model = GatedModel(llama, make_gates("untied", llama, 1.0), torch.float32)
    c, n = llama.config, 6
    generator = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(heads, n, c.head_dim, generator=generator) for heads in (c.n_head, c.n_kv_head, c.n_kv_head))
    lambdas = -torch.rand(c.n_kv_head, n, generator=generator)
    out = model._attend_softly(q, k, v, lambdas, torch.ones(n, n, dtype=torch.bool).tril())
    for head in range(c.n_head):
        of = head // (c.n_head // c.n_kv_head)
        for t in range(n):
            logits = [(q[head, t] @ k[of, i]).item() * c.attention_scale + (t - i) * lambdas[of, i].item() for i in range(t + 1)]
            weights = torch.tensor(logits).softmax(0)
            torch.testing.assert_close(out[head, t], weights @ v[of, : t + 1], atol=1e-5, rtol=1e-4)


def test_evicting_nothing_changes_nothing(llama: GgufModel) -> None:
    tokens = random_tokens(50)
    model = GatedModel(llama, make_gates("tied", llama), torch.float32)
    all_of_it = model.forward_evicting(tokens, Rule("global", 50, 0, 0, 1), 16)
    torch.testing.assert_close(all_of_it, Reference(llama).forward(tokens), atol=1e-4, rtol=1e-4)
    some = model.forward_evicting(tokens, Rule("global", 12, 2, 1, 4), 16)
    torch.testing.assert_close(some[:16], all_of_it[:16], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(some[16:], all_of_it[16:], atol=1e-2)


# -------------------------------------------------------------------------------------------------- eviction


def entries(lambdas: list[list[float]], n: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [np.array(row, dtype=np.float32) for row in lambdas], [np.arange(n) for _ in lambdas]


def test_equal_lambdas_are_a_window() -> None:
    values, places = entries([[-0.5] * 20] * 3, 20)
    for scope in ("global", "head"):
        kept = keep(values, places, 19, Rule(scope, 7, 0, 0, 1))
        assert all(row.tolist() == [False] * 13 + [True] * 7 for row in kept)


def test_four_that_last_are_sinks() -> None:
    values, places = entries([[0.0] * 4 + [-0.5] * 16] * 2, 20)
    kept = keep(values, places, 19, Rule("global", 9, 0, 0, 1))
    assert all(row.nonzero()[0].tolist() == [0, 1, 2, 3, 15, 16, 17, 18, 19] for row in kept)


def test_one_stream_takes_what_the_floor_leaves() -> None:
    values, places = entries([[-1e-6] * 20, [-1.0] * 20, [-1.0] * 20], 20)
    kept = keep(values, places, 19, Rule("global", 8, 3, 0, 1))
    assert [int(row.sum()) for row in kept] == [18, 3, 3]
    assert kept[1].nonzero()[0].tolist() == [17, 18, 19]


def test_budgets_are_nested() -> None:
    random_ = random.Random(1)
    values, places = entries([[-random_.random() for _ in range(30)] for _ in range(4)], 30)
    small, large = (keep(values, places, 29, Rule("global", budget, 0, 2, 3)) for budget in (8, 15))
    assert all((~a | b).all() for a, b in zip(small, large, strict=True))
    assert [int(sum(row.sum() for row in kept)) for kept in (small, large)] == [32, 60]


def test_age_counts_from_the_newest() -> None:
    assert scores(np.array([-2.0], dtype=np.float32), np.array([4]), 4).tolist() == [-2.0]


def test_recorded_decisions_stay_as_they_are() -> None:
    assert decisions() == model_path("x").with_name("gates_kept.tsv").read_text()


# ------------------------------------------------------------------------------------------------------ runs


def load_config() -> GatesConfig:
    return load_toml(CONFIG, parse_config)


def trainer(config: GatesConfig, data: Path, out: Path) -> Trainer:
    out.mkdir(exist_ok=True)
    return Trainer(config, MODEL, data, out, World())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("form", FORMS)
def test_files(llama: GgufModel, tmp_path: Path, form: str) -> None:
    gates, again = make_gates(form, llama), make_gates(form, llama, 1.0)
    path = tmp_path / "gates.gguf"
    write_sidecar(path, load_model(MODEL).file, "a name", gates, "head", 12, 99, {"x": 1})
    load_weights(path, again)
    for (name, tensor), (_, other) in zip(named(gates), named(again), strict=True):
        torch.testing.assert_close(tensor, other, atol=1e-3 if name.endswith(("0.weight", "1.weight")) else 0, rtol=0)
    reader = GGUFReader(path)
    assert reader.get_field("rasure.gates.form").contents() == form
    assert reader.get_field("rasure.gates.budget").contents() == 12
    assert json.loads(reader.get_field("rasure.adapter.training").contents()) == {"x": 1}


@pytest.mark.parametrize("form, scope", [("tied", "global"), ("untied", "head"), ("constant", "global")])
def test_a_run_writes_its_files(data: Path, tmp_path: Path, form: str, scope: str) -> None:
    run = trainer(replace(load_config(), form=form, scope=scope), data, tmp_path)
    before = [p.detach().clone() for p in run.gates.parameters()]
    run.run(show=False)
    log = rows(tmp_path / "log.csv")
    assert [row["stage"] for row in log] == ["0", "0", "1", "1", "1", "2", "2"]
    assert all(float(row["lifetime"]) > 0 for row in log[:2]) and all(float(row["kl"]) > 0 for row in log[2:])
    assert float(log[2]["held"]) == pytest.approx(16, abs=6)  # where the warm start has put it
    assert {row["step"] for row in rows(tmp_path / "validation.csv")} == {"4", "7"}
    assert all(float(row["kl_evicted"]) > 0 for row in rows(tmp_path / "validation.csv"))
    assert all((p != old).any() for p, old in zip(run.gates.parameters(), before, strict=True))
    assert json.loads(GGUFReader(tmp_path / "tiny.gates.gguf").get_field("rasure.adapter.training").contents())["steps"] == 7
    assert "<svg" in (tmp_path / "gates.svg").read_text()


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(data: Path, tmp_path: Path) -> None:
    config = replace(load_config(), validate=0)
    whole = trainer(config, data, tmp_path / "whole")
    whole.run(show=False)
    stopped = trainer(config, data, tmp_path / "parts")
    for _ in range(3):
        stopped.do_step()
    stopped.save()
    stopped.do_step()  # lost: it comes after the checkpoint
    resumed = trainer(config, data, tmp_path / "parts")
    resumed.run(show=False)
    for a, b in zip(resumed.gates.parameters(), whole.gates.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_another_run_is_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    config = replace(load_config(), validate=0)
    trainer(config, data, tmp_path).save()
    with pytest.raises(TrainingError, match="another config"):
        trainer(replace(config, window=5), data, tmp_path).resume()


def test_two_processes_take_the_same_steps(data: Path, tmp_path: Path) -> None:
    command = [
        "-m",
        "rasure_training.gates",
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
    for key in ("kl", "lifetime", "held"):
        assert [float(row[key]) for row in one] == pytest.approx([float(row[key]) for row in two], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("smollm2_gates*.toml")), ids=lambda path: path.stem)
def test_shipped_configs(path: Path) -> None:
    assert load_toml(path, parse_config).name.startswith("smollm2-135m-instruct.gates")


@pytest.mark.parametrize(
    "change, says",
    [
        ({"form": "square"}, "form"), ({"scope": "world"}, "scope"), ({"dtype": "float16"}, "dtype"), ({"width": 33}, "width"),
        ({"stage_steps": [1]}, "one length"), ({"capacity_rows": 0.0}, "capacity_rows"), ({"budget": 5}, "budget"),
        ({"tasks": {"nonsense": 1.0}}, "nonsense"), ({"tasks": {}}, "all 0"), ({"more": 1}, "more"),
    ],
)  # fmt: skip
def test_bad_configs(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_config(tomllib.loads(CONFIG.read_text()) | change)


# ------------------------------------------------------------------------------------------- static allocation


def test_static_windows_are_as_long_as_the_streams_were(
    llama: GgufModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = llama.config
    lengths = [float(3 + 7 * i) for i in range(c.n_layer * c.n_kv_head)]
    outcomes, out = tmp_path / "outcomes.jsonl", tmp_path / "static.gguf"
    rows = ({"n_context": 100, "streams": [length + shift for length in lengths]} for shift in (-1.0, 1.0))
    outcomes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(sys, "argv", ["static", str(outcomes), "--model", str(MODEL), "--out", str(out)])
    assert static.main() == 0
    gates = Gates("constant", c.n_layer, c.n_kv_head, c.d_model, 0, 0, 0.0, 0)
    load_weights(out, gates)
    found = torch.cat([gates(layer, torch.zeros(1, c.d_model))[:, 0] for layer in range(c.n_layer)])
    assert found.tolist() == pytest.approx([-1.0 / length for length in lengths], rel=1e-4)


def test_static_allocation_of_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = tmp_path / "outcomes.jsonl"
    outcomes.write_text(json.dumps({"n_context": 100, "streams": [5]}) + "\n")
    monkeypatch.setattr(sys, "argv", ["static", str(outcomes), "--model", str(MODEL), "--out", str(tmp_path / "static.gguf")])
    assert static.main() == 1 and "1 streams" in capsys.readouterr().err
