"""What learns and what does not; tails; losses."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import engine_of, random_tokens

from rasure_training.eraser.engine import Engine
from rasure_training.eraser.loss import LossOptions, kl_by_token, leak_penalty, probe_loss
from rasure_training.eraser.tails import greedy, make_tail, score
from rasure_training.gguf_model import GgufModel

N, SPAN = 48, (36, 44)  # near the end, where layers with a sliding window still see it


def asked_loss(engine: Engine, method: str) -> torch.Tensor:
    context = engine.read(random_tokens(N))
    tail = make_tail([([3, 4, 5], [[6, 7, 8]])])
    with torch.no_grad():
        clean = score(engine, engine.erase(context, [SPAN], "exact"), tail)[0][0]
    method_ = score(engine, engine.erase(context, [SPAN], method), tail)[0][0]
    return probe_loss(clean, method_, tail.branches[0][0][1], LossOptions()).total


@pytest.mark.parametrize(("kind", "method"), [("steer", "steer"), ("bridge", "bridge"), ("bridge", "bridge+shift")])
def test_gradient_reaches_the_adapter_alone(any_model: GgufModel, kind: str, method: str) -> None:
    engine = engine_of(any_model, kind)
    asked_loss(engine, method).backward()
    assert all(not weight.requires_grad and weight.grad is None for weight in engine.model.weights.values())
    for name, b in engine.lora.b.items():
        assert b.grad is not None, name
        assert b.grad.abs().max() > 0, name
    # A gets gradient only through B, which is zero yet.
    assert all(a.grad.abs().max() == 0 for a in engine.lora.a.values())


def test_no_module_is_left_out(llama: GgufModel) -> None:
    """Seven matrices a layer, and of the last layer k and v."""
    engine = engine_of(llama, "steer")
    modules = {name.split(".")[2] for name in engine.lora.b if name.startswith("blk.0.")}
    assert len(modules) == 7
    last = {name.split(".")[2] for name in engine.lora.b if name.startswith(f"blk.{llama.config.n_layer - 1}.")}
    assert last == {"attn_k", "attn_v"}


@pytest.mark.parametrize(("kind", "method"), [("steer", "steer:full"), ("bridge", "bridge")])
def test_the_gradient_is_that_of_the_loss(llama: GgufModel, kind: str, method: str) -> None:
    """Against a difference quotient along the gradient, with some of a random direction."""
    engine = engine_of(llama, kind, zero=False)
    asked_loss(engine, method).backward()
    parameters = engine.lora.parameters()
    generator = torch.Generator().manual_seed(9)
    length = sum(p.grad.square().sum() for p in parameters).sqrt()
    noise = [torch.randn(p.shape, generator=generator) for p in parameters]
    noise_length = sum(n.square().sum() for n in noise).sqrt()
    direction = [p.grad / length + n / noise_length for p, n in zip(parameters, noise, strict=True)]
    slope = sum((p.grad * d).sum().item() for p, d in zip(parameters, direction, strict=True))
    step = 1e-2

    def moved(by: float) -> float:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p += by * d
            value = asked_loss(engine, method).item()
            for p, d in zip(parameters, direction, strict=True):
                p -= by * d
        return value

    assert abs(slope) > 1e-4
    assert (moved(step) - moved(-step)) / (2 * step) == pytest.approx(slope, rel=0.02)


def test_a_few_steps_lower_the_loss(llama: GgufModel) -> None:
    engine = engine_of(llama, "bridge")
    optimizer = torch.optim.AdamW(engine.lora.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = asked_loss(engine, "bridge")
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_tail_is_several_questions_at_once(any_model: GgufModel) -> None:
    """Each branch scores as if it had been asked alone."""
    engine = engine_of(any_model, "bridge")
    rows = engine.erase(engine.read(random_tokens(N)), [SPAN], "drop")
    probes = [([3, 4, 5], [[6, 7, 8], [9, 10]]), ([11, 12], [[13]])]
    with torch.no_grad():
        together = score(engine, rows, make_tail(probes))
        for (stem, answers), scores in zip(probes, together, strict=True):
            for answer, found in zip(answers, scores, strict=True):
                alone = score(engine, rows, make_tail([(stem, [answer])]))[0][0]
                assert found.shape == (len(answer), engine.model.config.n_vocab)
                torch.testing.assert_close(found, alone, atol=2e-4, rtol=0)


def test_greedy_is_the_likeliest_path(llama: GgufModel) -> None:
    engine = engine_of(llama, "bridge")
    rows = engine.read(random_tokens(N))
    answer = greedy(engine, rows, [3, 4], 5, ends=set())
    with torch.no_grad():
        scores = score(engine, rows, make_tail([([3, 4], [answer])]))[0][0]
    assert scores.argmax(-1).tolist() == answer
    assert answer[1] != answer[0]
    assert greedy(engine, rows, [3, 4], 5, ends={answer[1]}) == answer[:2]


def test_losses() -> None:
    p = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
    q = torch.tensor([[0.25, 0.75], [0.9, 0.1]]).log()
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert kl_by_token(p, q).tolist() == pytest.approx([expected, 0.0], abs=1e-6)
    answer = torch.tensor([0, 0])
    loss = probe_loss(p, q, answer, LossOptions(kl=1.0, first_kl=2.0, nll=3.0))
    nll = -(math.log(0.25) + math.log(0.9)) / 2
    assert loss.total.item() == pytest.approx(expected / 2 + 2 * expected + 3 * nll, rel=1e-5)
    assert loss.leak is None


def test_leak_penalty_has_one_side() -> None:
    clean = torch.tensor([[0.5, 0.5]]).log()
    above, below = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.2, 0.8]]).log()
    erased = torch.tensor([0])
    options = LossOptions(kl=0.0, leak=1.0)
    leaking = probe_loss(clean, above, erased, options, (clean, above, erased))
    silent = probe_loss(clean, below, erased, options, (clean, below, erased))
    assert leaking.total.item() == pytest.approx(math.log(0.8 / 0.5), rel=1e-5)
    assert silent.total.item() == 0.0
    assert silent.leak == pytest.approx(math.log(0.2 / 0.5), rel=1e-5)
    q = torch.tensor(-2.0, requires_grad=True)
    leak_penalty(torch.tensor(-1.0), q).backward()
    assert q.grad == 0.0
