"""Adapter files: round trip, refusals, fingerprints; and the way from PEFT."""

from __future__ import annotations

import json
import math
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import GOLDEN, model_path, random_lora, random_tokens
from safetensors.torch import save_file

from rasure_training.eraser.adapter_file import Adapter, AdapterError, read_adapter, read_header, write_adapter
from rasure_training.eraser.convert import convert, main, permute
from rasure_training.eraser.engine import Engine, Settings
from rasure_training.eraser.lora import MODULES, EraserModel
from rasure_training.gguf_model import GgufFile, GgufModel, load_model

# Of the models in tests/golden/data; the C runtime must find the same.
FINGERPRINTS = {
    "tiny-gemma3": "e153bbd385831a5e",
    "tiny-llama-linear": "a5cc6511c26d221f",
    "tiny-llama": "b68e6161351a116a",
    "tiny-qwen2": "7390134928b8dbb5",
    "tiny-qwen3": "3535a3de67ac50d9",
}

BLOCK = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 12: (256, 144),
         13: (256, 176), 14: (256, 210), 30: (1, 2)}  # fmt: skip


def fingerprint_by_hand(path: Path) -> str:
    """The fingerprint from the file's bytes, without gguf-py."""
    data = path.read_bytes()
    at = 0

    def number(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return value

    def text() -> bytes:
        nonlocal at
        n = number("Q")
        at += n
        return data[at - n : at]

    def skip(kind: int) -> int | None:
        if kind == 8:
            text()
        elif kind == 9:
            item, n = number("I"), number("Q")
            for _ in range(n):
                skip(item)
        else:
            return number({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}[kind])
        return None

    assert data[:4] == b"GGUF"
    at = 8
    n_tensors, n_keys = number("Q"), number("Q")
    alignment = 32
    for _ in range(n_keys):
        key = text()
        value = skip(number("I"))
        if key == b"general.alignment":
            alignment = value
    tensors = []
    for _ in range(n_tensors):
        name = text()
        dimensions = [number("Q") for _ in range(number("I"))]
        tensors.append((name, dimensions, number("I"), number("Q")))
    start = (at + alignment - 1) // alignment * alignment
    state = 0xCBF29CE484222325
    for name, dimensions, kind, offset in tensors:
        per_block, n_bytes = BLOCK[kind]
        size = math.prod(dimensions) // per_block * n_bytes
        hashed = name + struct.pack("<I", kind) + b"".join(struct.pack("<Q", n) for n in dimensions)
        for byte in hashed + data[start + offset : start + offset + min(256, size)]:
            state = ((state ^ byte) * 0x100000001B3) & (2**64 - 1)
    return f"{state:016x}"


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprints(name: str) -> None:
    assert GgufFile(model_path(name)).fingerprint() == FINGERPRINTS[name]
    assert fingerprint_by_hand(model_path(name)) == FINGERPRINTS[name]


def adapter_for(model: GgufModel, kind: str = "bridge") -> Adapter:
    settings = Settings(kind, 64, 4, 16 if kind == "bridge" else 0)
    lora = random_lora(EraserModel(model))
    return Adapter(settings, lora, model.file.fingerprint(), "An adapter", "apache-2.0", {"steps": 3, "why": "ä"})


@pytest.mark.parametrize(("a_type", "b_type"), [("f32", "f32"), ("q8_0", "f16"), ("f16", "f16")])
def test_round_trip(any_model: GgufModel, tmp_path: Path, a_type: str, b_type: str) -> None:
    written = adapter_for(any_model)
    path = tmp_path / "adapter.gguf"
    assert write_adapter(path, any_model.file, written, a_type, b_type) == path.stat().st_size
    read = read_adapter(path, any_model.file)
    assert replace(read, lora=written.lora) == written
    assert (read.lora.rank, read.lora.alpha) == (4, 8.0)
    tolerance = {"f32": 0.0, "f16": 1e-3, "q8_0": 1e-2}
    for name in written.lora.a:
        for part, kind in (("a", a_type), ("b", b_type)):
            before, after = getattr(written.lora, part)[name].detach(), getattr(read.lora, part)[name]
            assert (before - after).abs().max() <= tolerance[kind] * before.abs().max(), (name, part)


def test_what_a_file_says(llama: GgufModel, tmp_path: Path) -> None:
    path = tmp_path / "adapter.gguf"
    write_adapter(path, llama.file, adapter_for(llama, "steer"))
    header = read_header(path)
    assert (header.arch, header.settings) == ("llama", Settings("steer", 64, 4, 0))
    assert re.fullmatch("[0-9a-f]{16}", header.fingerprint)
    from gguf import GGUFReader

    reader = GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    a, b = tensors["blk.0.ffn_down.weight.lora_a"], tensors["blk.0.ffn_down.weight.lora_b"]
    assert (a.tensor_type.name, b.tensor_type.name) == ("Q8_0", "F16")
    # ggml's order: A is {inputs, rank}, B is {rank, outputs}.
    assert (a.shape.tolist(), b.shape.tolist()) == ([llama.config.d_ffn, 4], [4, llama.config.d_model])
    assert not any(name.startswith("blk.1.") and "attn_k" not in name and "attn_v" not in name for name in tensors)


def test_refusals(llama: GgufModel, tmp_path: Path) -> None:
    path = tmp_path / "adapter.gguf"
    adapter = adapter_for(llama)
    write_adapter(path, llama.file, adapter)
    with pytest.raises(AdapterError, match="made for another model"):
        read_adapter(path, GgufFile(model_path("tiny-llama-linear")))
    with pytest.raises(AdapterError, match="general.architecture is llama, not qwen2"):
        read_adapter(path, GgufFile(model_path("tiny-qwen2")))
    with pytest.raises(AdapterError, match="no such file"):
        read_adapter(tmp_path / "none.gguf", llama.file)
    with pytest.raises(AdapterError, match="general.type"):
        read_adapter(model_path("tiny-llama"), llama.file)
    (tmp_path / "broken.gguf").write_bytes(path.read_bytes()[:2000])
    with pytest.raises(AdapterError, match="not a readable GGUF file"):
        read_adapter(tmp_path / "broken.gguf", llama.file)
    name = "blk.0.attn_q"
    adapter.lora.b[name] = torch.zeros(adapter.lora.b[name].shape[0] - 1, 4)
    write_adapter(path, llama.file, adapter)
    with pytest.raises(AdapterError, match=r"blk\.0\.attn_q\.weight\.lora_b is \(255, 4\) and should be \(256, 4\)"):
        read_adapter(path, llama.file)


# ------------------------------------------------------------------------------------------------------ PEFT

PEFT_NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def peft_folder(folder: Path, base: GgufFile, rank: int = 16, **changes: object) -> dict[str, torch.Tensor]:
    """A PEFT adapter of random weights, as the library saves it; gives its tensors."""
    folder.mkdir(exist_ok=True)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 32, "lora_dropout": 0.0, "bias": "none",
        "target_modules": sorted(name.split(".")[1] for name in PEFT_NAMES.values()), "use_dora": False,
        "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None,
        "base_model_name_or_path": "some/model",
    } | changes  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    n_layer = base.value(f"{base.value('general.architecture')}.block_count")
    for layer in range(n_layer):
        for ours in MODULES:
            n_out, n_in = base.tensor_shape(f"blk.{layer}.{ours}.weight")
            name = f"base_model.model.model.layers.{layer}.{PEFT_NAMES[ours]}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, n_in, generator=generator)
            tensors[f"{name}.lora_B.weight"] = torch.randn(n_out, rank, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    return tensors


def run_convert(monkeypatch: pytest.MonkeyPatch, *args: object) -> int:
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, args)])
    return main()


