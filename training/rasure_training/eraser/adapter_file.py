"""An eraser adapter as a GGUF file beside its base model.

Tensors are named as llama.cpp names LoRA: `blk.N.attn_q.weight.lora_a` is A [rank, inputs], `.lora_b` is B [outputs, rank]
(numpy's order; GGUF lists dimensions the other way round). Keys:

  general.type, general.architecture, general.name, general.license   "adapter", the base's, free text, free text
  adapter.type, adapter.lora.alpha   "lora", float32
  rasure.adapter.kind                "steer" or "bridge"
  rasure.adapter.fingerprint         of the base model: 16 lower-case hexadecimal digits (`GgufFile.fingerprint`)
  rasure.adapter.window, .sinks      uint32: an erase pass sees the last `window` and the first `sinks` rows before the span
  rasure.adapter.bridge_tokens       uint32: how many tokens a bridge re-encodes; 0 for steer
  rasure.adapter.training            JSON: how it came about
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFType, GGUFWriter
from gguf.quants import dequantize, quantize

from ..gguf_model import GgufFile, ModelError, read_config
from .engine import Settings
from .lora import Lora, adapter_shapes

Type = GGMLQuantizationType
TYPES = {"q8_0": Type.Q8_0, "f16": Type.F16, "f32": Type.F32}
Q8_0_BLOCK = 32
KINDS = ("steer", "bridge")


class AdapterError(Exception):
    """The file is no adapter for this model; the message says why."""


@dataclass(frozen=True)
class Adapter:
    settings: Settings
    lora: Lora
    fingerprint: str
    name: str
    license: str
    training: dict[str, Any] = field(default_factory=dict)


def write_adapter(path: Path, base: GgufFile, adapter: Adapter, a_type: str = "q8_0", b_type: str = "f16") -> int:
    """Writes `adapter`, made for `base`, and gives the size of the file. An A whose inputs are no multiple of 32 becomes F16
    where Q8_0 is asked for."""
    settings, lora = adapter.settings, adapter.lora
    partial = path.with_name(path.name + ".partial")
    writer = GGUFWriter(partial, base.value("general.architecture"))
    writer.add_type(GGUFType.ADAPTER)
    writer.add_name(adapter.name)
    writer.add_license(adapter.license)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", lora.alpha)
    writer.add_string("rasure.adapter.kind", settings.kind)
    writer.add_string("rasure.adapter.fingerprint", base.fingerprint())
    writer.add_uint32("rasure.adapter.window", settings.window)
    writer.add_uint32("rasure.adapter.sinks", settings.sinks)
    writer.add_uint32("rasure.adapter.bridge_tokens", settings.bridge_tokens if settings.kind == "bridge" else 0)
    writer.add_string("rasure.adapter.training", json.dumps(adapter.training, sort_keys=True, ensure_ascii=False))
    for name, tensor in lora.state().items():
        values = np.ascontiguousarray(tensor.float().numpy())
        qtype = TYPES[a_type if name.endswith("_a") else b_type]
        if qtype == Type.Q8_0 and values.shape[1] % Q8_0_BLOCK:
            qtype = Type.F16
        writer.add_tensor(name, quantize(values, qtype), raw_dtype=qtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(partial, path)
    return path.stat().st_size


@dataclass(frozen=True)
class Header:
    """What an adapter file says of itself."""

    arch: str
    name: str
    license: str
    alpha: float
    settings: Settings
    fingerprint: str
    training: dict[str, Any]


def _open(path: Path) -> GGUFReader:
    if not path.is_file():
        raise AdapterError(f"{path}: no such file")
    try:
        return GGUFReader(path)
    except (ValueError, KeyError, IndexError) as error:
        raise AdapterError(f"{path}: not a readable GGUF file: {error}") from error


def _header(path: Path, reader: GGUFReader) -> Header:
    def value(key: str) -> Any:
        found = reader.get_field(key)
        if found is None:
            raise AdapterError(f"{path}: the key {key} is missing")
        return found.contents()

    for key, wanted in (("general.type", "adapter"), ("adapter.type", "lora")):
        if value(key) != wanted:
            raise AdapterError(f"{path}: {key} is {value(key)}, not {wanted}")
    kind = value("rasure.adapter.kind")
    if kind not in KINDS:
        raise AdapterError(f"{path}: rasure.adapter.kind is {kind}, which is none of {', '.join(KINDS)}")
    try:
        training = json.loads(value("rasure.adapter.training"))
    except ValueError as error:
        raise AdapterError(f"{path}: rasure.adapter.training is not JSON: {error}") from error
    window, sinks, tokens = (value(f"rasure.adapter.{key}") for key in ("window", "sinks", "bridge_tokens"))
    return Header(
        value("general.architecture"), value("general.name"), value("general.license"), float(value("adapter.lora.alpha")),
        Settings(kind, window, sinks, tokens), value("rasure.adapter.fingerprint"), training,
    )  # fmt: skip


def read_header(path: Path) -> Header:
    return _header(path, _open(path))


def read_adapter(path: Path, base: GgufFile) -> Adapter:
    """The adapter in `path`, checked against its base model. Weights come back as float32."""
    reader = _open(path)
    header = _header(path, reader)
    if header.arch != base.value("general.architecture"):
        raise AdapterError(f"{path}: general.architecture is {header.arch}, not {base.value('general.architecture')}")
    if header.fingerprint != base.fingerprint():
        raise AdapterError(f"{path}: was made for another model than {base.path.name}")
    tensors = {
        tensor.name: torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        for tensor in reader.tensors
    }
    lora = build_lora(tensors, header.alpha, base, str(path))
    return Adapter(header.settings, lora, header.fingerprint, header.name, header.license, header.training)


def build_lora(tensors: dict[str, torch.Tensor], alpha: float, base: GgufFile, where: str) -> Lora:
    """Pairs of matrices under the names of an adapter file, checked against the base model's shapes."""
    try:
        n_layer = read_config(base).n_layer
        possible = adapter_shapes_of(base)
    except ModelError as error:
        raise AdapterError(str(error)) from error
    a: dict[str, torch.Tensor] = {}
    b: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"(blk\.\d+\.\w+)\.weight\.lora_([ab])", name)
        if not match or match[1] not in possible:
            raise AdapterError(
                f"{where}: {name} belongs to no matrix that an adapter can sit on (the model has {n_layer} layers)"
            )
        (a if match[2] == "a" else b)[match[1]] = tensor
    if not a:
        raise AdapterError(f"{where}: there are no matrices in it")
    for name in [*a, *b]:
        if name not in a or name not in b:
            raise AdapterError(f"{where}: {name} has only one of lora_a and lora_b")
    rank = next(iter(a.values())).shape[0]
    for name in a:
        n_out, n_in = possible[name]
        for part, tensor, wanted in (("a", a[name], (rank, n_in)), ("b", b[name], (n_out, rank))):
            if tuple(tensor.shape) != wanted:
                raise AdapterError(f"{where}: {name}.weight.lora_{part} is {tuple(tensor.shape)} and should be {wanted}")
    return Lora(rank, alpha, a, b)


def adapter_shapes_of(base: GgufFile) -> dict[str, tuple[int, int]]:
    shapes = {name: base.tensor_shape(name) for name in base.tensor_names()}
    return adapter_shapes(read_config(base), shapes)
