"""The erase passes against what they must equal: other methods, recomputation, the untouched cache."""

from __future__ import annotations

import pytest
import torch
from conftest import engine_of, model_path, random_tokens
from gguf import GGUFReader

from rasure_training.eraser.engine import Engine, MethodError, Rows, echoes, parse_method
from rasure_training.eraser.lora import EraserModel
from rasure_training.gguf_model import GgufModel, load_model
from rasure_training.reference import Cache, Reference

N, SPAN = 48, (20, 29)
TOLERANCE = 2e-4  # float32 sums in another order


def difference(a: Rows, b: Rows, begin: int = 0, end: int | None = None) -> float:
    assert torch.equal(a.cache.positions, b.cache.positions)
    return max(
        (x[:, begin:end] - y[:, begin:end]).abs().max().item()
        for x, y in zip(a.cache.k + a.cache.v, b.cache.k + b.cache.v, strict=True)
    )


def test_float32_model_is_the_reference(any_model: GgufModel) -> None:
    tokens = random_tokens(30)
    assert torch.equal(EraserModel(any_model).forward(tokens), Reference(any_model).forward(tokens))


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-linear", "tiny-qwen2", "tiny-qwen3", "tiny-gemma3"])
def test_float32_model_gives_the_golden_distributions(name: str) -> None:
    reader = GGUFReader(model_path(name).with_name(f"{name}.golden.gguf"))
    tokens = torch.tensor(reader.get_field("case.0.tokens").contents())
    (golden,) = (tensor.data for tensor in reader.tensors if tensor.name == "case.0.full_logprob")
    model = EraserModel(load_model(model_path(name)))
    logprob = model.logits(model.forward(tokens)).log_softmax(-1)
    torch.testing.assert_close(logprob, torch.from_numpy(golden.copy()), atol=1e-4, rtol=0)


def test_rows_only_writes_the_same_rows(any_model: GgufModel) -> None:
    model, tokens = Reference(any_model), random_tokens(30)
    whole, rows = Cache.empty(model.config), Cache.empty(model.config)
    model.forward(tokens, cache=whole)
    model.forward(tokens, cache=rows, rows_only=True)
    for a, b in zip(whole.k + whole.v, rows.k + rows.v, strict=True):
        assert torch.equal(a, b)


def test_zero_steer_with_full_prefix_changes_nothing(any_model: GgufModel) -> None:
    engine = engine_of(any_model, "steer")
    context = engine.read(random_tokens(N))
    steered = engine.erase(context, [SPAN], "steer:full")
    assert difference(steered, engine.erase(context, [SPAN], "none")) < TOLERANCE
    assert steered.next_position == N
    assert steered.reencoded == SPAN[1] - SPAN[0]


def test_steer_writes_the_span_alone(any_model: GgufModel) -> None:
    engine = engine_of(any_model, "steer", zero=False)
    context = engine.read(random_tokens(N))
    steered = engine.erase(context, [SPAN], "steer")
    assert difference(steered, context, 0, SPAN[0]) == 0
    assert difference(steered, context, SPAN[1]) == 0
    assert difference(steered, context, *SPAN) > 1e-3
    again = engine.erase(steered, [SPAN], "steer")
    assert difference(steered, again) == 0


def test_steer_does_not_see_the_suffix(llama: GgufModel) -> None:
    engine = engine_of(llama, "steer", zero=False)
    tokens = random_tokens(N)
    other = torch.cat((tokens[: SPAN[1]], random_tokens(N - SPAN[1], seed=2)))
    a, b = (engine.erase(engine.read(t), [SPAN], "steer:full") for t in (tokens, other))
    assert difference(a, b, *SPAN) < TOLERANCE


def test_zero_bridge_is_windowed_repair(any_model: GgufModel) -> None:
    engine = engine_of(any_model, "bridge")
    context = engine.read(random_tokens(N))
    bridged = engine.erase(context, [SPAN], "bridge:6")
    assert difference(bridged, engine.erase(context, [SPAN], "repair:6:windowed")) == 0
    assert difference(bridged, engine.erase(context, [SPAN], "drop")) > 1e-3


