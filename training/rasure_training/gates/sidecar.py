"""Gates as a GGUF file beside their model, and back; docs/kv-budgets.md lists its keys."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFType, GGUFWriter, dequantize, quantize
from torch import Tensor

from ..gguf_model import GgufFile
from .forms import Gates


def named(gates: Gates) -> Iterator[tuple[str, Tensor]]:
    """The tensors by their names in the file."""
    for layer in range(len(gates.first)):
        yield f"blk.{layer}.gate.0.weight", gates.first[layer]
        yield f"blk.{layer}.gate.0.bias", gates.first_bias[layer]
    for layer in range(len(gates.second)):
        yield f"blk.{layer}.gate.1.weight", gates.second[layer]
        yield f"blk.{layer}.gate.1.bias", gates.second_bias[layer]
    shared = gates.form in ("tied", "rows")
    for layer in range(len(gates.out_bias)):
        prefix = "" if shared else f"blk.{layer}."
        if len(gates.out) > 0:
            yield f"{prefix}gate.out.weight", gates.out[layer]
        yield f"{prefix}gate.out.bias", gates.out_bias[layer]


def _is_quantised(name: str) -> bool:
    return name.endswith(("gate.0.weight", "gate.1.weight"))


def write_sidecar(
    path: Path, base: GgufFile, name: str, gates: Gates, scope: str, budget: int, length: int, training: dict[str, Any]
) -> None:
    """budget: entries of a stream in training; length: tokens of a text then."""
    partial = path.with_name(path.name + ".partial")
    writer = GGUFWriter(partial, base.value("general.architecture"))
    writer.add_type(GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_string("adapter.type", "gates")
    writer.add_string("rasure.adapter.fingerprint", base.fingerprint())
    writer.add_string("rasure.gates.form", gates.form)
    writer.add_string("rasure.gates.scope", scope)
    if len(gates.first) > 0:
        writer.add_uint32("rasure.gates.width", len(gates.first_bias[0]))
    writer.add_uint32("rasure.gates.budget", budget)
    writer.add_uint32("rasure.gates.length", length)
    writer.add_string("rasure.adapter.training", json.dumps(training, sort_keys=True, ensure_ascii=False))
    for tensor_name, tensor in named(gates):
        values = np.ascontiguousarray(tensor.detach().float().numpy())
        if _is_quantised(tensor_name):
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(tensor_name, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor_name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(partial, path)


def load_weights(path: Path, gates: Gates) -> None:
    """Puts what the file holds, as the runtime reads it, into gates of the same form."""
    tensors = {t.name: torch.from_numpy(dequantize(t.data, t.tensor_type).copy()) for t in GGUFReader(path).tensors}
    with torch.no_grad():
        for name, tensor in named(gates):
            tensor.copy_(tensors.pop(name).view_as(tensor))
    assert not tensors, f"{path}: no gates of this form: {sorted(tensors)}"