def test_peft_adapter_of_qwen3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published KVEraser adapter has this form: Qwen3, rank 16, alpha 32, all seven matrices."""
    base = GgufFile(model_path("tiny-qwen3"))
    tensors = peft_folder(tmp_path / "peft", base)
    out = tmp_path / "out.gguf"
    arguments = (tmp_path / "peft", base.path, out, "--kind", "steer", "--window", 64, "--sinks", 4)
    assert run_convert(monkeypatch, *arguments, "--a-type", "f32", "--b-type", "f32") == 0
    adapter = read_adapter(out, base)
    assert (adapter.lora.rank, adapter.lora.alpha) == (16, 32.0)
    assert adapter.settings == Settings("steer", 64, 4, 0)
    assert len(adapter.lora.a) == 7 + 2  # two layers, of the last one k and v
    for ours, theirs in PEFT_NAMES.items():
        name = f"base_model.model.model.layers.0.{theirs}"
        assert torch.equal(adapter.lora.a[f"blk.0.{ours}"], tensors[f"{name}.lora_A.weight"])
        assert torch.equal(adapter.lora.b[f"blk.0.{ours}"], tensors[f"{name}.lora_B.weight"])
    engine = Engine(EraserModel(load_model(base.path)), adapter.settings, adapter.lora)
    context = engine.read(random_tokens(40))
    steered = engine.erase(context, [(10, 20)], "steer")
    assert (steered.cache.v[1][:, 10:20] - context.cache.v[1][:, 10:20]).abs().max() > 0.1


def test_rows_of_llama_are_permuted() -> None:
    """As llama.cpp's converter does with q and k: (head, half, pair) becomes (head, pair, half)."""
    b = torch.arange(16.0)[:, None]
    assert permute(b, 2)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]