def test_bridge_of_nothing_is_drop(llama: GgufModel) -> None:
    engine = engine_of(llama, "bridge", zero=False)
    context = engine.read(random_tokens(N))
    dropped = engine.erase(context, [SPAN], "drop")
    assert difference(engine.erase(context, [SPAN], "bridge:0"), dropped) == 0
    # So it is where nothing follows the span.
    end = [(40, N)]
    assert difference(engine.erase(context, end, "bridge"), engine.erase(context, end, "drop")) == 0


def test_bridge_never_reads_the_span(llama: GgufModel) -> None:
    """Other tokens in the span: the same rows are written."""
    engine = engine_of(llama, "bridge", zero=False)
    tokens = random_tokens(N)
    other = tokens.clone()
    other[SPAN[0] : SPAN[1]] = random_tokens(SPAN[1] - SPAN[0], seed=5)
    first = SPAN[0]
    a, b = (engine.erase(engine.read(t), [SPAN], "bridge") for t in (tokens, other))
    assert difference(a, b, first, first + 6) < TOLERANCE
    assert difference(a, b, first + 6) > 1e-3  # the rest of the suffix still carries it


def test_bridge_sees_sinks_and_window_alone(llama: GgufModel) -> None:
    engine = engine_of(llama, "bridge", window=8, sinks=2, zero=False)
    context = engine.read(random_tokens(N))
    cache = Cache([k.clone() for k in context.cache.k], [v.clone() for v in context.cache.v], context.cache.positions)
    for rows in cache.k + cache.v:
        rows[:, 2 : SPAN[0] - 8] = 1e6
    a, b = (engine.erase(rows, [SPAN], "bridge") for rows in (context, Rows(cache, context.tokens, N)))
    assert difference(a, b, SPAN[0], SPAN[0] + 6) == 0


def test_a_window_of_0_is_everything(llama: GgufModel) -> None:
    """As the runtime reads it in an adapter's file."""
    all_of_it, wide = (engine_of(llama, "bridge", window=window, sinks=2) for window in (0, N))
    context = all_of_it.read(random_tokens(N))
    assert difference(all_of_it.erase(context, [SPAN], "bridge"), wide.erase(context, [SPAN], "bridge")) == 0


def test_whole_repair_in_a_short_context_is_a_recomputation(any_model: GgufModel) -> None:
    """Every suffix token re-encoded, with all rows in sight: a context that never held the span, with its positions."""
    engine = engine_of(any_model, "bridge")
    tokens = random_tokens(N)
    repaired = engine.erase(engine.read(tokens), [SPAN], "repair:100%")
    cache = Cache.empty(engine.model.config)
    positions = torch.cat((torch.arange(SPAN[0]), torch.arange(SPAN[1], N)))
    engine.model.forward(tokens[positions], positions, cache)
    expected = Rows(cache, tokens[positions], N)
    assert difference(repaired, expected) < TOLERANCE
    assert torch.equal(repaired.tokens, expected.tokens)


def test_exact_is_a_context_without_the_span(any_model: GgufModel) -> None:
    engine = engine_of(any_model, "bridge")
    tokens = random_tokens(N)
    spans = [(3, 7), SPAN, (29, 31), (46, N)]
    kept = torch.cat((tokens[:3], tokens[7:20], tokens[31:46]))
    exact = engine.erase(engine.read(tokens), spans, "exact")
    assert difference(exact, engine.read(kept)) < TOLERANCE
    assert exact.next_position == len(kept)


def test_shifted_key_of_the_first_layer_is_the_recomputed_one(any_model: GgufModel) -> None:
    """Keys of layer 0 depend on token and position alone."""
    engine = engine_of(any_model, "bridge")
    context = engine.read(random_tokens(N))
    spans = [(3, 7), SPAN]
    shifted, exact = engine.erase(context, spans, "shift"), engine.erase(context, spans, "exact")
    assert torch.equal(shifted.cache.positions, torch.arange(N - 13))
    assert torch.equal(shifted.tokens, exact.tokens)
    assert shifted.next_position == exact.next_position
    torch.testing.assert_close(shifted.cache.k[0], exact.cache.k[0], atol=1e-5, rtol=0)
    dropped = engine.erase(context, spans, "drop")
    assert (dropped.cache.k[0] - exact.cache.k[0]).abs().max() > 1e-2


