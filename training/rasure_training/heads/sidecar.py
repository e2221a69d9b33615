"""Heads as a GGUF file beside their model; docs/kv-budgets.md lists its keys."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFType, GGUFWriter
from torch import Tensor

from ..gguf_model import GgufFile


def write_sidecar(
    path: Path, base: GgufFile, name: str, values: Tensor, sinks: int, window: int, training: dict[str, Any]
) -> None:
    """values [n_layer, n_kv_head]: the larger, the more a head needs everything; trained with these sinks and this window."""
    partial = path.with_name(path.name + ".partial")
    writer = GGUFWriter(partial, base.value("general.architecture"))
    writer.add_type(GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_string("adapter.type", "heads")
    writer.add_string("rasure.adapter.fingerprint", base.fingerprint())
    writer.add_uint32("rasure.heads.sinks", sinks)
    writer.add_uint32("rasure.heads.window", window)
    writer.add_string("rasure.adapter.training", json.dumps(training, sort_keys=True, ensure_ascii=False))
    writer.add_tensor("heads", np.ascontiguousarray(values.float().numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(partial, path)