def test_peft_adapter_of_llama(llama: GgufModel, tmp_path: Path) -> None:
    """B (A x) with permuted rows is the permutation of B (A x): q and k alone, with their own numbers of heads."""
    tensors = peft_folder(tmp_path / "peft", llama.file)
    adapter = convert(tmp_path / "peft", llama.file, Settings("bridge", 64, 4, 16), "n", "l")
    config = llama.config
    for ours, heads in (("attn_q", config.n_head), ("attn_k", config.n_kv_head), ("attn_v", None), ("ffn_up", None)):
        theirs = tensors[f"base_model.model.model.layers.0.{PEFT_NAMES[ours]}.lora_B.weight"]
        expected = theirs if heads is None else permute(theirs, heads)
        assert torch.equal(adapter.lora.b[f"blk.0.{ours}"], expected), ours


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 8}, "which is not of rank 8"),
        ({"peft_type": "IA3"}, "peft_type is IA3, not LORA"),
        ({"use_dora": True}, "use_dora is not supported"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern is not supported"),
        ({"bias": "all"}, "bias all is not supported"),
        ({"lora_alpha": None}, "lora_alpha is None, not a number"),
        ({"target_modules": ["q_proj", "lm_head"]}, "target module lm_head"),
        ({"target_modules": "all-linear"}, "target_modules is not a list"),
        ({"target_modules": ["q_proj"]}, "is not of a target module"),
    ],
)
def test_bad_peft_configurations_are_named(llama: GgufModel, tmp_path: Path, changes: dict, message: str) -> None:
    peft_folder(tmp_path / "peft", llama.file, **changes) if "r" not in changes else _with_rank(tmp_path / "peft", llama, changes)
    with pytest.raises(AdapterError, match=message):
        convert(tmp_path / "peft", llama.file, Settings("bridge", 64, 4, 16), "n", "l")


def _with_rank(folder: Path, model: GgufModel, changes: dict) -> None:
    """Tensors of rank 16 beside a configuration that says otherwise."""
    peft_folder(folder, model.file)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(next(iter(t))), "has no whole pair for"),
        (lambda t: t.update({"base_model.model.model.layers.7.mlp.up_proj.lora_A.weight": torch.zeros(16, 4)}), "only 2 layers"),
        (lambda t: t.update({"base_model.model.lm_head.lora_A.weight": torch.zeros(16, 4)}), "not part of a LoRA"),
        (lambda t: t.update({"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": torch.zeros(16, 4)}), "and should be"),
    ],
)
def test_bad_peft_tensors_are_named(llama: GgufModel, tmp_path: Path, change, message: str) -> None:  # noqa: ANN001
    tensors = peft_folder(tmp_path / "peft", llama.file)
    change(tensors)
    save_file(tensors, tmp_path / "peft" / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=message):
        convert(tmp_path / "peft", llama.file, Settings("bridge", 64, 4, 16), "n", "l")


def test_a_peft_adapter_for_another_base_is_refused(llama: GgufModel, tmp_path: Path, monkeypatch, capsys) -> None:  # noqa: ANN001
    peft_folder(tmp_path / "peft", GgufFile(model_path("tiny-qwen3")))
    arguments = (tmp_path / "peft", llama.file.path, tmp_path / "o.gguf", "--kind", "steer", "--window", 64, "--sinks", 4)
    assert run_convert(monkeypatch, *arguments) == 1
    assert "lora_a is (16, 128) and should be (16, 256)" in capsys.readouterr().err
    assert not (tmp_path / "o.gguf").exists()
    (tmp_path / "peft" / "adapter_config.json").unlink()
    assert run_convert(monkeypatch, *arguments) == 1
    assert "adapter_config.json" in capsys.readouterr().err


def test_the_command_runs(tmp_path: Path) -> None:
    base = GOLDEN / "tiny-qwen3.gguf"
    peft_folder(tmp_path / "peft", GgufFile(base))
    command = [sys.executable, "-m", "rasure_training.eraser.convert", str(tmp_path / "peft"), str(base),
               str(tmp_path / "out.gguf"), "--kind", "bridge", "--window", "32", "--sinks", "2"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{(tmp_path / 'out.gguf').stat().st_size} bytes, bridge, rank 16" in done.stdout