@pytest.mark.parametrize("method", ["bridge:6", "repair:6", "bridge:6+shift"])
def test_near_holes(llama: GgufModel, method: str) -> None:
    """Windows after two holes overlap: no token is re-encoded twice, and none comes from an erased token."""
    engine = engine_of(llama, "bridge", zero=False)
    tokens = random_tokens(N)
    spans = [(10, 13), (15, 18)]
    other = tokens.clone()
    other[10:13], other[15:18] = random_tokens(3, seed=5), random_tokens(3, seed=6)
    a, b = (engine.erase(engine.read(t), spans, method) for t in (tokens, other))
    assert a.reencoded == 8  # two tokens between the holes, six after the second
    assert difference(a, b, 0, 18) < TOLERANCE


@pytest.mark.parametrize("method", ["repair:100%+shift", "adaptive:1000"])
def test_a_suffix_encoded_again_behind_a_closed_gap_is_exact(llama: GgufModel, method: str) -> None:
    engine = engine_of(llama, "bridge")
    context = engine.read(random_tokens(N))
    spans = [(10, 13), (15, 18)]
    exact, again = engine.erase(context, spans, "exact"), engine.erase(context, spans, method)
    assert torch.equal(again.cache.positions, exact.cache.positions)
    assert difference(again, exact, 0, N - 6) < TOLERANCE
    open_gap = engine.erase(context, spans, "repair:100%")
    assert (open_gap.cache.v[-1] - exact.cache.v[-1]).abs().max() > 1e-2


def test_adaptive_encodes_what_echoes(llama: GgufModel) -> None:
    engine = engine_of(llama, "bridge")
    tokens = torch.arange(N) % 500
    tokens[30] = tokens[12]  # alone: 1, 0.8, 0.64, 0.512, 0.4096, 0.328, then below the bound
    context = engine.read(tokens)
    words = set(tokens[10:14].tolist())
    shifted, adapted = engine.erase(context, [(10, 14)], "shift"), engine.erase(context, [(10, 14)], "adaptive:3")
    taken = echoes(shifted.tokens, words, shifted.holes, 3)
    assert taken.tolist() == [10, 11, 12, 26, 27, 28, 29, 30, 31]
    assert adapted.reencoded == len(taken)
    others = [i for i in range(len(adapted)) if i not in taken.tolist()]
    for new, old in zip(adapted.cache.k + adapted.cache.v, shifted.cache.k + shifted.cache.v, strict=True):
        assert torch.equal(new[:, others], old[:, others])
    assert difference(adapted, shifted, 26, 32) > TOLERANCE
    exact = engine.erase(context, [(10, 14)], "exact")
    assert difference(adapted, exact, 0, len(exact)) < difference(shifted, exact, 0, len(exact))


def test_refill_is_the_filler_in_place(llama: GgufModel) -> None:
    engine = engine_of(llama, "steer")
    tokens = random_tokens(N)
    filled = tokens.clone()
    filled[SPAN[0] : SPAN[1]] = torch.tensor([5, 6, 7] * 3)
    a, b = engine.erase(engine.read(tokens), [SPAN], "refill"), engine.read(filled)
    assert difference(a, b, 0, SPAN[1]) < TOLERANCE


def test_steer_then_repair_sees_the_steered_rows(llama: GgufModel) -> None:
    engine = engine_of(llama, "steer", zero=False)
    context = engine.read(random_tokens(N))
    steered = engine.erase(context, [SPAN], "steer")
    both = engine.erase(context, [SPAN], "steer+repair:4")
    assert len(both) == N
    assert difference(both, steered, 0, SPAN[1]) == 0
    assert difference(both, steered, SPAN[1], SPAN[1] + 4) > 1e-3
    assert difference(both, steered, SPAN[1] + 4) == 0


