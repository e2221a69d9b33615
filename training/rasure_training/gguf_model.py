"""A GGUF file as hyper-parameters and float32 tensors.

Key and tensor names are llama.cpp's. Every weight is dequantised to float32 by gguf-py, so that what is computed from a
`GgufModel` is the float truth of that very file, not of the model it was quantised from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize

from .files import sha256

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")

# Gemma 3 alternates five layers of sliding window attention with one of full attention.
GEMMA3_PATTERN = 6
# Gemma 3 27B alone scales its attention by d / n_head instead of the head dimension; llama.cpp knows it by its layers.
GEMMA3_27B_LAYERS = 62


# FNV-1a with 64 bits (http://www.isthe.com/chongo/tech/comp/fnv/).
FNV_OFFSET = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3
FINGERPRINT_BYTES = 256  # of each tensor


class ModelError(Exception):
    """The file is not a model that this package can run; the message says why."""


@dataclass(frozen=True)
class Config:
    """Hyper-parameters. Lengths are in elements, windows and contexts in tokens."""

    arch: str
    n_layer: int
    d_model: int
    d_ffn: int
    n_head: int
    n_kv_head: int
    head_dim: int
    n_vocab: int
    n_ctx: int
    norm_eps: float
    rope_base: float
    rope_base_local: float  # of layers with a sliding window
    rope_dim: int  # leading elements of a head that are rotated
    rope_factor: float  # linear scaling: positions are divided by it (not in layers with a sliding window)
    sliding_window: int  # 0: every layer attends to everything before it

    @property
    def rope_neox(self) -> bool:
        """True: pairs are (i, i + rope_dim / 2). False: (2i, 2i + 1), as llama files have their q and k rows permuted."""
        return self.arch != "llama"

    @property
    def is_gemma(self) -> bool:
        return self.arch == "gemma3"

    @property
    def attention_scale(self) -> float:
        if self.is_gemma and self.n_layer == GEMMA3_27B_LAYERS:
            return 1.0 / math.sqrt(self.d_model / self.n_head)
        return 1.0 / math.sqrt(self.head_dim)

    def is_local(self, layer: int) -> bool:
        """Whether `layer` sees only the last `sliding_window` positions, its own included."""
        return self.sliding_window > 0 and layer % GEMMA3_PATTERN != GEMMA3_PATTERN - 1


class GgufFile:
    """A GGUF file: metadata by key, tensors by name, dequantised when asked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ModelError(f"{self.path}: no such file")
        try:
            self._reader = GGUFReader(self.path)
        except (ValueError, KeyError, IndexError) as error:
            raise ModelError(f"{self.path}: not a readable GGUF file: {error}") from error
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}

    def value(self, key: str, default: Any = None) -> Any:
        """The value of `key`; `default` where the file has none; an error where there is no default either."""
        field = self._reader.get_field(key)
        if field is not None:
            return field.contents()
        if default is None:
            raise ModelError(f"{self.path}: the key {key} is missing")
        return default

    def tensor_names(self) -> list[str]:
        return list(self._tensors)

    def tensor(self, name: str) -> torch.Tensor:
        """Tensor `name` in float32, outermost dimension first: a matrix is [rows = outputs, columns = inputs]."""
        if name not in self._tensors:
            raise ModelError(f"{self.path}: the tensor {name} is missing")
        tensor = self._tensors[name]
        return torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))

    def tensor_shape(self, name: str) -> tuple[int, ...]:
        """The shape of tensor `name` as `tensor` gives it, without reading it."""
        if name not in self._tensors:
            raise ModelError(f"{self.path}: the tensor {name} is missing")
        return tuple(int(n) for n in reversed(self._tensors[name].shape))

    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell this model from others without reading it whole.

        FNV-1a, 64 bits, over each tensor in the order of the file: its name, its ggml type as 4 little-endian bytes, its
        dimensions in ggml's order as 8 little-endian bytes each, and the first 256 bytes of its data (or all, if fewer).
        """
        state = FNV_OFFSET
        for tensor in self._reader.tensors:
            dimensions = b"".join(int(n).to_bytes(8, "little") for n in tensor.shape)
            data = tensor.data.reshape(-1).view(np.uint8)[:FINGERPRINT_BYTES].tobytes()
            for byte in tensor.name.encode() + int(tensor.tensor_type).to_bytes(4, "little") + dimensions + data:
                state = (state ^ byte) * FNV_PRIME % 2**64
        return f"{state:016x}"

    def sha256(self) -> str:
        """SHA-256 of the file's bytes in hexadecimal."""
        return sha256(self.path)


@dataclass(frozen=True)
class GgufModel:
    file: GgufFile
    config: Config
    tensors: dict[str, torch.Tensor]  # every tensor of the file, float32


def read_config(file: GgufFile) -> Config:
    """Hyper-parameters of `file`, with llama.cpp's defaults for the keys that may be left out."""
    arch = file.value("general.architecture")
    if arch not in ARCHITECTURES:
        raise ModelError(f"{file.path}: architecture {arch} is not one of {', '.join(ARCHITECTURES)}")

    def value(name: str, default: Any = None) -> Any:
        return file.value(f"{arch}.{name}", default)

    d_model, n_head = value("embedding_length"), value("attention.head_count")
    head_dim = value("attention.key_length", d_model // n_head)
    if value("attention.value_length", head_dim) != head_dim:
        raise ModelError(f"{file.path}: keys and values of different lengths are not supported")
    scaling = value("rope.scaling.type", "none")
    if scaling not in ("none", "linear"):
        raise ModelError(f"{file.path}: rope scaling {scaling} is not supported")
    if value("final_logit_softcapping", 0.0) != 0.0:
        raise ModelError(f"{file.path}: soft-capped logits are not supported")
    return Config(
        arch=arch,
        n_layer=value("block_count"),
        d_model=d_model,
        d_ffn=value("feed_forward_length"),
        n_head=n_head,
        n_kv_head=value("attention.head_count_kv", n_head),
        head_dim=head_dim,
        n_vocab=len(file.value("tokenizer.ggml.tokens")),
        n_ctx=value("context_length"),
        norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_base=value("rope.freq_base", 10000.0),
        rope_base_local=value("rope.freq_base_swa", 10000.0),
        rope_dim=value("rope.dimension_count", head_dim),
        rope_factor=value("rope.scaling.factor") if scaling == "linear" else 1.0,
        sliding_window=value("attention.sliding_window", 0) if arch == "gemma3" else 0,
    )


def load_model(path: str | Path) -> GgufModel:
    """Reads the model at `path` whole: four bytes of memory a weight."""
    file = GgufFile(path)
    return GgufModel(file, read_config(file), {name: file.tensor(name) for name in file.tensor_names()})