def test_a_context_is_left_as_it_was(llama: GgufModel) -> None:
    engine = engine_of(llama, "bridge", zero=False)
    context = engine.read(random_tokens(N))
    before = [rows.clone() for rows in context.cache.k + context.cache.v]
    for method in ("bridge+shift", "repair:15%", "exact", "drop", "refill"):
        engine.erase(context, [SPAN], method)
    for a, b in zip(before, context.cache.k + context.cache.v, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("method", ["none", "exact", "drop", "shift", "repair:4", "refill", "bridge", "bridge+shift"])
@pytest.mark.parametrize("span", [(0, 5), (43, 48), (0, 48), (7, 8)])
def test_spans_at_the_edges(llama: GgufModel, method: str, span: tuple[int, int]) -> None:
    engine = engine_of(llama, "bridge", zero=False)
    context = engine.read(random_tokens(N))
    rows = engine.erase(context, [span], method)
    kept = N if method in ("none", "refill") else N - (span[1] - span[0])
    assert len(rows) == len(rows.cache) == rows.cache.k[0].shape[1] == kept
    closed = method in ("exact", "shift", "bridge+shift")
    assert rows.next_position == (kept if closed else N)


@pytest.mark.parametrize("method", ["nothing", "repair", "repair:x", "drop:3", "bridge:full", "repair:0%", "repair:101%", ""])
def test_bad_methods_are_named(method: str) -> None:
    with pytest.raises(MethodError):
        parse_method(method)


def test_methods_need_their_adapter(llama: GgufModel) -> None:
    engine = engine_of(llama, "bridge")
    context = engine.read(random_tokens(N))
    with pytest.raises(MethodError, match="steer needs an adapter"):
        engine.erase(context, [SPAN], "steer")
    with pytest.raises(MethodError, match="bridge needs an adapter"):
        Engine(engine.model).erase(context, [SPAN], "bridge:4")


def taken_by(rows: Rows, shifted: Rows) -> list[int]:
    """Indices of the tokens that were encoded again behind a closed gap."""
    return [i for i in range(len(rows)) if not torch.equal(rows.cache.v[-1][:, i], shifted.cache.v[-1][:, i])]


def left(rows: Rows, exact: Rows) -> float:
    """How far all entries together are from exact."""
    pairs = zip(rows.cache.k + rows.cache.v, exact.cache.k + exact.cache.v, strict=True)
    return sum((a - b).square().sum().item() for a, b in pairs) ** 0.5


@pytest.mark.parametrize("method", ["blend:10%", "most:10%"])
def test_choices_by_deviation(llama: GgufModel, method: str) -> None:
    """They take what changes: with the same number of tokens from anywhere else, less is mended."""
    engine = engine_of(llama, "bridge")
    context = engine.read(random_tokens(N))
    spans = [(10, 13), (20, 21)]
    shifted, exact, rows = (engine.erase(context, spans, name) for name in ("shift", "exact", method))
    taken = taken_by(rows, shifted)
    assert len(taken) == rows.reencoded == 4
    assert taken[0] == 10  # what stood right behind the span
    elsewhere = torch.tensor([i for i in range(10, len(rows)) if i not in taken])
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        where = elsewhere[torch.randperm(len(elsewhere), generator=generator)[:4]].sort().values
        other = engine._reencode(shifted, where)
        assert left(rows, exact) < left(other, exact) < left(shifted, exact)


@pytest.mark.parametrize("bound", [0.3, 0.5])
def test_quiet_ends_where_nothing_changes_any_more(llama: GgufModel, bound: float) -> None:
    """From each hole on, up to the eighth token in a row that changes less than the bound."""
    engine = engine_of(llama, "bridge")
    context = engine.read(random_tokens(N))
    shifted, exact, rows = (engine.erase(context, [(10, 13), (20, 21)], name) for name in ("shift", "exact", f"quiet:{bound}"))
    pairs = zip(exact.cache.k + exact.cache.v, shifted.cache.k + shifted.cache.v, strict=True)
    change = torch.stack([((a - b).norm(dim=-1) / b.norm(dim=-1)).mean(0) for a, b in pairs]).mean(0)
    expected: set[int] = set()
    for hole in (10, 17):
        end = next((i for i in range(hole + 7, len(rows)) if (change[i - 7 : i + 1] < bound).all()), len(rows))
        expected |= set(range(hole, end))
    assert taken_by(rows, shifted) == sorted(expected)
    assert rows.reencoded == len(expected)
